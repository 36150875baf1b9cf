package datapath

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Model holds what the kernel of one host was told, and turns changes of the facts and of the
// host into the operations that follow from them: what it costs does not depend on how much the
// kernel holds. It knows who claims each MAC and each address on the networks that the host
// takes part in. Desired specifies what it leads to. Not safe for concurrent use.
type Model struct {
	self  netmap.HostID
	view  *netmap.View // of the last Update; nil before the first
	local Local        // of the last Update
	mtu   int          // clusterMTU of the last Update
	vteps map[netmap.HostID]netip.Addr
	nets  map[netmap.NetworkID]*overlay
}

// NewModel returns the model of host self, whose kernel may hold anything.
func NewModel(self netmap.HostID) *Model { return &Model{self: self} }

// Update takes in the facts as they are now and what the host knows about itself. Unplugged are
// ports that were unplugged since the last Update, with which the kernel may have lost entries
// that other endpoints need.
//
// The operations lead from what the model held before to what it holds now: adds before
// deletes, and no deletes while local.Synced is false. They are computed when they are asked
// for: once, and before the next Update. If whole is true, they are not known because the kernel
// must be read: at the first Update, when Synced becomes true, and when the VXLAN devices
// change. Then State is what the kernel should hold.
func (m *Model) Update(view *netmap.View, local Local, unplugged []Port) (ops iter.Seq[Op], whole bool) {
	m.forget()
	old, was := m.view, m.local
	changed := view.Since(old)
	m.view, m.local = view, local
	if old == nil || len(changed.Hosts) > 0 || was.UnderlayMTU != local.UnderlayMTU {
		m.mtu = clusterMTU(view, m.self, local)
	}
	if old == nil || !was.Synced && local.Synced || was.Source != local.Source || was.UDPPort != local.UDPPort {
		m.rebuild()
		return func(func(Op) bool) {}, true
	}
	var p plan
	m.networks(&p)
	moved := m.hosts(changed.Hosts, old)
	for _, c := range changed.Endpoints {
		m.endpoint(c, moved)
	}
	m.ports(&p, was.Ports)
	for i, r := range p.renewed {
		p.renewed[i].is = m.build(r.of).network()
	}
	for _, port := range unplugged {
		if o := m.nets[port.Network]; o != nil {
			o.disturb(port)
			p.single = append(p.single, portOp(Delete, o.Device, port.Endpoint))
		}
	}
	p.touched = slices.DeleteFunc(m.sorted(), (*overlay).untouched)
	return func(yield func(Op) bool) {
		inOrder(m.portNames(), local.Synced, p.find)(yield)
		m.forget()
	}, false
}

// Concerned reports whether an Update has to take changes in. Changes of the networks that the host takes part in, as far
// as they are its own decision, are none of the facts.
func (m *Model) Concerned(c netmap.Changes) bool {
	return len(c.Hosts)+len(c.Networks) > 0 || slices.ContainsFunc(c.Endpoints, func(e netmap.Changed[netmap.EndpointView]) bool {
		if e.Old != nil && e.New != nil && forwarding(*e.Old) == forwarding(*e.New) {
			return false // only its name
		}
		return m.nets[cmp.Or(e.New, e.Old).Network] != nil || e.Old != nil && m.nets[e.Old.Network] != nil
	})
}

// forget forgets what an Update has touched.
func (m *Model) forget() {
	for _, o := range m.nets {
		o.forget()
	}
}

// plan is what an Update has found out.
type plan struct {
	single  []Op // on devices and ports
	gone    []Network
	renewed []renewal
	touched []*overlay
}

// find puts the operations that follow.
func (p *plan) find(d *differ) {
	for _, op := range p.single {
		d.put(op)
	}
	for _, n := range p.gone {
		d.drop(n)
	}
	for _, r := range p.renewed {
		d.network(r.was, r.is)
	}
	for _, o := range p.touched {
		o.changes(d)
	}
}

// State returns what the kernel should hold, as Desired does for what the last Update took in.
func (m *Model) State() State {
	s := State{Keep: !m.local.Synced}
	for _, o := range m.sorted() {
		s.Networks = append(s.Networks, o.network())
	}
	return s
}

// sorted returns the networks by VNI.
func (m *Model) sorted() []*overlay {
	return slices.SortedFunc(maps.Values(m.nets), func(a, b *overlay) int { return cmp.Compare(a.VNI, b.VNI) })
}

func (m *Model) rebuild() {
	m.vteps = vteps(m.view, m.self, m.local)
	m.nets = map[netmap.NetworkID]*overlay{}
	for _, n := range networks(m.view, m.local) {
		m.build(n)
	}
}

// build adds a network with all its endpoints.
func (m *Model) build(n netmap.Network) *overlay {
	o := newOverlay(deviceOf(m.mtu, n, m.local), m.vteps)
	m.nets[n.ID] = o
	for _, p := range m.local.Ports {
		if p.Network == n.ID {
			o.addPort(p)
		}
	}
	for e := range m.view.EndpointsOf(n.ID) {
		o.addRemote(e)
	}
	o.tracked = true
	return o
}

// renewal is a network to be built, what the kernel has under its VNI, and what it should have.
type renewal struct {
	of      netmap.Network
	was, is Network
}

// networks drops the networks that the host no longer takes part in, and notes those that are
// new or must be built anew. The kernel's objects are those of a VNI, whichever network has it.
func (m *Model) networks(p *plan) {
	wanted := map[netmap.VNI]netmap.Network{}
	for _, n := range networks(m.view, m.local) {
		wanted[n.VNI] = n
	}
	for _, o := range m.sorted() {
		n, ok := wanted[o.VNI]
		if ok && n.ID == o.ID && n.Multicast == o.Multicast {
			delete(wanted, n.VNI)
			m.device(p, o, n)
			continue
		}
		delete(m.nets, o.ID)
		if ok {
			delete(wanted, n.VNI)
			p.renewed = append(p.renewed, renewal{of: n, was: o.network()})
			continue
		}
		p.gone = append(p.gone, o.devices())
	}
	for _, vni := range slices.Sorted(maps.Keys(wanted)) {
		p.renewed = append(p.renewed, renewal{of: wanted[vni]})
	}
}

// device takes in another MTU of the network's containers.
func (m *Model) device(p *plan, o *overlay, n netmap.Network) {
	if dev := deviceOf(m.mtu, n, m.local); dev != o.Device {
		o.Device = dev
		p.single = append(p.single, Op{Verb: Add, Object: ABridge, Device: dev})
	}
}

// hosts takes in the VTEPs of hosts, and returns the hosts whose VTEP is another one than
// before, with all their endpoints taken in.
func (m *Model) hosts(changed []netmap.Changed[netmap.HostView], old *netmap.View) map[netmap.HostID]netip.Addr {
	moved := map[netmap.HostID]netip.Addr{}
	for _, c := range changed {
		var now netip.Addr
		if c.New != nil {
			now = vtep(*c.New, m.self, m.local)
		}
		if id := cmp.Or(c.New, c.Old).ID; now != m.vteps[id] {
			moved[id] = now
		}
	}
	m.ofHosts(moved, old, (*overlay).removeRemote)
	for id, addr := range moved {
		if m.vteps[id] = addr; !addr.IsValid() {
			delete(m.vteps, id)
		}
	}
	m.ofHosts(moved, m.view, (*overlay).addRemote)
	return moved
}

// ofHosts calls fn with each endpoint of some hosts.
func (m *Model) ofHosts(hosts map[netmap.HostID]netip.Addr, view *netmap.View, fn func(*overlay, netmap.EndpointView)) {
	if len(hosts) == 0 {
		return
	}
	for _, o := range m.sorted() {
		for e := range view.EndpointsOf(o.ID) {
			if _, ok := hosts[e.Host]; ok {
				fn(o, e)
			}
		}
	}
}

// endpoint takes in one changed endpoint, unless it is one of moved.
func (m *Model) endpoint(c netmap.Changed[netmap.EndpointView], moved map[netmap.HostID]netip.Addr) {
	if c.Old != nil && c.New != nil && forwarding(*c.Old) == forwarding(*c.New) {
		return // only its name
	}
	if _, known := moved[cmp.Or(c.New, c.Old).Host]; known {
		return
	}
	if c.Old != nil && m.nets[c.Old.Network] != nil {
		m.nets[c.Old.Network].removeRemote(*c.Old)
	}
	if c.New != nil && m.nets[c.New.Network] != nil {
		m.nets[c.New.Network].addRemote(*c.New)
	}
}

// forwarding returns what the kernel needs of an endpoint.
func forwarding(e netmap.EndpointView) Port {
	return Port{Endpoint: e.ID, Network: e.Network, V4: e.V4, V6: e.V6, MAC: e.MAC}
}

// ports takes in the ports that came and went on networks that stay.
func (m *Model) ports(plan *plan, was []Port) {
	if slices.Equal(was, m.local.Ports) {
		return
	}
	for _, p := range was {
		if o := m.nets[p.Network]; o != nil && !slices.Contains(m.local.Ports, p) {
			o.removePort(p)
			plan.single = append(plan.single, portOp(Delete, o.Device, p.Endpoint))
		}
	}
	for _, p := range m.local.Ports {
		if o := m.nets[p.Network]; o != nil && !slices.Contains(was, p) {
			o.addPort(p)
			o.disturb(p)
			plan.single = append(plan.single, portOp(Add, o.Device, p.Endpoint))
		}
	}
}

func portOp(verb Verb, d Device, id netmap.EndpointID) Op {
	return Op{Verb: verb, Object: APort, Device: d, Port: Bridged{OuterName(id), id}}
}

// portNames returns the names of all ports that the kernel should have.
func (m *Model) portNames() map[string]bool {
	names := map[string]bool{}
	for _, o := range m.nets {
		for _, name := range o.ports {
			names[name] = true
		}
	}
	return names
}
