package netmap

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// build makes the whole view anew from the values of all records, and is what View is tested
// against.
func (m *Map) build() *View {
	v := &View{Cluster: m.cluster}
	hosts := map[HostID]HostView{}
	var claims []claimant
	for _, id := range m.Origins() {
		if l := m.logs[id]; id == m.cluster {
			v.Decided, v.Generation = l.seq, l.life
			v.addDecided(l, hosts)
		} else {
			claims = append(claims, hostSays(id, l, hosts)...)
		}
	}
	for _, h := range hosts {
		v.Hosts = append(v.Hosts, h)
	}
	v.sortDecided()
	v.resolveDisputes(claims)
	return v
}

// addDecided adds the records of the ledger, unsorted.
func (v *View) addDecided(l *originLog, hosts map[HostID]HostView) {
	for k, e := range l.entries {
		switch n := e.decoded(k).(type) {
		case HostEntry:
			h := hosts[n.ID]
			h.ID, h.Entry = n.ID, n
			hosts[n.ID] = h
		case Network:
			v.Networks = append(v.Networks, n)
		case Subnet:
			v.Subnets = append(v.Subnets, n)
		case Block:
			v.Blocks = append(v.Blocks, n)
		case Claim:
			v.Claims = append(v.Claims, n)
		case Range:
			v.Ranges = append(v.Ranges, n)
		case StaticName:
			v.StaticNames = append(v.StaticNames, n)
		}
	}
}

func (v *View) sortDecided() {
	slices.SortFunc(v.Hosts, func(a, b HostView) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(v.Networks, func(a, b Network) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(v.Subnets, func(a, b Subnet) int { return netip.Prefix.Compare(a.Prefix, b.Prefix) })
	slices.SortFunc(v.Blocks, func(a, b Block) int { return netip.Prefix.Compare(a.Prefix, b.Prefix) })
	slices.SortFunc(v.Claims, func(a, b Claim) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(v.StaticNames, StaticName.Compare)
	slices.SortFunc(v.Ranges, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), netip.Prefix.Compare(a.Prefix, b.Prefix))
	})
}

// claimant is an announced endpoint and when its host announced it.
type claimant struct {
	EndpointView
	seq uint64
}

func hostSays(id HostID, l *originLog, hosts map[HostID]HostView) []claimant {
	var out []claimant
	names := map[EndpointID]*EndpointName{}
	for k, e := range l.entries {
		switch n := e.decoded(k).(type) {
		case HostFact:
			if k == HostFactKey(id) {
				h := hosts[id]
				h.ID, h.Fact = id, n
				hosts[id] = h
			}
		case Endpoint:
			out = append(out, claimant{EndpointView{Endpoint: n, Host: id}, e.seq})
		case EndpointName:
			names[n.Endpoint] = &n
		}
	}
	for i := range out {
		if n := names[out[i].ID]; n != nil {
			out[i].Name, out[i].Names = n.Name, n
		}
	}
	return out
}

func (c claimant) places() []place {
	var out []place
	for _, a := range []netip.Addr{c.V4, c.V6} {
		if a.IsValid() {
			out = append(out, place{c.Network, a})
		}
	}
	return out
}

// resolveDisputes divides announced endpoints into those that hold their addresses and
// those that lost one, by the rule on Dispute. Each address is decided independently, so
// the result does not depend on any order.
func (v *View) resolveDisputes(claims []claimant) {
	slices.SortFunc(claims, compareClaimants)
	holder := make(map[place]int, len(claims))
	disputed := false
	for i, c := range claims {
		for _, p := range c.places() {
			other, taken := holder[p]
			if taken {
				disputed = true
			}
			if !taken || v.wins(c, claims[other], p.addr) {
				holder[p] = i
			}
		}
	}
	lost := make([]bool, len(claims))
	if disputed {
		v.Disputes = disputes(claims, holder, lost)
	}
	held := make([]EndpointView, 0, len(claims))
	for i, c := range claims {
		if !lost[i] {
			held = append(held, c.EndpointView)
		}
	}
	v.endpoints = grouped(held)
}

// disputes lists every claim to a place that somebody else holds.
func disputes(claims []claimant, holder map[place]int, lost []bool) []Dispute {
	var out []Dispute
	for i, c := range claims {
		for _, p := range c.places() {
			if w := holder[p]; w != i {
				lost[i] = true
				out = append(out, Dispute{Network: p.network, Addr: p.addr, Winner: claims[w].EndpointView, Loser: c.EndpointView})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Dispute) int {
		if c := cmp.Compare(a.Network, b.Network); c != 0 {
			return c
		}
		return a.Addr.Compare(b.Addr)
	})
	return out
}

// wins reports whether a holds an address against b.
func (v *View) wins(a, b claimant, addr netip.Addr) bool {
	return v.beats(&announced{EndpointView: a.EndpointView, seq: a.seq}, &announced{EndpointView: b.EndpointView, seq: b.seq}, addr)
}

func compareClaimants(a, b claimant) int {
	if c := strings.Compare(string(a.ID), string(b.ID)); c != 0 {
		return c
	}
	return a.Host.Compare(b.Host)
}

func (e entry) decoded(k Key) any {
	if e.tomb {
		return nil
	}
	noun, _ := Decode(k, []byte(e.value))
	return noun
}
