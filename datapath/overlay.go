package datapath

import (
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// overlay is one network of a Model.
type overlay struct {
	Device
	vteps   map[netmap.HostID]netip.Addr // of the Model
	ports   map[netmap.EndpointID]string // names of the local ports
	macs    claims[netmap.MAC]
	addrs   claims[netip.Addr]
	remotes map[netip.Addr]int // how many remote endpoints there are at each VTEP

	tracked bool // whether the following is kept

	// What an Update has touched so far, with what held before it.
	macsWere  seen[netmap.MAC, route]
	addrsWere seen[netip.Addr, *claim]
	floodWas  seen[netip.Addr, bool]
}

// route is where a MAC leads: to the holder's port, or to its host's VTEP. Without a holder it
// leads nowhere.
type route struct {
	holder *claim
	vtep   netip.Addr
}

func newOverlay(d Device, vteps map[netmap.HostID]netip.Addr) *overlay {
	return &overlay{
		Device: d, vteps: vteps, ports: map[netmap.EndpointID]string{},
		macs: newClaims[netmap.MAC](), addrs: newClaims[netip.Addr](), remotes: map[netip.Addr]int{},
	}
}

func (o *overlay) route(mac netmap.MAC) route {
	holder := o.macs.holder[mac]
	if holder == nil || holder.local {
		return route{holder: holder}
	}
	return route{holder, o.vteps[holder.host]}
}

func (o *overlay) flooded(vtep netip.Addr) bool { return o.Multicast && o.remotes[vtep] > 0 }

// addRemote adds an endpoint of another host, unless frames cannot be sent to it.
func (o *overlay) addRemote(e netmap.EndpointView) {
	if c := remoteClaim(e); o.reachable(c) {
		o.count(o.vteps[c.host], 1)
		o.add(c, e.V4, e.V6)
	}
}

// removeRemote removes what addRemote added.
func (o *overlay) removeRemote(e netmap.EndpointView) {
	c := remoteClaim(e)
	if !o.reachable(c) {
		return
	}
	o.count(o.vteps[c.host], -1)
	o.remove(c, e.V4, e.V6)
}

// count counts the remote endpoints at a VTEP.
func (o *overlay) count(vtep netip.Addr, by int) {
	if o.tracked {
		o.floodWas.note(vtep, o.flooded(vtep))
	}
	if o.remotes[vtep] += by; o.remotes[vtep] == 0 {
		delete(o.remotes, vtep)
	}
}

func remoteClaim(e netmap.EndpointView) *claim {
	return &claim{host: e.Host, id: e.ID, mac: macOf(e.MAC, e.V4, e.V6)}
}

// reachable reports whether frames for a remote claim can be sent. A group MAC would be
// flooded, never forwarded.
func (o *overlay) reachable(c *claim) bool {
	_, known := o.vteps[c.host]
	return known && !c.mac.IsZero() && c.mac[0]&1 == 0
}

func (o *overlay) addPort(p Port) {
	o.ports[p.Endpoint] = OuterName(p.Endpoint)
	if c := localClaim(p); !c.mac.IsZero() {
		o.add(c, p.V4, p.V6)
	}
}

func (o *overlay) removePort(p Port) {
	delete(o.ports, p.Endpoint)
	if c := localClaim(p); !c.mac.IsZero() {
		o.remove(c, p.V4, p.V6)
	}
}

// disturb notes that the kernel may have lost the entries of a port's MAC and addresses: they
// are the port's while it is plugged, and go with it.
func (o *overlay) disturb(p Port) {
	c := localClaim(p)
	if c.mac.IsZero() {
		return
	}
	addrs := valid(p.V4, p.V6)
	o.touch(c, addrs)
	o.macsWere.lost[c.mac] = true
	for _, a := range addrs {
		o.addrsWere.lost[a] = true
	}
}

func localClaim(p Port) *claim {
	return &claim{id: p.Endpoint, mac: p.HardwareAddr(), local: true}
}

func (o *overlay) add(c *claim, addrs ...netip.Addr) {
	o.touch(c, addrs)
	o.macs.add(c.mac, c)
	for _, a := range valid(addrs...) {
		o.addrs.add(a, c)
	}
}

func (o *overlay) remove(c *claim, addrs ...netip.Addr) {
	o.touch(c, addrs)
	o.macs.remove(c.mac, c)
	for _, a := range valid(addrs...) {
		o.addrs.remove(a, c)
	}
}

func (o *overlay) touch(c *claim, addrs []netip.Addr) {
	if !o.tracked {
		return
	}
	o.macsWere.note(c.mac, o.route(c.mac))
	for _, a := range valid(addrs...) {
		o.addrsWere.note(a, o.addrs.holder[a])
	}
}

func valid(addrs ...netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, 2)
	for _, a := range addrs {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// devices returns what network does without the tables.
func (o *overlay) devices() Network {
	n := Network{Device: o.Device}
	for id, name := range o.ports {
		n.Ports = append(n.Ports, Bridged{name, id})
	}
	n.Sort()
	return n
}

// network returns what the kernel should hold of the network.
func (o *overlay) network() Network {
	n := o.devices()
	n.Bridging = make([]Bridging, 0, len(o.macs.holder))
	n.FDB = make([]Tunnel, 0, len(o.macs.holder))
	n.Neighbours = make([]Neighbour, 0, len(o.addrs.holder))
	for mac := range o.macs.holder {
		r := o.route(mac)
		n.Bridging = append(n.Bridging, Bridging{mac, o.portOf(r)})
		if !r.holder.local {
			n.FDB = append(n.FDB, Tunnel{mac, r.vtep})
		}
	}
	for a, c := range o.addrs.holder {
		n.Neighbours = append(n.Neighbours, Neighbour{a, c.mac})
	}
	for vtep := range o.remotes {
		if o.Multicast {
			n.Flood = append(n.Flood, vtep)
		}
	}
	n.Sort()
	return n
}

// portOf returns the port of the bridge that a route leads to.
func (o *overlay) portOf(r route) string {
	if r.holder.local {
		return OuterName(r.holder.id)
	}
	return o.VXLAN
}

// changes puts the operations for what was touched since the last forget.
func (o *overlay) changes(d *differ) {
	switch d.object {
	case ATunnel, ABridging:
		entry := o.tunnel
		if d.object == ABridging {
			entry = o.bridging
		}
		for _, mac := range o.macsWere.keys {
			old, now := o.macsWere.was[mac], o.route(mac)
			d.change(entry(mac, old), entry(mac, now), o.macsWere.lost[mac] || lost(old.holder, now.holder))
		}
	case ANeighbour:
		for _, a := range o.addrsWere.keys {
			old, now := o.addrsWere.was[a], o.addrs.holder[a]
			d.change(o.neighbour(a, old), o.neighbour(a, now), o.addrsWere.lost[a] || lost(old, now))
		}
	case AFlood:
		for _, vtep := range o.floodWas.keys {
			d.change(o.flood(vtep, o.floodWas.was[vtep]), o.flood(vtep, o.flooded(vtep)), false)
		}
	}
}

func (o *overlay) untouched() bool {
	return len(o.macsWere.keys)+len(o.addrsWere.keys)+len(o.floodWas.keys) == 0
}

func (o *overlay) forget() {
	o.macsWere, o.addrsWere, o.floodWas = seen[netmap.MAC, route]{}, seen[netip.Addr, *claim]{}, seen[netip.Addr, bool]{}
}

// lost reports whether the kernel has lost the entries of a key although they are to stay,
// because the port that had them was unplugged.
func lost(old, now *claim) bool { return old != nil && old.local && old != now }

// The operations that add the entry of a key; the zero Op where there is none.

func (o *overlay) tunnel(mac netmap.MAC, r route) Op {
	if !r.vtep.IsValid() {
		return Op{}
	}
	return Op{Verb: Add, Object: ATunnel, Device: o.Device, MAC: mac, Addr: r.vtep}
}

func (o *overlay) bridging(mac netmap.MAC, r route) Op {
	if r.holder == nil {
		return Op{}
	}
	return Op{Verb: Add, Object: ABridging, Device: o.Device, MAC: mac, Port: Bridged{Name: o.portOf(r)}}
}

func (o *overlay) neighbour(a netip.Addr, holder *claim) Op {
	if holder == nil {
		return Op{}
	}
	return Op{Verb: Add, Object: ANeighbour, Device: o.Device, Addr: a, MAC: holder.mac}
}

func (o *overlay) flood(vtep netip.Addr, flooded bool) Op {
	if !flooded {
		return Op{}
	}
	return Op{Verb: Add, Object: AFlood, Device: o.Device, Addr: vtep}
}
