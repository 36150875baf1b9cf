package datapath_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/datapathtest"
	"github.com/weftnet/weft/netmap"
)

var (
	opts = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})}

	// shape ignores what only the plan cares for.
	shape = append(opts, cmpopts.IgnoreFields(datapath.State{}, "Keep"))
)

func drawDevice(t *rapid.T, vni netmap.VNI) datapath.Device {
	return datapath.Device{
		ID: netmap.NetworkID(rapid.IntRange(1, 2).Draw(t, "id")), VNI: vni,
		Bridge: datapath.BridgeName(vni), VXLAN: datapath.VXLANName(vni),
		MTU: rapid.SampledFrom([]int{1450, 1430}).Draw(t, "mtu"), PortMTU: rapid.SampledFrom([]int{1450, 1300}).Draw(t, "port mtu"),
		UDPPort:   rapid.SampledFrom([]uint16{4789, 4789, 8472}).Draw(t, "udp"),
		Source:    rapid.SampledFrom([]netip.Addr{addr("192.0.2.1"), addr("192.0.2.1"), addr("192.0.2.9")}).Draw(t, "source"),
		Multicast: rapid.Bool().Draw(t, "multicast"),
	}
}

// some draws a subset of 0…n-1.
func some(t *rapid.T, n int, label string) (out []int) {
	for i, yes := range rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, label) {
		if yes {
			out = append(out, i)
		}
	}
	return out
}

// drawNetwork takes its ports from free, so that no port is on two bridges.
func drawNetwork(t *rapid.T, vni netmap.VNI, free map[int]bool) datapath.Network {
	n := datapath.Network{Device: drawDevice(t, vni)}
	for _, i := range some(t, 4, "ports") {
		if free[i] {
			delete(free, i)
			id := netmap.EndpointID(fmt.Sprintf("%064x", i))
			n.Ports = append(n.Ports, datapath.Bridged{Name: fmt.Sprintf("wfp%d", i), Endpoint: id})
		}
	}
	for _, i := range some(t, 5, "macs") {
		m := netmap.MAC{2, byte(i)}
		to := rapid.IntRange(-3, len(n.Ports)-1).Draw(t, "to")
		if to >= 0 {
			n.Bridging = append(n.Bridging, datapath.Bridging{MAC: m, Port: n.Ports[to].Name})
			continue
		}
		n.Bridging = append(n.Bridging, datapath.Bridging{MAC: m, Port: n.VXLAN})
		n.FDB = append(n.FDB, datapath.Tunnel{MAC: m, VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(12 + to)})})
	}
	for _, i := range some(t, 4, "addrs") {
		n.Neighbours = append(n.Neighbours, datapath.Neighbour{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), MAC: netmap.MAC{2, byte(rapid.IntRange(0, 4).Draw(t, "mac"))}})
	}
	for _, i := range some(t, 3, "flood") {
		n.Flood = append(n.Flood, netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}))
	}
	return n
}

func drawState(t *rapid.T) datapath.State {
	free := map[int]bool{0: true, 1: true, 2: true, 3: true}
	var s datapath.State
	for _, i := range some(t, 3, "networks") {
		s.Networks = append(s.Networks, drawNetwork(t, netmap.FirstVNI+netmap.VNI(i), free))
	}
	s.Sort()
	return s
}

// drawRead is a state as it is read from a kernel that others have touched.
func drawRead(t *rapid.T) datapath.State {
	s := drawState(t)
	for i, n := range s.Networks {
		switch rapid.IntRange(0, 5).Draw(t, "harm") {
		case 0: // the VXLAN device is gone
			n = lose(n, true)
		case 1: // the bridge is gone: nothing is attached to anything
			for _, p := range n.Ports {
				s.Stray = append(s.Stray, p.Name)
			}
			s.Stray = append(s.Stray, n.VXLAN)
			n = lose(n, false)
			n.VXLAN = ""
		}
		s.Networks[i] = n
	}
	s.Networks = slices.DeleteFunc(s.Networks, func(n datapath.Network) bool { return n.Bridge == "" && n.VXLAN == "" })
	s.Sort()
	return s
}

func lose(n datapath.Network, vxlan bool) datapath.Network {
	d := n.Device
	s := datapath.State{Networks: []datapath.Network{n}}
	op := datapath.Op{Verb: datapath.Delete, Object: datapath.ABridge, Device: d}
	if vxlan {
		op.Object = datapath.AVXLAN
	}
	s = datapathtest.Apply(s, op)
	return s.Networks[0]
}

func applyAll(s datapath.State, ops []datapath.Op) datapath.State {
	for _, op := range ops {
		s = datapathtest.Apply(s, op)
	}
	return s
}

func TestDiffLeadsToTheGoal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := drawRead(t), drawState(t)
		want.Keep = rapid.Bool().Draw(t, "keep")
		goal := datapath.Goal(have, want)
		ops := datapath.Diff(have, want)
		got := applyAll(have, ops)
		if want.Keep {
			goal.Stray, got.Stray = nil, nil
		}
		if diff := cmp.Diff(goal, got, shape); diff != "" {
			t.Fatalf("-goal +got %s\nby %v", diff, ops)
		}
		if again := datapath.Diff(got, want); len(again) > 0 {
			t.Fatalf("a second time: %v", again)
		}
		if !want.Keep && !cmp.Equal(want, goal, shape) {
			t.Fatal("the goal is not what was wanted")
		}
	})
}

func TestDiffRepeatedChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := drawRead(t), drawState(t)
		ops := datapath.Diff(have, want)
		once := applyAll(have, ops)
		if diff := cmp.Diff(once, applyAll(once, ops), shape); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAddsComeBeforeDeletes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := datapath.Diff(drawRead(t), drawState(t))
		deleting := false
		for _, op := range ops {
			if op.Verb == datapath.Add && deleting {
				t.Fatalf("%v comes after a delete in %v", op, ops)
			}
			deleting = op.Verb == datapath.Delete
		}
	})
}

// Invariant 7: on the way, what worked before and shall work after never stops
// working, except where the VXLAN device itself is replaced.
func TestNothingThatStaysIsInterrupted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := drawState(t), drawState(t)
		want.Keep = rapid.Bool().Draw(t, "keep")
		goal := datapath.Goal(have, want)
		at := have
		for _, op := range datapath.Diff(have, want) {
			at = datapathtest.Apply(at, op)
			for _, n := range have.Networks {
				after, ok := goal.Network(n.VNI)
				if !ok || after.Source != n.Source || after.UDPPort != n.UDPPort {
					continue
				}
				now, _ := at.Network(n.VNI)
				stays(t, op, n.FDB, after.FDB, now.FDB)
				stays(t, op, n.Neighbours, after.Neighbours, now.Neighbours)
				stays(t, op, n.Flood, after.Flood, now.Flood)
				if cmp.Equal(n.Ports, after.Ports, opts) {
					stays(t, op, n.Bridging, after.Bridging, now.Bridging)
				}
			}
		}
	})
}

func stays[E comparable](t *rapid.T, op datapath.Op, before, after, now []E) {
	for _, e := range before {
		if slices.Contains(after, e) && !slices.Contains(now, e) {
			t.Fatalf("%s interrupts %v", op, e)
		}
	}
}

func TestKeepDeletesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := drawRead(t), drawState(t)
		want.Keep = true
		for _, op := range datapath.Diff(have, want) {
			if op.Verb == datapath.Delete && op.Object != datapath.ABridging {
				t.Fatalf("deletes: %s", op)
			}
		}
		if ops := datapath.Diff(have, datapath.State{Keep: true}); len(ops) > 0 {
			t.Fatalf("knowing nothing, does %v", ops)
		}
	})
}

func TestPluggedPortsStandAgainstOlderStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		p := datapath.Plugged{
			Device: drawDevice(t, netmap.FirstVNI+netmap.VNI(rapid.IntRange(0, 3).Draw(t, "vni"))),
			Port:   datapath.Port{Endpoint: idA, V4: netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 5).Draw(t, "addr"))}), MAC: netmap.MAC{2, byte(rapid.IntRange(0, 6).Draw(t, "mac"))}},
		}
		got := s.With([]datapath.Plugged{p})
		n, _ := got.Network(p.Device.VNI)
		outer := datapath.OuterName(idA)
		switch {
		case !slices.Contains(n.Ports, datapath.Bridged{Name: outer, Endpoint: idA}):
			t.Fatal("no port")
		case !slices.Contains(n.Bridging, datapath.Bridging{MAC: p.Port.MAC, Port: outer}):
			t.Fatal("no entry for its MAC")
		case !slices.Contains(n.Neighbours, datapath.Neighbour{Addr: p.Port.V4, MAC: p.Port.MAC}):
			t.Fatal("no answer for its address")
		case slices.ContainsFunc(n.FDB, func(f datapath.Tunnel) bool { return f.MAC == p.Port.MAC }):
			t.Fatal("its MAC still leads elsewhere")
		}
		gone := got.Without(func(id netmap.EndpointID) bool { return id == idA })
		for _, op := range datapath.Diff(gone, got) {
			if op.Verb == datapath.Delete {
				t.Fatalf("taking it off again left %s", op)
			}
		}
		n, _ = gone.Network(p.Device.VNI)
		if slices.ContainsFunc(n.Bridging, func(b datapath.Bridging) bool { return b.Port == outer }) || slices.ContainsFunc(n.Ports, func(b datapath.Bridged) bool { return b.Name == outer }) {
			t.Fatal("it is still there")
		}
	})
}

func TestDeletesAsCommands(t *testing.T) {
	full := datapath.Desired(view(with(endpoint(idB, hostB, "10.32.1.2"))), hostA, local(port(idA, "10.32.0.2")))
	bare := datapath.Desired(view(), hostA, local())
	text := func(have, want datapath.State) (lines []string) {
		for _, op := range datapath.Diff(have, want) {
			lines = append(lines, op.String())
		}
		return lines
	}
	want := []string{
		"ip neigh del 10.32.0.2 dev wfb100001",
		"ip neigh del 10.32.1.2 dev wfb100001",
		"bridge fdb del 02:57:0a:20:00:02 dev wfpaaaaaaaaaaaa master static",
		"bridge fdb del 02:57:0a:20:01:02 dev wfx100001 master static",
		"bridge fdb del 00:00:00:00:00:00 dev wfx100001 dst 192.0.2.2 self static",
		"bridge fdb del 02:57:0a:20:01:02 dev wfx100001 dst 192.0.2.2 self static",
		"ip link del wfpaaaaaaaaaaaa",
	}
	if diff := cmp.Diff(want, text(full, bare)); diff != "" {
		t.Error(diff)
	}
	bare.Stray = []string{"wfpold", "wfb9"}
	want = []string{"ip link del wfpold", "ip link del wfb9", "ip link del wfx100001", "ip link del wfb100001"}
	if diff := cmp.Diff(want, text(bare, datapath.State{})); diff != "" {
		t.Error(diff)
	}
}

func TestAMoveIsAReplacement(t *testing.T) {
	there := datapath.Desired(view(with(endpoint(idB, hostB, "10.32.1.2"))), hostA, local())
	elsewhere := datapath.Desired(view(with(endpoint(idB, hostC, "10.32.1.2"))), hostA, local())
	here := datapath.Desired(view(), hostA, local(port(idA, "10.32.1.2")))
	if got := fmt.Sprint(datapath.Diff(there, elsewhere)); got != "[bridge fdb replace 02:57:0a:20:01:02 dev wfx100001 dst 192.0.2.3 self static "+
		"bridge fdb append 00:00:00:00:00:00 dev wfx100001 dst 192.0.2.3 self static bridge fdb del 00:00:00:00:00:00 dev wfx100001 dst 192.0.2.2 self static]" {
		t.Error(got)
	}
	for _, op := range datapath.Diff(there, here) {
		if op.Verb == datapath.Delete && (op.Object == datapath.ABridging || op.Object == datapath.ANeighbour) {
			t.Errorf("%s on the way here", op)
		}
	}
}
