package datapath

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
)

// Diff returns the operations that lead from what the kernel has to what it should have. All
// adds come before all deletes, so that an endpoint that stays reachable is reachable all the
// time. It deletes nothing that want.Keep protects. Equal states have no difference. A VXLAN
// device cannot change its source and port in place: an add with others replaces it.
func Diff(have, want State) []Op { return slices.Collect(Steps(have, want)) }

// Steps yields what Diff returns. A large network takes hundreds of thousands of operations:
// nobody needs all of them in memory.
func Steps(have, want State) iter.Seq[Op] {
	goal := Goal(have, want)
	ports := map[string]bool{}
	for _, n := range goal.Networks {
		for _, p := range n.Ports {
			ports[p.Name] = true
		}
	}
	return inOrder(ports, true, func(d *differ) {
		for _, n := range goal.Networks {
			// Networks that are only kept are left alone, whole or not.
			if _, wanted := want.Network(n.VNI); wanted {
				old, _ := have.Network(n.VNI)
				d.network(old, n)
			}
		}
		for _, old := range have.Networks {
			if _, ok := goal.Network(old.VNI); !ok {
				d.drop(old)
			}
		}
		d.strays(have, goal)
	})
}

// differ passes on the operations with one verb on one kind of object, as they are found, and
// drops all others.
type differ struct {
	verb   Verb
	object Object
	ports  map[string]bool // the names of those that are wanted
	yield  func(Op) bool
	ended  bool
}

// inOrder yields the operations that find puts, in the order in which they are to be carried
// out: find is called for each verb and each kind of object, and must find the same each time.
func inOrder(ports map[string]bool, deletes bool, find func(*differ)) iter.Seq[Op] {
	return func(yield func(Op) bool) {
		d := differ{ports: ports, yield: yield}
		for object := ABridge; object <= AStray && !d.ended; object++ {
			d.verb, d.object = Add, object
			find(&d)
		}
		for object := AStray; object >= ABridge && deletes && !d.ended; object-- {
			d.verb, d.object = Delete, object
			find(&d)
		}
	}
}

func (d *differ) put(op Op) {
	if d.ended || op.Verb != d.verb || op.Object != d.object {
		return
	}
	if d.verb == Delete && (d.object == APort || d.object == AStray) && d.ports[op.Port.Name] {
		return // moved to another bridge
	}
	d.ended = !d.yield(op)
}

func (d *differ) network(have, want Network) {
	dev := want.Device
	if have.Bridge == "" { // ports and tables went with it
		have.Ports, have.Bridging, have.Neighbours = nil, nil, nil
	}
	remake := have.VXLAN == "" || have.UDPPort != want.UDPPort || have.Source != want.Source
	if remake {
		have = have.withoutVXLAN()
	}
	reattach := have.Bridge == "" || have.MTU != want.MTU || have.Multicast != want.Multicast
	if reattach || have.ID != want.ID || have.PortMTU != want.PortMTU {
		d.put(Op{Verb: Add, Object: ABridge, Device: dev})
	}
	if remake || reattach {
		d.put(Op{Verb: Add, Object: AVXLAN, Device: dev})
	}
	if reattach {
		d.reattach(have.Ports, want)
		have.Ports = want.Ports
	}
	d.tables(have, want)
}

// reattach adds the wanted ports again, whether they are attached or not, and
// deletes the others.
func (d *differ) reattach(have []Bridged, want Network) {
	if d.object != APort {
		return
	}
	for _, p := range want.Ports {
		d.put(Op{Verb: Add, Object: APort, Device: want.Device, Port: p})
	}
	for _, p := range have {
		if !slices.ContainsFunc(want.Ports, func(w Bridged) bool { return w.Name == p.Name }) {
			d.put(Op{Verb: Delete, Object: APort, Device: want.Device, Port: p})
		}
	}
}

func (d *differ) tables(have, want Network) {
	op := func(v Verb) Op { return Op{Verb: v, Object: d.object, Device: want.Device} }
	switch d.object {
	case APort:
		compareTables(d, have.Ports, want.Ports, compareBridged, func(v Verb, b Bridged) Op {
			o := op(v)
			o.Port = b
			return o
		})
	case ATunnel:
		compareTables(d, have.FDB, want.FDB, compareTunnel, func(v Verb, t Tunnel) Op {
			o := op(v)
			o.MAC, o.Addr = t.MAC, t.VTEP
			return o
		})
	case AFlood:
		compareTables(d, have.Flood, want.Flood, netip.Addr.Compare, func(v Verb, a netip.Addr) Op {
			o := op(v)
			o.Addr = a
			return o
		})
	case ABridging:
		compareTables(d, have.Bridging, want.Bridging, compareBridging, func(v Verb, b Bridging) Op {
			o := op(v)
			o.MAC, o.Port.Name = b.MAC, b.Port
			return o
		})
	case ANeighbour:
		compareTables(d, have.Neighbours, want.Neighbours, compareNeighbour, func(v Verb, n Neighbour) Op {
			o := op(v)
			o.Addr, o.MAC = n.Addr, n.MAC
			return o
		})
	}
}

// drop removes a whole network. The kernel removes its entries with its devices.
func (d *differ) drop(have Network) {
	dev := have.Device
	if have.Bridge != "" {
		d.put(Op{Verb: Delete, Object: ABridge, Device: dev})
	}
	if have.VXLAN != "" {
		d.put(Op{Verb: Delete, Object: AVXLAN, Device: dev})
	}
	for _, p := range have.Ports {
		d.put(Op{Verb: Delete, Object: APort, Device: dev, Port: p})
	}
}

// strays removes stray devices, unless a device or port of that name is wanted: adding
// that one has taken the stray over.
func (d *differ) strays(have, goal State) {
	if goal.Keep {
		return
	}
	wanted := map[string]bool{}
	for _, n := range goal.Networks {
		wanted[n.Bridge], wanted[n.VXLAN] = true, true
	}
	for _, name := range have.Stray {
		if !wanted[name] {
			d.put(Op{Verb: Delete, Object: AStray, Port: Bridged{Name: name}})
		}
	}
}

// change puts the operation for one entry: old and now are the operations that add it as it was
// and as it is to be, zero where there is none. If the kernel may have lost it, it is added even
// if it is to stay.
func (d *differ) change(old, now Op, lost bool) {
	switch {
	case now != Op{} && (now != old || lost):
		d.put(now)
	case now == Op{} && old != Op{}:
		old.Verb = Delete
		d.put(old)
	}
}

// compareTables compares two tables of one kind, both in the order of their keys. An entry whose
// key stays is replaced, never deleted.
func compareTables[E comparable](d *differ, have, want []E, compare func(a, b E) int, op func(Verb, E) Op) {
	for len(have)+len(want) > 0 {
		switch {
		case len(have) == 0 || len(want) > 0 && compare(want[0], have[0]) < 0:
			d.put(op(Add, want[0]))
			want = want[1:]
			continue
		case len(want) == 0 || compare(have[0], want[0]) < 0:
			d.put(op(Delete, have[0]))
			have = have[1:]
			continue
		}
		n := 1
		for n < len(have) && compare(have[n], want[0]) == 0 {
			n++ // the kernel can send for one MAC to several hosts; Weft never asks for that
		}
		kept := have[n-1]
		if slices.Contains(have[:n], want[0]) {
			kept = want[0]
		}
		for _, e := range have[:n] {
			if e != kept {
				d.put(op(Delete, e))
			}
		}
		if kept != want[0] {
			d.put(op(Add, want[0]))
		}
		have, want = have[n:], want[1:]
	}
}

// withoutVXLAN returns what is left of a network when its VXLAN device is made again.
func (n Network) withoutVXLAN() Network {
	vxlan := cmp.Or(n.VXLAN, VXLANName(n.VNI))
	n.VXLAN, n.FDB, n.Flood = "", nil, nil
	n.Bridging = slices.DeleteFunc(slices.Clone(n.Bridging), func(b Bridging) bool { return b.Port == vxlan })
	return n
}
