package linux

import (
	"net/netip"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// ports remembers what this process plugged and unplugged. It overrides states that were
// computed before, and what a concurrent Set planned before.
type ports struct {
	plugged   map[netmap.EndpointID]datapath.Plugged
	unplugged map[netmap.EndpointID]bool
	index     *index // nil after a change
}

// index holds what the plugged ports use.
type index struct {
	names map[string]bool // of their ports and devices
	vnis  map[netmap.VNI]bool
	macs  map[inNetwork[netmap.MAC]]string
	addrs map[inNetwork[netip.Addr]]netmap.MAC
}

type inNetwork[T comparable] struct {
	vni netmap.VNI
	of  T
}

func newPorts() ports {
	return ports{plugged: map[netmap.EndpointID]datapath.Plugged{}, unplugged: map[netmap.EndpointID]bool{}}
}

func (p *ports) plug(what datapath.Plugged) {
	delete(p.unplugged, what.Port.Endpoint)
	p.plugged[what.Port.Endpoint] = what
	p.index = nil
}

func (p *ports) unplug(id netmap.EndpointID) (was datapath.Plugged, ok bool) {
	was, ok = p.plugged[id]
	delete(p.plugged, id)
	p.unplugged[id] = true
	p.index = nil
	return was, ok
}

// goal returns want with what was plugged and unplugged since.
func (p *ports) goal(want datapath.State) datapath.State {
	plugged := make([]datapath.Plugged, 0, len(p.plugged))
	for _, one := range p.plugged {
		plugged = append(plugged, one)
	}
	return want.Without(func(id netmap.EndpointID) bool { return p.unplugged[id] }).With(plugged)
}

// forget forgets unplugged endpoints that the caller's states no longer have.
func (p *ports) forget(want datapath.State) {
	if want.Keep || len(p.unplugged) == 0 {
		return
	}
	known := map[netmap.EndpointID]bool{}
	for _, n := range want.Networks {
		for _, b := range n.Ports {
			known[b.Endpoint] = true
		}
	}
	for id := range p.unplugged {
		if !known[id] {
			delete(p.unplugged, id)
		}
	}
}

// carried forgets unplugged endpoints whose ports the caller wants removed: it no longer has
// them.
func (p *ports) carried(ops []datapath.Op) {
	for _, op := range ops {
		if op.Verb == datapath.Delete && op.Object == datapath.APort {
			delete(p.unplugged, op.Port.Endpoint)
		}
	}
}

// outdated reports whether an operation was planned before a plug or unplug that
// it would undo.
func (p *ports) outdated(op datapath.Op) bool {
	add := op.Verb == datapath.Add
	if op.Object == datapath.APort && add {
		return p.unplugged[op.Port.Endpoint]
	}
	if len(p.plugged) == 0 {
		return false
	}
	i, vni := p.indexed(), op.Device.VNI
	switch op.Object {
	case datapath.ABridge, datapath.AVXLAN:
		return !add && i.vnis[vni]
	case datapath.APort, datapath.AStray:
		return i.names[op.Port.Name]
	case datapath.ABridging:
		port, taken := i.macs[inNetwork[netmap.MAC]{vni, op.MAC}]
		return taken && (!add || op.Port.Name != port)
	case datapath.ANeighbour:
		mac, taken := i.addrs[inNetwork[netip.Addr]{vni, op.Addr}]
		return taken && (!add || op.MAC != mac)
	}
	return false
}

func (p *ports) indexed() *index {
	if p.index != nil {
		return p.index
	}
	i := &index{map[string]bool{}, map[netmap.VNI]bool{}, map[inNetwork[netmap.MAC]]string{}, map[inNetwork[netip.Addr]]netmap.MAC{}}
	for _, one := range p.plugged {
		vni, outer, mac := one.Device.VNI, datapath.OuterName(one.Port.Endpoint), one.Port.HardwareAddr()
		i.vnis[vni] = true
		i.names[outer], i.names[one.Device.Bridge], i.names[one.Device.VXLAN] = true, true, true
		i.macs[inNetwork[netmap.MAC]{vni, mac}] = outer
		for _, a := range []netip.Addr{one.Port.V4, one.Port.V6} {
			if a.IsValid() {
				i.addrs[inNetwork[netip.Addr]{vni, a}] = mac
			}
		}
	}
	p.index = i
	return i
}
