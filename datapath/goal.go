package datapath

import (
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Goal returns what the kernel holds once Diff(have, want) is carried out: want itself, or
// with want.Keep everything of both; want wins for an address, MAC or port in both.
func Goal(have, want State) State {
	if !want.Keep {
		return want
	}
	goal := State{Keep: true}
	taken := map[string]bool{}
	for _, n := range want.Networks {
		for _, p := range n.Ports {
			taken[p.Name] = true
		}
	}
	for _, n := range want.Networks {
		old, _ := have.Network(n.VNI)
		goal.Networks = append(goal.Networks, keep(old, n, taken))
	}
	for _, old := range have.Networks {
		if _, ok := want.Network(old.VNI); !ok {
			goal.Networks = append(goal.Networks, keep(old, Network{Device: old.Device}, taken))
		}
	}
	goal.Sort()
	return goal
}

// keep returns want and what only have has, without entries that lead to a port which is now
// elsewhere.
func keep(have, want Network, taken map[string]bool) Network {
	out := Network{Device: want.Device}
	moved := map[string]bool{}
	for _, p := range have.Ports {
		moved[p.Name] = taken[p.Name]
	}
	for _, p := range want.Ports {
		delete(moved, p.Name)
	}
	out.Ports = union(have.Ports, want.Ports, func(b Bridged) string { return b.Name })
	out.Ports = slices.DeleteFunc(out.Ports, func(b Bridged) bool { return moved[b.Name] })
	out.Bridging = union(have.Bridging, want.Bridging, func(b Bridging) netmap.MAC { return b.MAC })
	out.Bridging = slices.DeleteFunc(out.Bridging, func(b Bridging) bool { return moved[b.Port] })
	out.FDB = union(have.FDB, want.FDB, func(t Tunnel) netmap.MAC { return t.MAC })
	out.Neighbours = union(have.Neighbours, want.Neighbours, func(n Neighbour) netip.Addr { return n.Addr })
	out.Flood = union(have.Flood, want.Flood, func(a netip.Addr) netip.Addr { return a })
	out.Sort()
	return out
}

func union[E any, K comparable](have, want []E, key func(E) K) []E {
	seen := make(map[K]bool, len(want))
	for _, e := range want {
		seen[key(e)] = true
	}
	out := slices.Clone(want)
	for _, e := range have {
		if !seen[key(e)] {
			out = append(out, e)
		}
	}
	return out
}

// Plugged is a port with the devices that it needs.
type Plugged struct {
	Device Device
	Port   Port
}

// With returns the state with ports that were plugged after it was computed. They replace
// what it has for their addresses and MACs.
func (s State) With(plugged []Plugged) State {
	if len(plugged) == 0 {
		return s
	}
	s.Networks = slices.Clone(s.Networks)
	ports := map[netmap.VNI][]Port{}
	for _, p := range plugged {
		ports[p.Device.VNI] = append(ports[p.Device.VNI], p.Port)
		if _, known := s.Network(p.Device.VNI); !known {
			s.Networks = append(s.Networks, Network{Device: p.Device})
			s.Sort()
		}
	}
	for i, n := range s.Networks {
		if len(ports[n.VNI]) > 0 {
			s.Networks[i] = n.with(ports[n.VNI])
		}
	}
	return s
}

func (n Network) with(ports []Port) Network {
	names, macs, addrs := map[string]netmap.EndpointID{}, map[netmap.MAC]string{}, map[netip.Addr]netmap.MAC{}
	for _, p := range ports {
		mac, outer := p.HardwareAddr(), OuterName(p.Endpoint)
		if names[outer] = p.Endpoint; mac.IsZero() {
			continue
		}
		macs[mac] = outer
		for _, a := range valid(p.V4, p.V6) {
			addrs[a] = mac
		}
	}
	var own Network
	for name, id := range names {
		own.Ports = append(own.Ports, Bridged{name, id})
	}
	for mac, outer := range macs {
		own.Bridging = append(own.Bridging, Bridging{mac, outer})
	}
	for a, mac := range addrs {
		own.Neighbours = append(own.Neighbours, Neighbour{a, mac})
	}
	n.Ports = union(n.Ports, own.Ports, func(b Bridged) string { return b.Name })
	n.Bridging = union(n.Bridging, own.Bridging, func(b Bridging) netmap.MAC { return b.MAC })
	n.Neighbours = union(n.Neighbours, own.Neighbours, func(e Neighbour) netip.Addr { return e.Addr })
	n.FDB = slices.DeleteFunc(slices.Clone(n.FDB), func(t Tunnel) bool { return macs[t.MAC] != "" })
	n.Flood = slices.Clone(n.Flood)
	n.Sort()
	return n
}

// Without returns the state without endpoints that were unplugged after it was computed,
// and without the answers for their addresses.
func (s State) Without(unplugged func(netmap.EndpointID) bool) State {
	s.Networks = slices.Clone(s.Networks)
	for i, n := range s.Networks {
		gone, macs := map[string]bool{}, map[netmap.MAC]bool{}
		for _, p := range n.Ports {
			if unplugged(p.Endpoint) {
				gone[p.Name] = true
			}
		}
		if len(gone) == 0 {
			continue
		}
		n.Ports = slices.DeleteFunc(slices.Clone(n.Ports), func(b Bridged) bool { return gone[b.Name] })
		n.Bridging = slices.DeleteFunc(slices.Clone(n.Bridging), func(b Bridging) bool {
			macs[b.MAC] = gone[b.Port]
			return gone[b.Port]
		})
		n.Neighbours = slices.DeleteFunc(slices.Clone(n.Neighbours), func(e Neighbour) bool { return macs[e.MAC] })
		s.Networks[i] = n
	}
	return s
}
