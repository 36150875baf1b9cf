package datapath_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/datapathtest"
	"github.com/weftnet/weft/netmap"
)

// schedule is a cluster of four hosts as host A sees it, and A's kernel.
type schedule struct {
	facts   *netmap.Map
	decided uint64
	local   datapath.Local
	model   *datapath.Model
	kernel  datapath.State

	unplugged []datapath.Port
	seen      *netmap.View   // of the last update
	updated   datapath.Local // the same
}

var drawnHosts = []netmap.HostID{{1}, {2}, {3}, {4}}

func newSchedule() *schedule {
	return &schedule{
		facts: netmap.NewMap(netmap.ClusterID{9}), model: datapath.NewModel(hostA),
		local: datapath.Local{Source: addr("192.0.2.1"), UnderlayMTU: 1500},
	}
}

func (s *schedule) decide(t *rapid.T, key netmap.Key, value any) {
	s.decided++
	records, err := netmap.RecordsOf(s.decided, []netmap.Change{{Key: key, Value: value}})
	if err == nil {
		_, err = s.facts.Apply(netmap.Batch{Origin: netmap.ClusterID{9}, Life: 1, Prev: s.decided - 1, Seq: s.decided, Records: records})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *schedule) say(t *rapid.T, host netmap.HostID, key netmap.Key, value any) {
	if _, err := s.facts.Append(host, 1, []netmap.Change{{Key: key, Value: value}}); err != nil {
		t.Fatal(err)
	}
}

func drawOne[T any](t *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(t, label) }

// drawNet draws one of four networks; the last has the VNI of the first.
func drawNet(t *rapid.T) netmap.Network {
	id := rapid.IntRange(1, 4).Draw(t, "network")
	return netmap.Network{
		ID: netmap.NetworkID(id), VNI: netmap.FirstVNI + netmap.VNI(id%3), Subnets: []netip.Prefix{prefix("10.32.0.0/20")},
		Multicast: rapid.Bool().Draw(t, "multicast"), MTU: drawOne(t, "mtu", 0, 0, 1400),
	}
}

func drawPort(t *rapid.T) datapath.Port {
	p := datapath.Port{
		Endpoint: netmap.EndpointID(fmt.Sprintf("%02x%062x", rapid.IntRange(1, 6).Draw(t, "endpoint"), 0)),
		Network:  netmap.NetworkID(rapid.IntRange(1, 4).Draw(t, "network")),
		MAC:      drawOne(t, "mac", netmap.MAC{}, netmap.MAC{}, netmap.MAC{2, 1}, netmap.MAC{2, 2}, netmap.MAC{1}),
	}
	if n := rapid.IntRange(0, 5).Draw(t, "v4"); n > 0 {
		p.V4 = netip.AddrFrom4([4]byte{10, 32, 0, byte(n)})
	}
	if n := rapid.IntRange(0, 4).Draw(t, "v6"); n > 2 {
		p.V6 = netip.MustParseAddr(fmt.Sprintf("fd00:32::%x", n))
	}
	return p
}

// happen lets one thing happen in the cluster or on the host.
func (s *schedule) happen(t *rapid.T) {
	switch host := drawOne(t, "host", drawnHosts...); rapid.IntRange(0, 13).Draw(t, "what") {
	default: // an endpoint is announced, another one than before under its id, or with another name
		p := drawPort(t)
		s.say(t, host, netmap.EndpointKey(p.Endpoint), netmap.Endpoint{ID: p.Endpoint, Network: p.Network, V4: p.V4, V6: p.V6, MAC: p.MAC})
		if rapid.Bool().Draw(t, "named") {
			name := drawOne(t, "name", "web", "db")
			s.say(t, host, netmap.NameKey(p.Endpoint), netmap.EndpointName{Endpoint: p.Endpoint, Name: name})
		}
	case 0, 1:
		s.say(t, host, netmap.EndpointKey(drawPort(t).Endpoint), nil)
	case 2, 3:
		underlay := drawOne(t, "underlay", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "2001:db8::1")
		fact := netmap.HostFact{Underlay: netip.AddrPortFrom(addr(underlay), 7950), MTU: drawOne(t, "host mtu", 0, 1500, 1400)}
		s.say(t, host, netmap.HostFactKey(host), drawOne[any](t, "has an address", nil, fact, fact, fact))
	case 4:
		s.decide(t, netmap.HostEntryKey(host), netmap.HostEntry{ID: host, Removed: host != hostA && rapid.IntRange(0, 3).Draw(t, "really") == 0})
	case 5:
		n := drawNet(t)
		s.decide(t, netmap.NetworkKey(n.ID), drawOne[any](t, "exists", nil, n, n, n))
	case 6, 7:
		s.join(drawNet(t))
	case 8, 9:
		s.plug(drawPort(t))
	case 10:
		if len(s.local.Ports) > 0 {
			p := drawOne(t, "port", s.local.Ports...)
			s.unplug(p, rapid.Bool().Draw(t, "known") || !slices.Contains(s.updated.Ports, p))
		}
	case 11:
		s.local.Synced = rapid.IntRange(0, 3).Draw(t, "synced") > 0
	case 12:
		s.local.UnderlayMTU = drawOne(t, "underlay mtu", 1500, 1450)
	}
}

// join has the host take part in a network, or leave it if it has no ports there.
func (s *schedule) join(n netmap.Network) {
	i := slices.IndexFunc(s.local.Networks, func(m netmap.Network) bool { return m.ID == n.ID })
	if i < 0 {
		s.local.Networks = append(slices.Clone(s.local.Networks), n)
		return
	}
	if !slices.ContainsFunc(s.local.Ports, func(p datapath.Port) bool { return p.Network == n.ID }) {
		s.local.Networks = slices.Delete(slices.Clone(s.local.Networks), i, i+1)
	}
}

// plug does what linux.Kernel does for a port, and the agent.
func (s *schedule) plug(p datapath.Port) {
	i := slices.IndexFunc(s.local.Networks, func(n netmap.Network) bool { return n.ID == p.Network })
	taken := slices.ContainsFunc(s.local.Ports, func(q datapath.Port) bool { return q.Endpoint == p.Endpoint })
	if i < 0 || taken {
		return
	}
	d := datapath.DeviceOf(s.facts.View(), hostA, s.local.Networks[i], s.local)
	if n, ok := s.kernel.Network(d.VNI); ok && n.ID == d.ID {
		s.kernel = s.kernel.With([]datapath.Plugged{{Device: d, Port: p}})
	}
	s.local.Ports = append(slices.Clone(s.local.Ports), p)
}

// unplug undoes plug. Of a port that an earlier agent plugged, the kernel's side does not know
// the addresses.
func (s *schedule) unplug(p datapath.Port, known bool) {
	s.local.Ports = slices.DeleteFunc(slices.Clone(s.local.Ports), func(q datapath.Port) bool { return q == p })
	ops := []datapath.Op{{Object: datapath.APort, Port: datapath.Bridged{Name: datapath.OuterName(p.Endpoint), Endpoint: p.Endpoint}}}
	for _, a := range []netip.Addr{p.V4, p.V6} {
		if a.IsValid() && known {
			ops = append(ops, datapath.Op{Object: datapath.ANeighbour, Addr: a})
		}
	}
	for _, n := range s.kernel.Networks {
		if n.ID != p.Network {
			continue
		}
		for _, op := range ops {
			op.Verb, op.Device = datapath.Delete, n.Device
			s.kernel = datapathtest.Apply(s.kernel, op)
		}
	}
	if known {
		s.unplugged = append(s.unplugged, p)
	}
}

// update lets the model do what it does, and compares.
func (s *schedule) update(t *rapid.T) {
	view := s.facts.View()
	needless := !s.model.Concerned(view.Since(s.seen)) && len(s.unplugged) == 0 && reflect.DeepEqual(s.local, s.updated)
	steps, whole := s.model.Update(view, s.local, s.unplugged)
	ops := slices.Collect(steps)
	s.unplugged, s.seen, s.updated = nil, view, s.local
	if needless && len(ops) > 0 {
		t.Fatalf("nobody would have asked for %v", ops)
	}
	want := datapath.Desired(view, hostA, s.local)
	if diff := cmp.Diff(want, s.model.State(), opts); diff != "" {
		t.Fatalf("-desired +model %s", diff)
	}
	if whole {
		ops = datapath.Diff(s.kernel, want)
	}
	goal := datapath.Goal(s.kernel, want)
	deleting := false
	for _, op := range ops {
		if deleting = deleting || op.Verb == datapath.Delete; deleting && op.Verb == datapath.Add {
			t.Fatalf("%v comes after a delete", op)
		}
		if deleting && want.Keep && !whole {
			t.Fatalf("%v although the facts are not synced", op)
		}
		s.kernel = datapathtest.Apply(s.kernel, op)
	}
	if diff := cmp.Diff(goal, s.kernel, shape); diff != "" {
		t.Fatalf("-goal +kernel %s\nby %v", diff, ops)
	}
}

// TestModelLeadsToWhatIsDesired holds the model against its specification: after any changes,
// in any order and any number at once, the operations lead to what Desired and Diff lead to.
func TestModelLeadsToWhatIsDesired(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule()
		for range rapid.IntRange(1, 30).Draw(t, "updates") {
			for range rapid.IntRange(0, 4).Draw(t, "things") {
				s.happen(t)
			}
			s.update(t)
		}
	})
}

// TestWhatFollowsFromAChange counts the operations of single changes: what the kernel does not
// need leads to none.
func TestWhatFollowsFromAChange(t *testing.T) {
	m := datapath.NewModel(hostA)
	one, other := endpoint(idA, hostB, "10.32.1.2"), endpoint(idB, hostB, "10.32.1.3")
	named, elsewhere, moved := one, other, one
	named.Name, elsewhere.Network, moved.Host = "web", 8, hostC
	if _, whole := m.Update(view(with(one)), local(), nil); !whole {
		t.Error("the first update does not ask for the kernel to be read")
	}
	last := view(with(one))
	for _, c := range []struct {
		what string
		view *netmap.View
		want int
	}{
		{"nothing", view(with(one)), 0},
		{"a name", view(with(named)), 0},
		{"an endpoint of a network that this host is not on", view(with(named, elsewhere)), 0},
		{"another endpoint", view(with(named, elsewhere, other)), 3},
		{"an endpoint moves", view(with(moved, other)), 2}, // its tunnel, and flooding to its host
		{"both go", view(), 8},
	} {
		if got := m.Concerned(c.view.Since(last)); got != (c.want > 0) {
			t.Errorf("%s: the model is concerned: %v", c.what, got)
		}
		last = c.view
		steps, whole := m.Update(c.view, local(), nil)
		ops := slices.Collect(steps)
		if len(ops) != c.want || whole {
			t.Errorf("%s: %d operations, want %d: %v", c.what, len(ops), c.want, ops)
		}
	}
}
