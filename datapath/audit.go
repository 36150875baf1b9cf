package datapath

import (
	"slices"

	"github.com/weftnet/weft/netmap"
)

// VNIs returns the networks that the kernel should hold, sorted.
func (m *Model) VNIs() (out []netmap.VNI) {
	for _, o := range m.sorted() {
		out = append(out, o.VNI)
	}
	return out
}

// HasDevices reports whether a state that was read has the devices and ports that it should
// have. It does not look at the tables.
func (m *Model) HasDevices(have State) bool {
	for _, o := range m.sorted() {
		n, ok := have.Network(o.VNI)
		if !ok || n.Device != o.Device || len(n.Ports) < len(o.ports) {
			return false
		}
		for id, name := range o.ports {
			if !slices.Contains(n.Ports, Bridged{name, id}) {
				return false
			}
		}
		if m.local.Synced && len(n.Ports) > len(o.ports) {
			return false
		}
	}
	return !m.local.Synced || len(have.Networks) == len(m.nets) && len(have.Stray) == 0
}

// Audit compares the tables of one network with a Model, entry by entry, so that nobody needs
// all of them in memory. It is good until the next Update.
type Audit struct {
	of    *overlay
	keep  bool
	right int // entries that are as they should be
	wrong bool
}

// Audit begins an audit of a network that the Model has.
func (m *Model) Audit(vni netmap.VNI) *Audit {
	for _, o := range m.nets {
		if o.VNI == vni {
			return &Audit{of: o, keep: !m.local.Synced}
		}
	}
	return nil
}

// Entry takes in the operation that adds an entry which the kernel has.
func (a *Audit) Entry(op Op) {
	wanted := a.wanted(op)
	switch {
	case wanted == Op{}:
		a.wrong = a.wrong || !a.keep
	case wanted.MAC != op.MAC || wanted.Addr != op.Addr || wanted.Port.Name != op.Port.Name:
		a.wrong = true
	default:
		a.right++
	}
}

// wanted returns the operation that adds the right entry in the place of another one; zero if
// there should be none.
func (a *Audit) wanted(op Op) Op {
	switch op.Object {
	case ATunnel:
		return a.of.tunnel(op.MAC, a.of.route(op.MAC))
	case AFlood:
		return a.of.flood(op.Addr, a.of.flooded(op.Addr))
	case ABridging:
		return a.of.bridging(op.MAC, a.of.route(op.MAC))
	case ANeighbour:
		return a.of.neighbour(op.Addr, a.of.addrs.holder[op.Addr])
	}
	return Op{}
}

// Right reports whether the entries that were taken in are all that there should be.
func (a *Audit) Right() bool {
	want := len(a.of.macs.holder) + len(a.of.addrs.holder)
	for _, c := range a.of.macs.holder {
		if !c.local {
			want++ // its tunnel
		}
	}
	if a.of.Multicast {
		want += len(a.of.remotes)
	}
	return !a.wrong && a.right == want
}
