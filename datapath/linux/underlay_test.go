package linux

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

func TestIntegrationMTU(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	if l, err := a.ns.LinkByName("eth0"); err != nil || l.Attrs().MTU != 1450 || l.Attrs().HardwareAddr.String() != a.port.HardwareAddr().String() {
		t.Fatalf("the container got %+v, %v", l, err)
	}
	full := func(b *box, to netip.Addr, size int) {
		t.Helper()
		if out, err := b.run("ping", "-c", "1", "-W", "2", "-s", fmt.Sprint(size-28), to.String()); err != nil {
			t.Errorf("%d bytes do not arrive: %v\n%s", size, err, out)
		}
	}
	full(a, b.port.V4, 1450)
	// A third host with a smaller underlay joins: new containers get less, those
	// that run keep what they had.
	r.view.Hosts = append(r.view.Hosts, netmap.HostView{ID: netmap.HostID{9}, Entry: netmap.HostEntry{ID: netmap.HostID{9}}, Fact: netmap.HostFact{Underlay: netip.MustParseAddrPort("192.0.2.9:7950"), MTU: 1400}})
	c := r.hosts[0].start(1, 3)
	r.sync()
	if l, err := c.ns.LinkByName("eth0"); err != nil || l.Attrs().MTU != 1350 {
		t.Fatalf("a new container got %+v, %v", l, err)
	}
	full(a, b.port.V4, 1450)
	full(c, b.port.V4, 1350)
	for _, h := range r.hosts {
		h.isWanted()
	}
}

// TestIntegrationTheUnderlayCarriesLess than when a container was started: what it sends
// arrives all the same, and new containers get less.
func TestIntegrationTheUnderlayCarriesLess(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	for i, h := range r.hosts {
		check(t, h.ns.LinkSetMTU(h.ns.up(t, "eth0"), 1400))
		h.local.UnderlayMTU, r.view.Hosts[i].Fact.MTU = 1400, 1400
	}
	r.sync()
	whole := func(from *box, size int) {
		t.Helper()
		// The first packet may be answered with how much can be sent at once.
		if out, err := from.run("ping", "-c", "3", "-i", "0.2", "-W", "2", "-s", fmt.Sprint(size-28), b.port.V4.String()); strings.Contains(out, "100% packet loss") {
			t.Errorf("%d bytes do not arrive: %v\n%s", size, err, out)
		}
	}
	whole(a, 1450)
	c := r.hosts[0].start(1, 3)
	if l, err := c.ns.LinkByName("eth0"); err != nil || l.Attrs().MTU != 1350 {
		t.Fatalf("a new container got %+v, %v", l, err)
	}
	r.sync()
	whole(c, 1350)
}

// TestIntegrationTheUnderlayAddressChanges under running containers, on one host and then
// on the other, over both families: they reach each other, and their ports stay.
func TestIntegrationTheUnderlayAddressChanges(t *testing.T) {
	for family, format := range map[string]string{"IPv4": "192.0.2.%d/24", "IPv6": "2001:db8::%d/64"} {
		t.Run(family, func(t *testing.T) {
			r := newRig(t, 2, 1500)
			if family == "IPv6" {
				r.overV6()
			}
			r.network(1, true)
			a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
			r.sync()
			a.reaches(b.port.V4, b.port.V6)
			for i, h := range r.hosts {
				check(t, h.ns.AddrDel(h.ns.up(t, "eth0"), h.ns.cidr(t, fmt.Sprintf(format, i+1), 0)))
				h.ns.address(t, "eth0", fmt.Sprintf(format, i+51))
				p := netip.MustParsePrefix(fmt.Sprintf(format, i+51))
				h.local.Source, r.view.Hosts[i].Fact.Underlay = p.Addr(), netip.AddrPortFrom(p.Addr(), 7950)
				port, err := h.k.overlay.LinkByName(datapath.OuterName(h.local.Ports[0].Endpoint))
				check(t, err)
				r.sync()
				a.reaches(b.port.V4, b.port.V6)
				if same, err := h.k.overlay.LinkByName(port.Attrs().Name); err != nil || same.Attrs().Index != port.Attrs().Index {
					t.Errorf("the port was made anew: %v", err)
				}
				h.isWanted()
			}
		})
	}
}

// TestIntegrationJumboFramesAreUsed: over an underlay of 9,000 bytes a container sends 8,950 at once.
func TestIntegrationJumboFramesAreUsed(t *testing.T) {
	r := newRig(t, 2, 9000)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	eth0, err := a.ns.LinkByName("eth0")
	check(t, err)
	if got := eth0.Attrs().MTU; got != 8950 {
		t.Fatalf("a container got an MTU of %d", got)
	}
	before := r.hosts[0].ns.up(t, "eth0").Attrs().Statistics.TxPackets
	if out, err := a.run("ping", "-c", "30", "-i", "0.05", "-W", "2", "-s", fmt.Sprint(8950-28), b.port.V4.String()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if sent := r.hosts[0].ns.up(t, "eth0").Attrs().Statistics.TxPackets - before; sent >= 2*30 { // some are multicasts of the bridges
		t.Errorf("30 packets of 8,950 bytes left in %d", sent)
	}
}
