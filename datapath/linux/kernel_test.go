package linux

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

var same = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(datapath.State{}, "Keep")}

// isWanted fails unless the kernel holds exactly what the host wants (invariant 8).
func (h *labHost) isWanted() {
	h.Helper()
	if diff := cmp.Diff(h.want(), h.read(), same); diff != "" {
		h.Errorf("host %s: -want +kernel %s", h.local.Source, diff)
	}
}

func TestIntegrationContainersReachEachOther(t *testing.T) {
	for _, underlay := range []string{"IPv4", "IPv6"} {
		t.Run(underlay+" underlay", func(t *testing.T) {
			r := newRig(t, 3, 1500)
			if underlay == "IPv6" {
				r.overV6()
			}
			r.network(1, true)
			a, b, c, d := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2), r.hosts[2].start(1, 3), r.hosts[0].start(1, 4)
			r.sync()
			for _, from := range []*box{a, b, c, d} {
				for _, to := range []*box{a, b, c, d} {
					from.reaches(to.port.V4, to.port.V6)
				}
			}
			for _, h := range r.hosts {
				h.isWanted()
				if report := h.set(); report.Done+len(report.Notes) > 0 {
					t.Errorf("a second Set did %d operations, notes %v", report.Done, report.Notes)
				}
			}
		})
	}
}

func TestIntegrationNetworksAreIsolated(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	r.network(2, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	x, y := r.hosts[0].start(2, 3), r.hosts[1].start(2, 4)
	r.sync()
	a.reaches(b.port.V4, b.port.V6)
	x.reaches(y.port.V4, y.port.V6)
	a.doesNotReach(x.port.V4, y.port.V4, y.port.V6)
	x.doesNotReach(b.port.V4)
}

// A known address that lives nowhere is resolved all the same, and nothing was
// asked of the other hosts. With multicast that is so for ARP only.
func TestIntegrationKnownAddressesAreAnsweredLocally(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, false)
	a := r.hosts[0].start(1, 1)
	ghost := endpoint(1, 9)
	r.hosts[1].announce(ghost)
	r.sync()
	seen := r.hosts[0].k.overlay.tap(t, r.hosts[0].device(1).VXLAN)
	if out, err := a.run("arping", "-c", "1", "-w", "2", "-I", "eth0", ghost.V4.String()); err != nil {
		t.Fatal(err, out)
	}
	if frames := seen(); count(frames, "arp") != 0 {
		t.Errorf("the host has sent %v for ARP", frames)
	}
	a.doesNotReach(ghost.V6) // asks for its MAC before it sends
	if got := a.macOf(ghost.V6); got != ghost.HardwareAddr() {
		t.Errorf("ND for %s was answered with %q, want %s", ghost.V6, got, ghost.HardwareAddr())
	}
	if frames := seen(); count(frames, "nd "+ghost.V6.String()) != 0 || count(frames, "ping") != 1 {
		t.Errorf("the host has sent %v for ND and a ping, want the ping alone", frames)
	}
	r.view.Networks[0].Multicast = true
	r.sync()
	if out, err := a.run("arping", "-c", "1", "-w", "2", "-I", "eth0", ghost.V4.String()); err != nil {
		t.Fatal(err, out)
	}
	if frames := seen(); count(frames, "arp") != 0 {
		t.Errorf("with multicast, the host has sent %v for ARP", frames)
	}
	if out, err := a.run("arping", "-c", "1", "-w", "1", "-I", "eth0", "10.32.0.77"); err == nil {
		t.Error("an unknown address was answered:", out)
	}
	if frames := seen(); count(frames, "arp") == 0 {
		t.Error("ARP for an unknown address was not flooded")
	}
}

func TestIntegrationKnownUnicastIsNotFlooded(t *testing.T) {
	r := newRig(t, 3, 1500)
	r.network(1, true)
	a, b, c := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2), r.hosts[2].start(1, 3)
	neighbour := r.hosts[0].start(1, 4)
	r.sync()
	there, next := c.ns.tap(t, "eth0"), neighbour.ns.tap(t, "eth0")
	if out, err := a.run("ping", "-c", "20", "-i", "0.01", b.port.V4.String()); err != nil {
		t.Fatal(err, out)
	}
	if frames := there(); count(frames, "ping", "arp") > 0 {
		t.Errorf("a third host's container saw %v", frames)
	}
	if frames := next(); count(frames, "ping") > 0 { // the question is a broadcast on its own host
		t.Errorf("the container next door saw %v", frames)
	}
}

func TestIntegrationBroadcast(t *testing.T) {
	for _, multicast := range []bool{true, false} {
		t.Run(fmt.Sprintf("multicast=%v", multicast), func(t *testing.T) {
			r := newRig(t, 3, 1500)
			r.network(1, multicast)
			a, b, c := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2), r.hosts[2].start(1, 3)
			d := r.hosts[0].start(1, 4)
			r.sync()
			out := a.socket(":0")
			for _, to := range []*box{b, c, d} {
				in := to.socket(":9999")
				send(t, out, "10.32.15.255:9999", "to all")
				send(t, out, to.port.V4.String()+":9999", "to you") // comes after the broadcast, if that comes
				want := "to you"
				if multicast || to == d {
					want = "to all"
				}
				buf := make([]byte, 64)
				n, _, err := in.ReadFrom(buf)
				check(t, err)
				if got := string(buf[:n]); got != want {
					t.Errorf("%s got %q first, want %q", to.port.V4, got, want)
				}
			}
		})
	}
}

func send(t *testing.T, c net.PacketConn, to, what string) {
	t.Helper()
	_, err := c.WriteTo([]byte(what), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
	check(t, err)
}

func TestIntegrationAnAddressMoves(t *testing.T) {
	r := newRig(t, 3, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	a.reaches(b.port.V4, b.port.V6)
	b.stop()
	r.sync()
	a.doesNotReach(b.port.V4)
	b = r.hosts[2].start(1, 2)
	r.sync()
	a.reaches(b.port.V4, b.port.V6) // although a remembers its MAC
	b.stop()
	b = r.hosts[0].start(1, 2)
	a.reaches(b.port.V4, b.port.V6) // at once, before any Set
	r.sync()
	a.reaches(b.port.V4, b.port.V6)
	for _, h := range r.hosts {
		h.isWanted()
	}
}

// Whatever somebody does to our devices, the next Set puts it right, and what
// still works meanwhile is left alone.
func TestIntegrationDriftIsRepaired(t *testing.T) {
	drifts := map[string]func(*testing.T, *space){
		"bridge deleted": func(t *testing.T, s *space) { check(t, s.remove("wfb100001")) },
		"vxlan deleted":  func(t *testing.T, s *space) { check(t, s.remove("wfx100001")) },
		"both deleted":   func(t *testing.T, s *space) { check(t, s.remove("wfb100001")); check(t, s.remove("wfx100001")) },
		"bridge down":    func(t *testing.T, s *space) { down(t, s, "wfb100001") },
		"vxlan down":     func(t *testing.T, s *space) { down(t, s, "wfx100001") },
		"port down":      func(t *testing.T, s *space) { down(t, s, datapath.OuterName(endpoint(1, 1).Endpoint)) },
		"port detached": func(t *testing.T, s *space) {
			check(t, s.LinkSetNoMaster(s.up(t, datapath.OuterName(endpoint(1, 1).Endpoint))))
		},
		"learning on":       func(t *testing.T, s *space) { check(t, s.LinkSetLearning(s.up(t, "wfx100001"), true)) },
		"no proxy_arp_wifi": func(t *testing.T, s *space) { check(t, s.LinkSetBrProxyArpWiFi(s.up(t, "wfx100001"), false)) },
		"mtu": func(t *testing.T, s *space) {
			check(t, s.LinkSetMTU(s.up(t, "wfb100001"), 1300))
		},
		"entries deleted": func(t *testing.T, s *space) {
			n, err := s.read()
			check(t, err)
			alter(t, s, datapath.Diff(n, datapath.State{Networks: []datapath.Network{{Device: n.Networks[0].Device, Ports: n.Networks[0].Ports}}}))
		},
		"entries wrong and too many": func(t *testing.T, s *space) {
			n, err := s.read()
			check(t, err)
			m := n.Networks[0]
			for i := range m.FDB {
				m.FDB[i].VTEP = netip.MustParseAddr("192.0.2.77")
			}
			m.Neighbours = append(m.Neighbours, datapath.Neighbour{Addr: netip.MustParseAddr("10.32.0.99"), MAC: netmap.MAC{2}})
			m.Flood = append(m.Flood, netip.MustParseAddr("192.0.2.78"))
			have, err := s.read()
			check(t, err)
			alter(t, s, datapath.Diff(have, n))
			alter(t, s, datapath.Diff(have, datapath.State{Networks: []datapath.Network{m}}))
		},
		"a device with our name": func(t *testing.T, s *space) {
			check(t, s.remove("wfb100001"))
			check(t, s.LinkAdd(foreign("wfb100001")))
			check(t, s.LinkAdd(foreign("wfpstale")))
		},
	}
	for name, drift := range drifts {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2, 1500)
			r.network(1, true)
			a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
			r.sync()
			drift(t, r.hosts[0].k.overlay)
			if report := r.hosts[0].set(); report.Done == 0 {
				t.Error("nothing was repaired")
			}
			r.hosts[0].isWanted()
			if report := r.hosts[0].set(); report.Done > 0 {
				t.Errorf("a second Set did %d operations", report.Done)
			}
			a.reaches(b.port.V4, b.port.V6)
		})
	}
}

// alter carries operations on entries out, as somebody else might.
func alter(t *testing.T, s *space, ops []datapath.Op) {
	t.Helper()
	links, err := s.names()
	check(t, err)
	var batch []entry
	for _, op := range ops {
		e, ok := newEntry(op, links)
		if !ok || op.Object < datapath.ATunnel {
			t.Fatal(op)
		}
		batch = append(batch, e)
	}
	answers, err := s.send(batch)
	check(t, err)
	for i, err := range answers {
		if err != nil {
			t.Fatal(ops[i], err)
		}
	}
}

func TestIntegrationKeepKeeps(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	full := r.hosts[0].read()

	// The agent is killed and a new one knows its networks at most.
	check(t, r.hosts[0].k.Close())
	r.hosts[0].open()
	for _, want := range []datapath.State{
		{Keep: true},
		datapath.Desired(nil, r.hosts[0].id, datapath.Local{Networks: r.hosts[0].local.Networks, Source: r.hosts[0].local.Source}),
	} {
		report, err := r.hosts[0].k.Set(t.Context(), want)
		check(t, err)
		if diff := cmp.Diff(full, r.hosts[0].read(), same); diff != "" || report.Done > 0 {
			t.Fatalf("knowing little, it did %d operations: %s", report.Done, diff)
		}
		a.reaches(b.port.V4, b.port.V6)
	}
	report, err := r.hosts[0].k.Set(t.Context(), datapath.State{})
	check(t, err)
	if got := r.hosts[0].read(); len(got.Networks)+len(got.Stray) > 0 {
		t.Errorf("knowing that there is nothing, it left %+v after %d operations", got, report.Done)
	}
}

func TestIntegrationCleanupLeavesNothing(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	h := r.hosts[0]
	a := h.start(1, 1)
	if _, err := h.k.Plug(t.Context(), datapath.Plugged{Device: h.device(1), Port: endpoint(1, 5)}); err != nil {
		t.Fatal(err)
	}
	r.sync()
	check(t, h.k.Close())
	h.open() // another process cleans up
	removed, err := h.k.Cleanup(t.Context())
	check(t, err)
	for _, want := range []string{"bridge wfb100001", "vxlan wfx100001", "veth " + datapath.OuterName(a.port.Endpoint), h.cfg.Pin} {
		if !strings.Contains(strings.Join(removed, "\n"), want) {
			t.Errorf("%s is not among what was removed: %q", want, removed)
		}
	}
	links, err := h.ns.LinkList()
	check(t, err)
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "wf") {
			t.Errorf("%s is left in the host's namespace", l.Attrs().Name)
		}
	}
	if _, err := a.ns.LinkByName("eth0"); err == nil {
		t.Error("the container's end is left")
	}
	if removed, err := h.k.Cleanup(t.Context()); err != nil || len(removed) > 0 {
		t.Errorf("a second time: %v, %v", removed, err)
	}
}
