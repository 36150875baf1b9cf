// Package datapath computes what the kernel of one host should forward, from the
// facts of the cluster and the ports plugged on this host, and how to get there
// from what the kernel has. It is pure: linux carries the operations out.
//
// Per network there is one bridge and one VXLAN device in the overlay namespace,
// and one veth pair per local endpoint. Everything that is known is static:
// nothing is learned, so nothing that was learned can be stale. A fast path that
// redirects known unicast between veth and VXLAN needs no more than a State has:
// MAC → port, MAC → VTEP.
package datapath

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// State is what the overlay namespace of one host holds, or should hold. Its
// slices are sorted, so that equal states are equal values.
type State struct {
	// Keep says that the state is partial: what the kernel has beyond it stays. For one address
	// the state wins over the kernel. Keep is false in a state that was read.
	Keep     bool
	Networks []Network // by VNI
	// Stray are links of Weft's that belong to no working network: ports without a bridge,
	// devices half made. Only a state that was read has them.
	Stray []string
}

// Network is one bridge, its VXLAN device and everything that forwards there.
type Network struct {
	Device
	Ports      []Bridged   // by name
	Bridging   []Bridging  // the bridge's table, by MAC
	FDB        []Tunnel    // the VXLAN device's table, by MAC
	Neighbours []Neighbour // the bridge's ARP and ND answers, by address
	Flood      []netip.Addr
}

// Device is what the two devices of a network are made from.
type Device struct {
	ID  netmap.NetworkID
	VNI netmap.VNI
	// Bridge and VXLAN are the names. In a state that was read, a name is empty if the device
	// is missing or differs from what Weft makes.
	Bridge, VXLAN string
	// MTU is that of the two devices and of the ports' overlay ends, bytes: all
	// that this host's underlay carries. PortMTU is what new containers get. They
	// differ so that a network whose MTU shrinks does not cut off the containers
	// that started before.
	MTU, PortMTU int
	UDPPort      uint16     // of VXLAN, source and destination side
	Source       netip.Addr // this host's VTEP
	// Multicast says that broadcasts, multicasts and frames to MACs that no endpoint has reach
	// the other hosts of the network. Then the bridge answers ARP for endpoints and passes on
	// everything else, and sends a group to its members and to the other hosts only. Without it
	// the bridge answers ND too, since a question would not reach another host.
	Multicast bool
}

// Bridged is the overlay end of a local endpoint's veth pair.
type Bridged struct {
	Name     string
	Endpoint netmap.EndpointID
}

// Bridging sends frames for a MAC to one port of the bridge, possibly the VXLAN
// device.
type Bridging struct {
	MAC  netmap.MAC
	Port string
}

// Tunnel sends frames for a MAC to a host.
type Tunnel struct {
	MAC  netmap.MAC
	VTEP netip.Addr
}

// Neighbour answers ARP or ND for an address, without asking the network.
type Neighbour struct {
	Addr netip.Addr
	MAC  netmap.MAC
}

// Network finds a network by its VNI.
func (s State) Network(vni netmap.VNI) (Network, bool) {
	i, ok := slices.BinarySearchFunc(s.Networks, vni, func(n Network, v netmap.VNI) int { return cmp.Compare(n.VNI, v) })
	if !ok {
		return Network{}, false
	}
	return s.Networks[i], true
}

// AddEntry appends the entry that an operation adds, out of order.
func (n *Network) AddEntry(op Op) {
	switch op.Object {
	case ATunnel:
		n.FDB = append(n.FDB, Tunnel{op.MAC, op.Addr})
	case AFlood:
		n.Flood = append(n.Flood, op.Addr)
	case ABridging:
		n.Bridging = append(n.Bridging, Bridging{op.MAC, op.Port.Name})
	case ANeighbour:
		n.Neighbours = append(n.Neighbours, Neighbour{op.Addr, op.MAC})
	}
}

// Sort brings a network into the order that State promises, in place.
func (n *Network) Sort() {
	slices.SortFunc(n.Ports, compareBridged)
	slices.SortFunc(n.Bridging, compareBridging)
	slices.SortFunc(n.FDB, compareTunnel)
	slices.SortFunc(n.Neighbours, compareNeighbour)
	slices.SortFunc(n.Flood, netip.Addr.Compare)
}

// The orders of the tables, each by its key.

func compareBridged(a, b Bridged) int     { return cmp.Compare(a.Name, b.Name) }
func compareBridging(a, b Bridging) int   { return compareMAC(a.MAC, b.MAC) }
func compareTunnel(a, b Tunnel) int       { return compareMAC(a.MAC, b.MAC) }
func compareNeighbour(a, b Neighbour) int { return a.Addr.Compare(b.Addr) }

// Sort brings a state into the order that it promises, in place.
func (s *State) Sort() {
	slices.SortFunc(s.Networks, func(a, b Network) int { return cmp.Compare(a.VNI, b.VNI) })
	slices.Sort(s.Stray)
	for i := range s.Networks {
		s.Networks[i].Sort()
	}
}

func compareMAC(a, b netmap.MAC) int { return slices.Compare(a[:], b[:]) }
