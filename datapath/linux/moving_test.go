package linux

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netmap"
)

// trio is a network with a container on each of three hosts.
func trio(t *testing.T, multicast bool) (a, b, c *box) {
	r := newRig(t, 3, 1500)
	r.network(1, multicast)
	a, b, c = r.hosts[0].start(1, 1), r.hosts[1].start(1, 2), r.hosts[2].start(1, 3)
	r.sync()
	return a, b, c
}

// has gives a box one more address, or takes it away.
func (b *box) has(cidr string, yes bool) {
	b.Helper()
	if yes {
		b.ns.address(b, "eth0", cidr)
		return
	}
	addr, err := netlink.ParseAddr(cidr)
	check(b, err)
	check(b, b.ns.AddrDel(b.ns.up(b, "eth0"), addr))
}

// within waits until something is so.
func (b *box) within(d time.Duration, what string, is func() bool) {
	b.Helper()
	for deadline := time.Now().Add(d); !is(); {
		if time.Now().After(deadline) {
			b.Fatalf("not within %s: %s", d, what)
		}
	}
}

// TestIntegrationAVirtualAddressMoves is what keepalived does: an address that no endpoint has is
// reached from all hosts, and whoever announces it has it within a second.
func TestIntegrationAVirtualAddressMoves(t *testing.T) {
	a, b, c := trio(t, true)
	// Linux does not replace an ARP entry that is younger than that.
	check(t, a.ns.ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/neigh/eth0/locktime", []byte("0"), 0) }))
	v4, v6 := netip.MustParseAddr("10.32.0.77"), netip.MustParseAddr("fd00:32::77")
	b.has("10.32.0.77/20", true)
	b.has("fd00:32::77/64", true)
	a.reaches(v4, v6)
	c.reaches(v4, v6)
	if out, err := a.run("arping", "-D", "-c", "1", "-w", "2", "-I", "eth0", v4.String()); err == nil {
		t.Errorf("a probe for an address that is in use was not answered: %s", out)
	}
	b.has("10.32.0.77/20", false)
	b.has("fd00:32::77/64", false)
	c.has("10.32.0.77/20", true)
	c.has("fd00:32::77/64", true)
	if out, err := c.run("arping", "-A", "-c", "1", "-w", "1", "-I", "eth0", v4.String()); err == nil {
		t.Logf("arping: %s", out)
	}
	c.advertise(v6)
	for _, addr := range []netip.Addr{v4, v6} {
		a.within(time.Second, addr.String()+" is at the new MAC", func() bool { return a.macOf(addr) == c.port.HardwareAddr() })
	}
	a.reaches(v4, v6)
}

// macOf returns the MAC that the box has for an address.
func (b *box) macOf(a netip.Addr) netmap.MAC {
	b.Helper()
	entries, err := b.ns.NeighList(0, unix.AF_UNSPEC)
	check(b, err)
	for _, e := range entries {
		if addrOf(e.IP) == a && len(e.HardwareAddr) == 6 {
			return netmap.MAC(e.HardwareAddr)
		}
	}
	return netmap.MAC{}
}

// advertise sends an unsolicited neighbour advertisement that overrides what others have.
func (b *box) advertise(a netip.Addr) {
	b.Helper()
	mac, target := b.port.HardwareAddr(), a.As16()
	message := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, target[:]...)
	message = append(append(message, 2, 1), mac[:]...)
	check(b, b.ns.ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // nothing waits in it
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.Sendto(fd, message, 0, &unix.SockaddrInet6{Addr: netip.IPv6LinkLocalAllNodes().As16(), ZoneId: uint32(eth0.Index)})
	}))
}

// TestIntegrationMACsThatNoEndpointHas: what a container has behind its interface, such as a
// macvlan device or keepalived's virtual MAC, is reached from all hosts, and from another place at
// once when it appears there.
func TestIntegrationMACsThatNoEndpointHas(t *testing.T) {
	a, b, c := trio(t, true)
	addr := netip.MustParseAddr("10.32.0.88")
	for _, at := range []*box{b, c} {
		inside := newSpace(t)
		l, err := at.ns.LinkByName("eth0")
		check(t, err)
		vrrp := &netlink.Macvlan{LinkAttrs: attrs("vrrp0", 1400), Mode: netlink.MACVLAN_MODE_BRIDGE}
		vrrp.ParentIndex, vrrp.HardwareAddr = l.Attrs().Index, net.HardwareAddr{0, 0, 0x5e, 0, 1, 7}
		vrrp.Namespace = netlink.NsFd(inside.ns.Fd())
		check(t, at.ns.LinkAdd(vrrp))
		inside.address(t, "vrrp0", addr.String()+"/20")
		a.reaches(addr)
		check(t, inside.remove("vrrp0"))
	}
}

// TestIntegrationAMACOfAnEndpointDoesNotMove when a container on another host sends from it.
func TestIntegrationAMACOfAnEndpointDoesNotMove(t *testing.T) {
	a, b, c := trio(t, true)
	forged := b.port.HardwareAddr()
	frame := append(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, forged[:]...)
	c.sends(append(frame, 0x88, 0xb5)) // an EtherType for experiments
	a.reaches(b.port.V4, b.port.V6)
	c.reaches(b.port.V4)
	for _, h := range a.host.hosts {
		h.isWanted()
	}
}

// sends sends a frame as it is.
func (b *box) sends(frame []byte) {
	b.Helper()
	l, err := b.ns.LinkByName("eth0")
	check(b, err)
	check(b, b.ns.ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // nothing waits in it
		return unix.Sendto(fd, append(frame, make([]byte, 60)...), 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index})
	}))
}

// TestIntegrationGroupsCostMembersOnly: a group goes to the other hosts of the network and there
// to its members only, for IPv4 and IPv6; the groups of the local network, such as that of VRRP, go
// to all.
func TestIntegrationGroupsCostMembersOnly(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	from, member, other := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2), r.hosts[1].start(1, 3)
	r.sync()
	for _, h := range r.hosts {
		h.asksAtOnce("wfb100001")
	}
	for _, group := range []string{"239.1.2.3", "ff05::1234", "224.0.0.18"} {
		in := member.joins(group)
		seen := other.ns.tap(t, "eth0")
		member.within(10*time.Second, "the querier is in charge, and the member gets "+group, func() bool {
			from.toGroup(group)
			check(t, in.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			_, _, err := in.ReadFrom(make([]byte, 64))
			quiet := count(seen(), "udp") == 0
			return err == nil && quiet != (group == "224.0.0.18")
		})
	}
}

// asksAtOnce has the bridge wait a tenth of a second for answers in place of ten.
func (h *labHost) asksAtOnce(bridge string) {
	h.Helper()
	l, err := h.k.overlay.LinkByName(bridge)
	check(h, err)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_MCAST_QUERY_RESPONSE_INTVL, nl.Uint64Attr(10)) // clock ticks
	check(h, h.k.overlay.setLink(l, unix.RTM_NEWLINK, unix.AF_UNSPEC, info))
	b := l.(*netlink.Bridge)
	check(h, h.k.overlay.snoop(b, false))
	check(h, h.k.overlay.snoop(b, true))
}

// joins returns a socket that is a member of a group.
func (b *box) joins(group string) net.PacketConn {
	b.Helper()
	var c net.PacketConn
	check(b, b.ns.ns.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err = net.ListenMulticastUDP("udp", eth0, &net.UDPAddr{IP: net.ParseIP(group), Port: 5000})
		return err
	}))
	b.Cleanup(func() { check(b, c.Close()) })
	return c
}

// toGroup sends one packet.
func (b *box) toGroup(group string) {
	b.Helper()
	check(b, b.ns.ns.Do(func() error {
		to := &net.UDPAddr{IP: net.ParseIP(group), Port: 5000, Zone: "eth0"}
		if to.IP.To4() != nil {
			to.Zone = ""
		}
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: map[bool]net.IP{true: b.port.V4.AsSlice(), false: b.port.V6.AsSlice()}[to.IP.To4() != nil]}, to)
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("to the group"))
		return errors.Join(err, c.Close())
	}))
}

// TestIntegrationTheRouteOfGroups leads over the interface that came first, of several networks, and
// comes only once that is up.
func TestIntegrationTheRouteOfGroups(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	a := r.hosts[0].start(1, 1)
	second := netlink.NewVeth(attrs("eth1", 1500))
	second.PeerName, second.HardwareAddr = "peer", net.HardwareAddr{2, 0, 0, 0, 0, 9}
	check(t, a.ns.LinkAdd(second))
	a.ns.up(t, "peer")
	for _, at := range []struct {
		mac  netmap.MAC
		name string
	}{{netmap.MAC(second.HardwareAddr), ""}, {netmap.MAC{2, 9}, ""}, {a.port.HardwareAddr(), "eth0"}, {a.port.HardwareAddr(), "eth0"}} {
		if name, err := InContainer(a.ns.ns, at.mac, true); name != at.name || err != nil {
			t.Errorf("for %s: %q, %v", at.mac, name, err)
		}
	}
	a.ns.address(t, "eth1", "192.0.2.9/24")
	if name, err := InContainer(a.ns.ns, netmap.MAC(second.HardwareAddr), true); name != "eth1" || err != nil {
		t.Errorf("for a second network: %q, %v", name, err)
	}
	routes, err := a.ns.RouteGet(net.IPv4(239, 1, 2, 3))
	check(t, err)
	eth0, err := a.ns.LinkByName("eth0")
	check(t, err)
	if len(routes) != 1 || routes[0].LinkIndex != eth0.Attrs().Index {
		t.Errorf("a group is reached by %v", routes)
	}
}
