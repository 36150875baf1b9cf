package datapath

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Desired returns what the kernel of host self should hold. With a nil or empty view the
// local networks and ports work all the same.
//
// Hosts that cannot be reached keep their entries until they are removed from the cluster:
// a host that this one cannot reach may be alive.
func Desired(view *netmap.View, self netmap.HostID, local Local) State {
	if view == nil {
		view = &netmap.View{}
	}
	vteps := vteps(view, self, local)
	s := State{Keep: !local.Synced}
	for _, n := range networks(view, local) {
		b := builder{net: Network{Device: DeviceOf(view, self, n, local)}}
		b.addLocal(local.Ports)
		b.addRemote(remotes(view, n.ID, vteps))
		s.Networks = append(s.Networks, b.build())
	}
	slices.SortFunc(s.Networks, func(a, b Network) int { return cmp.Compare(a.VNI, b.VNI) })
	return s
}

// DeviceOf returns what a network's devices on host self are made from.
func DeviceOf(view *netmap.View, self netmap.HostID, n netmap.Network, local Local) Device {
	if view == nil {
		view = &netmap.View{}
	}
	return deviceOf(clusterMTU(view, self, local), n, local)
}

func deviceOf(clusterMTU int, n netmap.Network, local Local) Device {
	return Device{
		ID: n.ID, VNI: n.VNI, Bridge: BridgeName(n.VNI), VXLAN: VXLANName(n.VNI),
		MTU: maxMTU, PortMTU: portMTU(clusterMTU, n, local),
		UDPPort: cmp.Or(local.UDPPort, DefaultUDPPort), Source: local.Source.Unmap(),
		Multicast: n.Multicast,
	}
}

// networks returns the networks that the host takes part in, each once per id and VNI, as in
// the view if it has the network.
func networks(view *netmap.View, local Local) []netmap.Network {
	var out []netmap.Network
	ids, vnis := map[netmap.NetworkID]bool{}, map[netmap.VNI]bool{}
	for _, n := range local.Networks {
		if known, ok := view.Network(n.ID); ok {
			n = known
		}
		if n.VNI != 0 && !ids[n.ID] && !vnis[n.VNI] {
			ids[n.ID], vnis[n.VNI] = true, true
			out = append(out, n)
		}
	}
	return out
}

// remote is a reachable endpoint of another host.
type remote struct {
	netmap.EndpointView
	vtep netip.Addr
}

// vtep returns where frames for another host's endpoints are sent, invalid if they cannot be.
func vtep(h netmap.HostView, self netmap.HostID, local Local) netip.Addr {
	addr := h.Fact.Underlay.Addr().Unmap().WithZone("")
	// A VXLAN device has one address family, and a frame sent to this host itself would
	// come back for ever.
	usable := addr.IsValid() && addr.Is4() == local.Source.Unmap().Is4() && addr != local.Source.Unmap()
	if h.ID == self || !h.IsMember() || !usable {
		return netip.Addr{}
	}
	return addr
}

// vteps returns the VTEPs of all hosts that frames can be sent to.
func vteps(view *netmap.View, self netmap.HostID, local Local) map[netmap.HostID]netip.Addr {
	out := map[netmap.HostID]netip.Addr{}
	for _, h := range view.Hosts {
		if addr := vtep(h, self, local); addr.IsValid() {
			out[h.ID] = addr
		}
	}
	return out
}

// remotes returns the reachable endpoints of other hosts on a network, in the view's order.
func remotes(view *netmap.View, network netmap.NetworkID, vteps map[netmap.HostID]netip.Addr) (out []remote) {
	for e := range view.EndpointsOf(network) {
		e.MAC = macOf(e.MAC, e.V4, e.V6)
		group := e.MAC[0]&1 == 1 // would be flooded, never forwarded
		if vtep, ok := vteps[e.Host]; ok && !e.MAC.IsZero() && !group {
			out = append(out, remote{e, vtep})
		}
	}
	return out
}

// builder collects one network. The first endpoint with an address or a MAC wins. Local ports
// come first, since they are plugged here whatever other hosts announce.
type builder struct {
	net   Network
	addrs map[netip.Addr]bool
	macs  map[netmap.MAC]bool
}

func (b *builder) addLocal(ports []Port) {
	b.addrs, b.macs = map[netip.Addr]bool{}, map[netmap.MAC]bool{}
	ports = slices.SortedFunc(slices.Values(ports), func(x, y Port) int { return cmp.Compare(x.Endpoint, y.Endpoint) })
	for _, p := range ports {
		if p.Network != b.net.ID {
			continue
		}
		outer := Bridged{Name: OuterName(p.Endpoint), Endpoint: p.Endpoint}
		if !slices.Contains(b.net.Ports, outer) {
			b.net.Ports = append(b.net.Ports, outer)
		}
		b.entry(p.HardwareAddr(), outer.Name, p.V4, p.V6)
	}
}

// addRemote adds the endpoints of other hosts. No two of one network have the same
// address: a View leaves the losers of a dispute out.
func (b *builder) addRemote(remotes []remote) {
	for _, r := range remotes {
		if b.entry(r.MAC, b.net.VXLAN, r.V4, r.V6) {
			b.net.FDB = append(b.net.FDB, Tunnel{r.MAC, r.vtep})
		}
	}
	if b.net.Multicast {
		for _, r := range remotes {
			b.net.Flood = append(b.net.Flood, r.vtep)
		}
		slices.SortFunc(b.net.Flood, netip.Addr.Compare)
		b.net.Flood = slices.Compact(b.net.Flood)
	}
}

// entry adds a MAC with its addresses. It reports whether the MAC was free.
func (b *builder) entry(mac netmap.MAC, port string, addrs ...netip.Addr) bool {
	for _, a := range addrs {
		if a.IsValid() && !mac.IsZero() && !b.addrs[a] {
			b.addrs[a] = true
			b.net.Neighbours = append(b.net.Neighbours, Neighbour{a, mac})
		}
	}
	if mac.IsZero() || b.macs[mac] {
		return false
	}
	b.macs[mac] = true
	b.net.Bridging = append(b.net.Bridging, Bridging{mac, port})
	return true
}

func (b *builder) build() Network {
	b.net.Sort()
	return b.net
}
