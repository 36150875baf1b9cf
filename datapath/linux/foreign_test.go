package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
)

// foreign is a device that somebody else might make.
func foreign(name string) netlink.Link {
	return &netlink.Bridge{LinkAttrs: attrs(name, 1500)}
}

func down(t *testing.T, s *space, name string) {
	t.Helper()
	l, err := s.LinkByName(name)
	check(t, err)
	check(t, s.LinkSetDown(l))
}

func TestIntegrationForeignVXLAN(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	vni := int(h.device(1).VNI)
	set := func() error {
		_, err := h.k.Set(t.Context(), h.want())
		return err
	}
	refused := func(what string, want error, words ...string) {
		t.Helper()
		err := set()
		for _, w := range words {
			if !errors.Is(err, want) || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %v, want %v and the word %q", what, err, want, w)
			}
		}
	}
	source := net.IP(h.local.Source.AsSlice())
	check(t, h.ns.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs("mine", 1450), VxlanId: vni, Port: 4789, SrcAddr: source}))
	refused("our VNI", unix.EEXIST, "VXLAN device mine", fmt.Sprint(vni), "weft.vni")
	if _, err := h.k.Plug(t.Context(), datapath.Plugged{Device: h.device(1), Port: endpoint(1, 1)}); err == nil || !strings.Contains(err.Error(), "mine") {
		t.Errorf("Plug: %v", err)
	}
	check(t, h.ns.remove("mine"))
	check(t, set())

	// Others may use the port for VNIs of their own; not for all of them.
	check(t, h.ns.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs("other", 1450), VxlanId: 5, Port: 4789, SrcAddr: source}))
	h.ns.up(t, "other")
	check(t, h.k.overlay.remove("wfx100001"))
	check(t, set())
	check(t, h.ns.remove("other"))
	check(t, h.k.overlay.remove("wfx100001"))
	check(t, h.ns.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs("greedy", 1450), FlowBased: true, Port: 4789}))
	h.ns.up(t, "greedy")
	refused("the port", unix.EADDRINUSE, "VXLAN device greedy", "WEFT_VXLAN_PORT")
	check(t, h.ns.remove("greedy"))
	check(t, set())
	h.isWanted()
}

func TestIntegrationANetworkThatFailsHoldsUpNoOther(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	r.network(2, true)
	check(t, r.hosts[0].ns.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs("mine", 1450), VxlanId: int(r.hosts[0].device(1).VNI), Port: 4789, SrcAddr: net.IP{192, 0, 2, 1}}))
	a, b := r.hosts[0].start(2, 1), r.hosts[1].start(2, 2)
	r.hosts[1].set()
	if report, err := r.hosts[0].k.Set(t.Context(), r.hosts[0].want()); err == nil || len(report.Failed) != 1 {
		t.Errorf("want one failure, got %v", err)
	}
	a.reaches(b.port.V4, b.port.V6)
}

func TestIntegrationPlugTwice(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	p := datapath.Plugged{Device: h.device(1), Port: endpoint(1, 1)}
	first, err := h.k.Plug(t.Context(), p)
	check(t, err)
	l, err := h.ns.LinkByName(first)
	check(t, err)
	again, err := h.k.Plug(t.Context(), p)
	check(t, err)
	if same, err := h.ns.LinkByName(again); err != nil || same.Attrs().Index != l.Attrs().Index {
		t.Errorf("before it was moved: %v, %v", same, err)
	}
	check(t, h.k.Unplug(t.Context(), p.Port.Endpoint))
	a, b := h.start(1, 1), h.start(1, 2)
	_, err = h.k.Plug(t.Context(), p)
	check(t, err)
	a.reaches(b.port.V4) // its interface was left alone
	a.stop()
	a.stop()
	if _, err := a.ns.LinkByName("eth0"); err == nil {
		t.Error("the container's end is left after Unplug")
	}
}

func TestIntegrationALinkWithTheNameOfAPort(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	p := datapath.Plugged{Device: h.device(1), Port: endpoint(1, 1)}
	name := datapath.InnerName(p.Port.Endpoint)
	check(t, h.ns.LinkAdd(foreign(name)))
	if _, err := h.k.Plug(t.Context(), p); err == nil || !strings.Contains(err.Error(), "bridge device "+name) {
		t.Errorf("a foreign bridge: %v", err)
	}
	check(t, h.ns.remove(name))
	half := netlink.NewVeth(attrs(name, 1500))
	half.PeerName = "elsewhere"
	check(t, h.ns.LinkAdd(half))
	_, err := h.k.Plug(t.Context(), p)
	check(t, err)
	if l, err := h.ns.link("elsewhere"); err != nil || l != nil {
		t.Errorf("the stale pair is still there: %v, %v", l, err)
	}
}

// A container that died takes its port along; a Set cannot bring it back and says
// so, without failing.
func TestIntegrationAPortIsGone(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	check(t, a.ns.remove("eth0"))
	report := r.hosts[0].set()
	if len(report.Missing) != 1 || report.Missing[0] != a.port.Endpoint {
		t.Errorf("missing: %v", report.Missing)
	}
	// A port that nobody wants goes, also one that an agent before us plugged.
	check(t, r.hosts[1].k.Close())
	r.hosts[1].open()
	r.hosts[1].local.Ports = nil
	r.hosts[1].set()
	if _, err := b.ns.LinkByName("eth0"); err == nil {
		t.Error("a port that nobody wants stays")
	}
}

func TestIntegrationThePinIsTakenAway(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	h := r.hosts[0]
	check(t, unix.Unmount(h.cfg.Pin, unix.MNT_DETACH))
	h.set()
	check(t, h.k.Close())
	h.open()
	if h.k.overlay == nil {
		t.Fatal("the namespace was not pinned again")
	}
	h.set()
	a.reaches(b.port.V4)
}

func TestIntegrationUnderlay(t *testing.T) {
	r := newRig(t, 1, 1400)
	h := r.hosts[0]
	find := func(want string) Underlay {
		t.Helper()
		u, err := FindUnderlay(h.cfg, want, netip.Addr{})
		check(t, err)
		return u
	}
	v4 := Underlay{netip.MustParseAddr("192.0.2.1"), "eth0", 1400}
	v6 := Underlay{netip.MustParseAddr("2001:db8::1"), "eth0", 1400}
	for want, u := range map[string]Underlay{"eth0": v4, "192.0.2.0/24": v4, "192.0.2.1": v4, "2001:db8::/32": v6, "2001:db8::1": v6} {
		if got := find(want); got != u {
			t.Errorf("%s: got %+v, want %+v", want, got, u)
		}
	}
	for want, word := range map[string]string{"": "192.0.2.1 (eth0)", "10.0.0.0/8": "192.0.2.1 (eth0)", "eth9": "no device"} {
		if _, err := FindUnderlay(h.cfg, want, netip.Addr{}); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v", want, err)
		}
	}
	gw := net.ParseIP("192.0.2.254")
	check(t, h.ns.RouteAdd(&netlink.Route{Gw: gw}))
	if got := find(""); got != v4 {
		t.Errorf("with a default route: %+v", got)
	}
	check(t, h.ns.RouteAdd(&netlink.Route{Gw: gw, Dst: &net.IPNet{IP: net.IP{10, 1, 0, 0}, Mask: net.CIDRMask(16, 32)}}))
	routes, err := Routes(h.cfg)
	check(t, err)
	if got := fmt.Sprint(routes); got != "[{10.1.0.0/16 eth0} {192.0.2.0/24 eth0} {2001:db8::/64 eth0}]" {
		t.Errorf("routes %s", got)
	}
}

func TestIntegrationOpenChangesNothing(t *testing.T) {
	needRoot(t)
	pin := filepath.Join(t.TempDir(), "overlay")
	k, err := Open(Config{Pin: pin})
	check(t, err)
	s, err := k.Read(t.Context())
	check(t, err)
	if _, statErr := os.Stat(pin); len(s.Networks) > 0 || statErr == nil {
		t.Errorf("read %+v, pin %v", s, statErr)
	}
	check(t, k.Close())
}
