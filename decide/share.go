package decide

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Share is what one host has of a subnet according to the facts. An address is in them once a
// container has it; until then it is counted as free.
type Share struct {
	Host   netmap.HostID
	Blocks int
	Claims int    // addresses held apart from blocks
	Used   uint64 // addresses of containers
	Free   uint64 // addresses of its blocks and claims that no container has; at most about 2^62
}

// Shares returns the shares of the hosts that own something in an area of a subnet, sorted by
// host id.
func Shares(view *netmap.View, subnet, area netip.Prefix) []Share {
	all := map[netmap.HostID]Share{}
	add := func(id netmap.HostID, change func(*Share)) {
		s := all[id]
		s.Host = id
		change(&s)
		all[id] = s
	}
	blocks := view.BlocksOf(subnet)
	for _, b := range blocks {
		if b.Prefix.Overlaps(area) {
			n := usable(view, subnet, netmap.Common(b.Prefix, area))
			add(b.Owner, func(s *Share) { s.Blocks++; s.Free = min(s.Free+n, netmap.MaxSize) })
		}
	}
	for _, c := range view.ClaimsOf(subnet) {
		if !area.Contains(c.Addr) {
			continue
		}
		if i := slices.IndexFunc(blocks, func(b netmap.Block) bool { return b.Prefix.Contains(c.Addr) }); i >= 0 {
			add(blocks[i].Owner, func(s *Share) { s.Free -= min(s.Free, 1) })
		}
		add(c.Owner, func(s *Share) { s.Claims++; s.Free++ })
	}
	network, _ := view.NetworkOf(subnet)
	for e := range view.EndpointsOf(network.ID) {
		for _, a := range []netip.Addr{e.V4, e.V6} {
			if area.Contains(a) {
				add(e.Host, func(s *Share) { s.Used++; s.Free -= min(s.Free, 1) })
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Share) int { return slices.Compare(a.Host[:], b.Host[:]) })
}

// usable returns how many addresses of an area of a subnet containers can have.
func usable(view *netmap.View, subnet, area netip.Prefix) uint64 {
	s, _ := view.Subnet(subnet)
	never := map[netip.Addr]bool{subnet.Addr(): true, s.Gateway: true}
	if subnet.Addr().Is4() {
		never[netmap.LastAddr(subnet)] = true
	}
	for _, a := range s.Reserved {
		never[a] = true
	}
	n := netmap.Size(area)
	for a := range never {
		if area.Contains(a) {
			n--
		}
	}
	return n
}

// byFree orders the hosts with most free addresses first.
func byFree(a, b Share) int {
	return cmp.Or(cmp.Compare(b.Free, a.Free), slices.Compare(a.Host[:], b.Host[:]))
}
