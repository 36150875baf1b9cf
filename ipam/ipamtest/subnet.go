package ipamtest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// EnsureSubnet implements ipam.Decisions.
func (h *Host) EnsureSubnet(ctx context.Context, r ipam.SubnetRequest) (s netmap.Subnet, err error) {
	err = h.decide(ctx, "wants subnet "+text(r.Want), func() error {
		if !r.Want.IsValid() {
			r.Want = h.l.auto(r)
		}
		s = h.l.subnets[r.Want]
		if !s.Prefix.IsValid() {
			s = netmap.Subnet{Prefix: r.Want, BlockBits: blockBits(r.Want)}
		}
		unused := !slices.ContainsFunc(slices.Collect(maps.Values(h.l.blocks)), func(b netmap.Block) bool { return b.Subnet == r.Want })
		if r.BlockBits != 0 && r.BlockBits != s.BlockBits && !unused {
			return netmap.Refuse(netmap.Conflict, "%s has blocks of /%d, not of /%d", s.Prefix, s.BlockBits, r.BlockBits)
		}
		for p := range h.l.subnets {
			if p != r.Want && p.Overlaps(r.Want) {
				return netmap.Refuse(netmap.Overlaps, "subnet %s overlaps %s", r.Want, p)
			}
		}
		if r.BlockBits != 0 {
			s.BlockBits = r.BlockBits
		}
		h.l.subnets[r.Want] = s
		if h.l.users[r.Want] == nil {
			h.l.users[r.Want] = map[netmap.HostID]bool{}
		}
		h.l.users[r.Want][h.id] = true
		return nil
	})
	return s, err
}

func text(p netip.Prefix) string {
	if !p.IsValid() {
		return "any"
	}
	return p.String()
}

// auto picks the first free subnet.
func (l *Ledger) auto(r ipam.SubnetRequest) netip.Prefix {
	for n := range 1 << 8 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32 + byte(n>>4), byte(n << 4), 0}), 20)
		if r.V6 {
			p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x57, 0, 0, 0, byte(n)}), 64)
		}
		taken := slices.Concat(slices.Collect(maps.Keys(l.subnets)), r.Avoid)
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p
		}
	}
	return netip.Prefix{}
}

// blockBits cuts a default subnet as the ledger does, and others into larger blocks.
func blockBits(p netip.Prefix) int {
	if p.Bits() == 20 {
		return 30
	}
	if p.Addr().Is6() && p.Bits() <= 104 {
		return min(p.Bits()+16, 112)
	}
	return p.Bits() + min(8, (p.Addr().BitLen()-p.Bits()+1)/2)
}

// UseSubnets implements ipam.Decisions. What changes nothing is not told.
func (h *Host) UseSubnets(ctx context.Context, r synced.Value[[]netip.Prefix]) error {
	return h.decide(ctx, "", func() error {
		for _, p := range slices.SortedFunc(maps.Keys(h.l.users), netip.Prefix.Compare) {
			if slices.Contains(r.Get(), p) || !h.l.users[p][h.id] {
				continue
			}
			delete(h.l.users[p], h.id)
			h.l.story = append(h.l.story, h.name+" releases subnet "+p.String())
			maps.DeleteFunc(h.l.blocks, func(_ netip.Prefix, b netmap.Block) bool { return b.Subnet == p && b.Owner == h.id })
			maps.DeleteFunc(h.l.claims, func(_ netip.Addr, c netmap.Claim) bool { return c.Subnet == p && c.Owner == h.id })
		}
		return nil
	})
}

// Uses are the subnets that the ledger counts this host among the users of, sorted.
func (h *Host) Uses() (out []string) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	for _, p := range slices.SortedFunc(maps.Keys(h.l.users), netip.Prefix.Compare) {
		if h.l.users[p][h.id] {
			out = append(out, p.String())
		}
	}
	return out
}

// Reserve implements ipam.Decisions.
func (h *Host) Reserve(ctx context.Context, p netip.Prefix, name string, a netip.Addr) (s netmap.Subnet, err error) {
	err = h.decide(ctx, fmt.Sprintf("reserves %s in %s as %s", a, p, name), func() error {
		s = h.l.subnets[p]
		s.Reserved = maps.Clone(s.Reserved)
		switch {
		case !s.Prefix.IsValid():
			return netmap.Refuse(netmap.Unknown, "there is no subnet %s", p)
		case name == ipam.GatewayName && !a.IsValid() && !s.Gateway.IsValid():
			s.Gateway = p.Addr().Next()
		case name == ipam.GatewayName && a.IsValid() && s.Gateway.IsValid() && a != s.Gateway:
			return netmap.Refuse(netmap.Conflict, "%s has the gateway %s, not %s", p, s.Gateway, a)
		case name == ipam.GatewayName && a.IsValid():
			s.Gateway = a
		case name != ipam.GatewayName:
			if s.Reserved == nil {
				s.Reserved = map[string]netip.Addr{}
			}
			s.Reserved[name] = a
		}
		h.l.subnets[p] = s
		return nil
	})
	return s, err
}
