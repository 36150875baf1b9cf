package linux

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (s *space) cidr(t testing.TB, cidr string, flags int) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	check(t, err)
	a.Flags = flags
	return a
}

// TestIntegrationTheUnderlayThatIsInUseStays for as long as the host has it; what
// replaces it is of its family, lasting, and no bridge of containers.
func TestIntegrationTheUnderlayThatIsInUseStays(t *testing.T) {
	r := newRig(t, 1, 1500)
	h := r.hosts[0]
	eth0 := h.ns.up(t, "eth0")
	check(t, h.ns.RouteAdd(&netlink.Route{Gw: net.ParseIP("192.0.2.254")}))
	h.ns.address(t, "eth0", "192.0.2.77/24")
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	find := func(want string, current netip.Addr, wanted string) {
		t.Helper()
		u, err := FindUnderlay(h.cfg, want, current)
		if err != nil || u.Addr.String() != wanted {
			t.Errorf("%q, in use %s: got %s %v, want %s", want, current, u.Addr, err, wanted)
		}
	}
	none := func(want string, current netip.Addr, words ...string) {
		t.Helper()
		u, err := FindUnderlay(h.cfg, want, current)
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q, in use %s: got %s %v, want %q", want, current, u.Addr, err, w)
			}
		}
	}
	second := netip.MustParseAddr("192.0.2.77")
	find("", v4, "192.0.2.1")
	find("", second, "192.0.2.77") // not what the default route would say
	find("eth0", second, "192.0.2.77")
	find("192.0.2.0/24", second, "192.0.2.77")
	find("192.0.2.1", second, "192.0.2.1") // an operator asks for it
	find("eth0", v6, "2001:db8::1")

	check(t, h.ns.AddrDel(eth0, h.ns.cidr(t, "192.0.2.1/24", 0)))
	if all, err := h.ns.addresses(); err == nil && len(all) == 1 { // the kernel took the second one along
		h.ns.address(t, "eth0", "192.0.2.77/24")
	}
	find("", v4, "192.0.2.77")
	none("192.0.2.1", v4, "192.0.2.1", "192.0.2.77 (eth0)")
	check(t, h.ns.AddrDel(eth0, h.ns.cidr(t, "192.0.2.77/24", 0)))
	none("", v4, "no IPv4 address", "2001:db8::1 (eth0)", "WEFT_ADVERTISE")
	check(t, h.ns.LinkAdd(foreign("docker0")))
	h.ns.address(t, "docker0", "172.17.0.1/16")
	none("", v4, "no IPv4 address")

	// Of IPv6 addresses only those that last.
	check(t, h.ns.AddrDel(eth0, h.ns.cidr(t, "2001:db8::1/64", 0)))
	old := h.ns.cidr(t, "2001:db8::2/64", unix.IFA_F_NODAD)
	old.PreferedLft, old.ValidLft = 0, 3600 // deprecated
	check(t, h.ns.AddrAdd(eth0, old))
	if _, err := FindUnderlay(h.cfg, "", v6); !errors.Is(err, ErrNoAddress) {
		t.Errorf("only a deprecated address: %v", err)
	}
	h.ns.address(t, "eth0", "2001:db8::3/64")
	find("", v6, "2001:db8::3")
	down(t, h.ns, "eth0")
	if _, err := FindUnderlay(h.cfg, "eth7", netip.Addr{}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("no network at all: %v", err)
	}
}

// TestIntegrationTheKernelTellsOfTheUnderlay soon, once for several changes, and not of
// what containers do.
func TestIntegrationTheKernelTellsOfTheUnderlay(t *testing.T) {
	r := newRig(t, 1, 1500)
	h := r.hosts[0]
	ctx, stop := context.WithCancel(t.Context())
	told, ended := make(chan struct{}, 16), make(chan struct{})
	go func() {
		defer close(ended)
		WatchUnderlay(ctx, h.cfg, func() { told <- struct{}{} }, func(err error) { t.Error(err) })
	}()
	soon := func(what string) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(5 * time.Second):
			t.Errorf("not told: %s", what)
		}
	}
	soon("where it begins")
	eth0 := h.ns.up(t, "eth0")
	for what, change := range map[string]func(){
		"an address": func() {
			check(t, h.ns.AddrDel(eth0, h.ns.cidr(t, "192.0.2.1/24", 0)))
			check(t, h.ns.AddrAdd(eth0, h.ns.cidr(t, "192.0.2.50/24", 0)))
		},
		"an IPv6 address": func() { h.ns.address(t, "eth0", "2001:db8::50/64") },
		"the MTU":         func() { check(t, h.ns.LinkSetMTU(eth0, 1400)) },
		"a default route": func() {
			check(t, h.ns.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK}))
		},
	} {
		change()
		soon(what)
	}
	for range 20 {
		for _, name := range []string{"docker0", "veth0123456"} {
			check(t, h.ns.LinkAdd(foreign(name)))
			h.ns.up(t, name)
			check(t, h.ns.remove(name))
		}
	}
	select {
	case <-told:
		t.Error("told of a container's network")
	case <-time.After(2 * watchSilence):
	}
	stop()
	<-ended
}
