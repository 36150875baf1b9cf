// Package datapathtest has a kernel that only remembers: for tests of what sits
// above datapath, and as the model that Diff is proven against.
package datapathtest

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// Kernel holds a state and prints itself as ip and bridge commands. The zero
// Kernel is an empty overlay namespace. Safe for concurrent use.
type Kernel struct {
	mu    sync.Mutex
	state datapath.State
	ports map[netmap.EndpointID]datapath.Plugged
	log   []string
}

// Set carries a state out and answers with the operations that it took.
func (k *Kernel) Set(_ context.Context, want datapath.State) ([]datapath.Op, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.set(want), nil
}

// Apply carries operations out. Ports that Plug added stay as they are.
func (k *Kernel) Apply(_ context.Context, ops []datapath.Op) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.carryOut(ops)
	if len(ops) > 0 {
		k.set(k.state)
	}
	return nil
}

func (k *Kernel) set(want datapath.State) []datapath.Op {
	var plugged []datapath.Plugged
	for _, p := range k.ports {
		plugged = append(plugged, p)
	}
	ops := datapath.Diff(k.state, want.With(plugged))
	k.carryOut(ops)
	return ops
}

func (k *Kernel) carryOut(ops []datapath.Op) {
	for _, op := range ops {
		k.log = append(k.log, op.String())
		k.state = Apply(k.state, op)
	}
}

// Plug adds one port and answers with the name of the end that Docker takes.
func (k *Kernel) Plug(_ context.Context, p datapath.Plugged) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ports == nil {
		k.ports = map[netmap.EndpointID]datapath.Plugged{}
	}
	k.ports[p.Port.Endpoint] = p
	k.set(datapath.State{Keep: true})
	return datapath.InnerName(p.Port.Endpoint), nil
}

// Forget drops the memory of what was plugged, as a restart of the agent does.
func (k *Kernel) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports = nil
}

// Unplug removes one port, and as the real kernel the entries of its addresses, if this agent
// plugged it; an unknown one is none.
func (k *Kernel) Unplug(_ context.Context, id netmap.EndpointID) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	was, known := k.ports[id]
	delete(k.ports, id)
	var ops []datapath.Op
	for _, n := range k.state.Networks {
		for _, e := range n.Neighbours {
			if known && n.VNI == was.Device.VNI && (e.Addr == was.Port.V4 || e.Addr == was.Port.V6) {
				ops = append(ops, datapath.Op{Verb: datapath.Delete, Object: datapath.ANeighbour, Device: n.Device, MAC: e.MAC, Addr: e.Addr})
			}
		}
		for _, b := range n.Bridging { // the device has them
			if b.Port == datapath.OuterName(id) {
				ops = append(ops, datapath.Op{Verb: datapath.Delete, Object: datapath.ABridging, Device: n.Device, MAC: b.MAC, Port: datapath.Bridged{Name: b.Port}})
			}
		}
		for _, p := range n.Ports {
			if p.Endpoint == id {
				ops = append(ops, datapath.Op{Verb: datapath.Delete, Object: datapath.APort, Device: n.Device, Port: p})
			}
		}
	}
	k.carryOut(ops)
	k.set(k.state)
	return nil
}

// Read is the state.
func (k *Kernel) Read() datapath.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Devices returns the state without the tables.
func (k *Kernel) Devices(context.Context) (datapath.State, error) {
	return WithoutTables(k.Read()), nil
}

// Entries yields the entries of one network.
func (k *Kernel) Entries(_ context.Context, vni netmap.VNI, visit func(datapath.Op)) (complete bool, err error) {
	Entries(k.Read(), vni, visit)
	return true, nil
}

// WithoutTables returns the devices and ports of a state.
func WithoutTables(s datapath.State) datapath.State {
	s.Networks = slices.Clone(s.Networks)
	for i, n := range s.Networks {
		s.Networks[i] = datapath.Network{Device: n.Device, Ports: n.Ports}
	}
	return s
}

// Entries calls visit with the operation that adds each entry of one network.
func Entries(s datapath.State, vni netmap.VNI, visit func(datapath.Op)) {
	n, _ := s.Network(vni)
	for _, op := range datapath.Diff(datapath.State{}, datapath.State{Networks: []datapath.Network{n}}) {
		if op.Object >= datapath.ATunnel {
			visit(op)
		}
	}
}

// Log is everything that was done so far, a command per line.
func (k *Kernel) Log() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.log, "\n")
}

// Apply is the state after one operation, as the kernel would do it.
func Apply(s datapath.State, op datapath.Op) datapath.State {
	s.Networks = slices.Clone(s.Networks)
	s.Stray = slices.DeleteFunc(slices.Clone(s.Stray), func(name string) bool { return names(op, name) })
	if len(s.Stray) == 0 {
		s.Stray = nil
	}
	if op.Object == datapath.AStray {
		return s
	}
	i := slices.IndexFunc(s.Networks, func(n datapath.Network) bool { return n.VNI == op.Device.VNI })
	if i < 0 && op.Verb == datapath.Delete {
		return s
	}
	if i < 0 {
		s.Networks = append(s.Networks, datapath.Network{Device: datapath.Device{VNI: op.Device.VNI}})
		i = len(s.Networks) - 1
	}
	if attached := slices.Contains(s.Networks[i].Ports, op.Port); op.Object == datapath.APort && !(attached && op.Verb == datapath.Add) {
		detach(s.Networks, op.Port.Name)
	}
	s.Networks[i] = network(s.Networks[i], op)
	if n := s.Networks[i]; n.Bridge == "" && n.VXLAN == "" {
		s.Networks = slices.Delete(s.Networks, i, i+1)
	}
	s.Sort()
	return s
}

// detach takes a port off whatever bridge it is on, with the entries that lead
// to it.
func detach(networks []datapath.Network, name string) {
	for i, n := range networks {
		if slices.ContainsFunc(n.Ports, func(b datapath.Bridged) bool { return b.Name == name }) {
			n.Ports = without(n.Ports, func(b datapath.Bridged) bool { return b.Name == name })
			n.Bridging = without(n.Bridging, func(b datapath.Bridging) bool { return b.Port == name })
			networks[i] = n
		}
	}
}

func network(n datapath.Network, op datapath.Op) datapath.Network {
	d, add := op.Device, op.Verb == datapath.Add
	switch op.Object {
	case datapath.ABridge:
		return bridge(n, d, add)
	case datapath.AVXLAN:
		return vxlan(n, d, add)
	case datapath.APort:
		if add && !slices.Contains(n.Ports, op.Port) {
			n.Ports = append(slices.Clone(n.Ports), op.Port)
		}
	case datapath.ATunnel:
		n.FDB = without(n.FDB, func(t datapath.Tunnel) bool { return t.MAC == op.MAC })
		if add {
			n.FDB = append(n.FDB, datapath.Tunnel{MAC: op.MAC, VTEP: op.Addr})
		}
	case datapath.AFlood:
		n.Flood = without(n.Flood, func(a netip.Addr) bool { return a == op.Addr })
		if add {
			n.Flood = append(n.Flood, op.Addr)
		}
	case datapath.ABridging:
		n.Bridging = without(n.Bridging, func(b datapath.Bridging) bool { return b.MAC == op.MAC })
		if add {
			n.Bridging = append(n.Bridging, datapath.Bridging{MAC: op.MAC, Port: op.Port.Name})
		}
	case datapath.ANeighbour:
		n.Neighbours = without(n.Neighbours, func(e datapath.Neighbour) bool { return e.Addr == op.Addr })
		if add {
			n.Neighbours = append(n.Neighbours, datapath.Neighbour{Addr: op.Addr, MAC: op.MAC})
		}
	}
	return n
}

func bridge(n datapath.Network, d datapath.Device, add bool) datapath.Network {
	if !add {
		n.Bridge, n.ID, n.MTU, n.PortMTU, n.Multicast = "", 0, 0, 0, false
		n.Ports, n.Bridging, n.Neighbours = nil, nil, nil
		return n
	}
	n.Bridge, n.ID, n.MTU, n.PortMTU, n.Multicast = d.Bridge, d.ID, d.MTU, d.PortMTU, d.Multicast
	return n
}

// vxlan made with another source or port is another device: its tables are empty.
func vxlan(n datapath.Network, d datapath.Device, add bool) datapath.Network {
	name := datapath.VXLANName(n.VNI)
	if !add || n.UDPPort != d.UDPPort || n.Source != d.Source {
		n.VXLAN, n.UDPPort, n.Source, n.FDB, n.Flood = "", 0, netip.Addr{}, nil, nil
		n.Bridging = without(n.Bridging, func(b datapath.Bridging) bool { return b.Port == name })
	}
	if add {
		n.VXLAN, n.UDPPort, n.Source = d.VXLAN, d.UDPPort, d.Source
	}
	return n
}

// without keeps an emptied table nil, as one that never was.
func without[E any](list []E, gone func(E) bool) []E {
	var out []E
	for _, e := range list {
		if !gone(e) {
			out = append(out, e)
		}
	}
	return out
}

func names(op datapath.Op, link string) bool {
	switch op.Object {
	case datapath.ABridge:
		return link == op.Device.Bridge
	case datapath.AVXLAN:
		return link == op.Device.VXLAN
	case datapath.APort, datapath.AStray:
		return link == op.Port.Name
	}
	return false
}
