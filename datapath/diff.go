package datapath

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Diff returns the operations that lead from what the kernel has to what it should have. All
// adds come before all deletes, so that an endpoint that stays reachable is reachable all the
// time. It deletes nothing that want.Keep protects. Equal states have no difference. A VXLAN
// device cannot change its source and port in place: an add with others replaces it.
func Diff(have, want State) []Op {
	goal := Goal(have, want)
	var d differ
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
	ports := map[string]bool{}
	for _, n := range goal.Networks {
		for _, p := range n.Ports {
			ports[p.Name] = true
		}
	}
	return d.ops(ports)
}

type differ struct{ adds, deletes []Op }

func (d *differ) network(have, want Network) {
	dev := want.Device
	if have.Bridge == "" { // ports and tables went with it
		have.Ports, have.Bridging, have.Neighbours = nil, nil, nil
	}
	remake := have.VXLAN == "" || have.UDPPort != want.UDPPort || have.Source != want.Source
	if remake {
		have = have.withoutVXLAN()
	}
	reattach := have.Bridge == "" || have.MTU != want.MTU
	if reattach || have.ID != want.ID || have.PortMTU != want.PortMTU {
		d.adds = append(d.adds, Op{Verb: Add, Object: ABridge, Device: dev})
	}
	if remake || reattach {
		d.adds = append(d.adds, Op{Verb: Add, Object: AVXLAN, Device: dev})
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
	for _, p := range want.Ports {
		d.adds = append(d.adds, Op{Verb: Add, Object: APort, Device: want.Device, Port: p})
	}
	for _, p := range have {
		if !slices.ContainsFunc(want.Ports, func(w Bridged) bool { return w.Name == p.Name }) {
			d.deletes = append(d.deletes, Op{Verb: Delete, Object: APort, Device: want.Device, Port: p})
		}
	}
}

func (d *differ) tables(have, want Network) {
	dev := want.Device
	op := func(o Object) Op { return Op{Object: o, Device: dev} }
	diffTable(d, have.Ports, want.Ports, func(b Bridged) string { return b.Name }, func(b Bridged) Op {
		o := op(APort)
		o.Port = b
		return o
	})
	diffTable(d, have.FDB, want.FDB, func(t Tunnel) netmap.MAC { return t.MAC }, func(t Tunnel) Op {
		o := op(ATunnel)
		o.MAC, o.Addr = t.MAC, t.VTEP
		return o
	})
	diffTable(d, have.Flood, want.Flood, func(a netip.Addr) netip.Addr { return a }, func(a netip.Addr) Op {
		o := op(AFlood)
		o.Addr = a
		return o
	})
	diffTable(d, have.Bridging, want.Bridging, func(b Bridging) netmap.MAC { return b.MAC }, func(b Bridging) Op {
		o := op(ABridging)
		o.MAC, o.Port.Name = b.MAC, b.Port
		return o
	})
	diffTable(d, have.Neighbours, want.Neighbours, func(n Neighbour) netip.Addr { return n.Addr }, func(n Neighbour) Op {
		o := op(ANeighbour)
		o.Addr, o.MAC = n.Addr, n.MAC
		return o
	})
}

// drop removes a whole network. The kernel removes its entries with its devices.
func (d *differ) drop(have Network) {
	dev := have.Device
	if have.Bridge != "" {
		d.deletes = append(d.deletes, Op{Verb: Delete, Object: ABridge, Device: dev})
	}
	if have.VXLAN != "" {
		d.deletes = append(d.deletes, Op{Verb: Delete, Object: AVXLAN, Device: dev})
	}
	for _, p := range have.Ports {
		d.deletes = append(d.deletes, Op{Verb: Delete, Object: APort, Device: dev, Port: p})
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
			d.deletes = append(d.deletes, Op{Verb: Delete, Object: AStray, Port: Bridged{Name: name}})
		}
	}
}

// ops puts the steps into order: stable, so that equal inputs give equal plans. Ports are the
// names of those that are wanted.
func (d *differ) ops(ports map[string]bool) []Op {
	d.deletes = slices.DeleteFunc(d.deletes, func(o Op) bool {
		return (o.Object == APort || o.Object == AStray) && ports[o.Port.Name] // moved to another bridge
	})
	slices.SortStableFunc(d.adds, func(a, b Op) int { return cmp.Compare(a.Object, b.Object) })
	slices.SortStableFunc(d.deletes, func(a, b Op) int { return cmp.Compare(b.Object, a.Object) })
	return append(d.adds, d.deletes...)
}

// change adds the operation for one entry: old and now are the operations that add it as it was
// and as it is to be, zero where there is none. If the kernel may have lost it, it is added even
// if it is to stay.
func (d *differ) change(old, now Op, lost bool) {
	switch {
	case now != Op{} && (now != old || lost):
		d.adds = append(d.adds, now)
	case now == Op{} && old != Op{}:
		old.Verb = Delete
		d.deletes = append(d.deletes, old)
	}
}

// diffTable compares two tables of one kind. An entry whose key stays is
// replaced, never deleted.
func diffTable[E, K comparable](d *differ, have, want []E, key func(E) K, op func(E) Op) {
	goal := make(map[K]E, len(want))
	for _, e := range want {
		goal[key(e)] = e
	}
	old := make(map[K]E, len(have))
	for _, e := range have {
		if was, twice := old[key(e)]; twice && was != e {
			// The kernel can send for one MAC to several hosts; Weft never asks for that.
			if was == goal[key(e)] {
				was, e = e, was
			}
			o := op(was)
			o.Verb = Delete
			d.deletes = append(d.deletes, o)
		}
		old[key(e)] = e
	}
	for _, e := range want {
		if was, ok := old[key(e)]; !ok || was != e {
			o := op(e)
			o.Verb = Add
			d.adds = append(d.adds, o)
		}
		delete(old, key(e))
	}
	for _, e := range have {
		if was, gone := old[key(e)]; gone && was == e {
			o := op(e)
			o.Verb = Delete
			d.deletes = append(d.deletes, o)
		}
	}
}

// withoutVXLAN returns what is left of a network when its VXLAN device is made again.
func (n Network) withoutVXLAN() Network {
	vxlan := cmp.Or(n.VXLAN, VXLANName(n.VNI))
	n.VXLAN, n.FDB, n.Flood = "", nil, nil
	n.Bridging = slices.DeleteFunc(slices.Clone(n.Bridging), func(b Bridging) bool { return b.Port == vxlan })
	return n
}
