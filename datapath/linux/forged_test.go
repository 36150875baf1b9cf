package linux

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netmap"
)

// arp is a frame that says that an address is at a MAC.
func arp(to, at netmap.MAC, op uint16, says, asks netip.Addr) []byte {
	frame := append(append(to[:], at[:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, byte(op))
	frame = append(append(frame, at[:]...), says.AsSlice()...)
	return append(append(frame, to[:]...), asks.AsSlice()...)
}

// nd is a frame of neighbour discovery from an address, about a target, with one option.
func nd(to, at netmap.MAC, kind, option byte, from, dst, target netip.Addr) []byte {
	b := binary.BigEndian
	flags := uint32(0)
	if kind == advertisement {
		flags = 0x20000000 // it overrides
	}
	t, d := target.As16(), dst.As16()
	message := append(b.AppendUint32([]byte{kind, 0, 0, 0}, flags), t[:]...)
	message = append(append(message, option, 1), at[:]...)
	s := from.As16()
	sum := uint32(^checksum(d, message))
	for i := 0; i < 16; i += 2 {
		sum += uint32(b.Uint16(s[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	b.PutUint16(message[2:], ^uint16(sum))
	frame := append(append(to[:], at[:]...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255)
	return append(append(append(frame, s[:]...), d[:]...), message...)
}

// inVLAN puts priority tags into a frame, which the kernel takes off.
func inVLAN(frame []byte, tags int) []byte {
	out := append([]byte{}, frame[:12]...)
	for range tags {
		out = append(out, 0x81, 0, 0, 0)
	}
	return append(out, frame[12:]...)
}

// forgeries are frames of a box that say that addresses are at its MAC.
func (b *box) forgeries(victim netip.Addr, of *box, other netip.Addr) map[string][]byte {
	me, all, unicast := b.port.HardwareAddr(), netmap.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, of.port.HardwareAddr()
	if victim.Is4() {
		reply := arp(unicast, me, 2, victim, of.port.V4)
		return map[string][]byte{
			"a reply to everybody":       arp(all, me, 2, victim, victim),
			"a reply":                    reply,
			"a reply with a tag":         inVLAN(reply, 1),
			"a reply with two tags":      inVLAN(reply, 2),
			"a gratuitous request":       arp(all, me, 1, victim, victim),
			"a request for the client":   arp(unicast, me, 1, victim, of.port.V4),
			"a request for what is free": arp(all, me, 1, victim, other),
		}
	}
	unsolicited := nd(unicast, me, advertisement, 2, b.port.V6, of.port.V6, victim)
	allNodes := netip.IPv6LinkLocalAllNodes()
	return map[string][]byte{
		"an advertisement to everybody": nd(netmap.MAC{0x33, 0x33, 5: 1}, me, advertisement, 2, victim, allNodes, victim),
		"an advertisement from another": unsolicited,
		"an advertisement with a tag":   inVLAN(unsolicited, 1),
		"an advertisement, two tags":    inVLAN(unsolicited, 2),
		"a solicitation":                nd(unicast, me, solicitation, 1, victim, of.port.V6, of.port.V6),
	}
}

// TestIntegrationForgedAnnouncementsMoveNothing: whatever a container says about the address of another endpoint, on its own
// host or another, of a container or of a host, changes nobody's neighbours.
func TestIntegrationForgedAnnouncementsMoveNothing(t *testing.T) {
	for name, multicast := range map[string]bool{"multicast": true, "no multicast": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2, 1500)
			r.network(1, multicast)
			client, near, far := r.hosts[0].start(1, 1), r.hosts[0].start(1, 2), r.hosts[1].start(1, 3)
			victims := []*box{r.hosts[0].start(1, 4), r.hosts[1].start(1, 5)}
			r.sync()
			client.isQuick()
			for _, v := range victims {
				for _, addr := range []netip.Addr{v.port.V4, v.port.V6} {
					client.reaches(addr)
					for _, thief := range []*box{near, far} {
						client.survives(v, addr, thief)
					}
				}
			}
		})
	}
}

// isQuick has a box replace a young ARP entry, which Linux does not.
func (b *box) isQuick() {
	check(b, b.ns.ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/neigh/eth0/locktime", []byte("0"), 0) }))
}

// survives sends forgeries, and looks for what they did.
func (b *box) survives(v *box, addr netip.Addr, thief *box) {
	b.Helper()
	for what, frame := range thief.forgeries(addr, b, netip.MustParseAddr("10.32.0.99")) {
		thief.sends(frame)
		thief.reaches(b.port.V4) // behind it
		if got := b.macOf(addr); got != v.port.HardwareAddr() {
			b.Errorf("%s of %s on host %s moves %s to %s, it is %s's", what, thief.port.V4, thief.host.id.Short(), addr, got, v.port.HardwareAddr())
			check(b, b.ns.NeighDel(&netlink.Neigh{LinkIndex: b.ns.up(b, "eth0").Attrs().Index, IP: addr.AsSlice()}))
			b.reaches(addr)
		}
	}
}

// TestIntegrationTheGuardIsKept: it comes back when somebody deletes it, and another agent takes it over.
func TestIntegrationTheGuardIsKept(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	client, victim, thief := h.start(1, 1), h.start(1, 2), h.start(1, 3)
	r.sync()
	client.isQuick()
	client.reaches(victim.port.V4)
	client.survives(victim, victim.port.V4, thief)

	h.k.guard.conn.DelTable(&nftables.Table{Name: guardTable, Family: nftables.TableFamilyBridge})
	check(t, h.k.guard.conn.Flush())
	if now, err := h.k.Devices(t.Context()); err != nil || len(now.Networks) > 0 {
		t.Errorf("without the guard the devices are %v, %v", now, err)
	}
	if report := h.set(); report.Done == 0 {
		t.Error("nothing was done about a guard that is gone")
	}
	if now, err := h.k.Devices(t.Context()); err != nil || len(now.Networks) != 1 {
		t.Errorf("with the guard the devices are %v, %v", now, err)
	}
	client.survives(victim, victim.port.V4, thief)

	check(t, h.k.Close())
	h.open()
	client.survives(victim, victim.port.V4, thief)
	victim.stop() // while the agent did not run, so to say
	h.set()
	elements, err := h.k.guard.conn.GetSetElements(h.k.guard.sets["held4"])
	if err != nil || len(elements) != 2 {
		t.Errorf("%d addresses are held, want 2 (%v)", len(elements), err)
	}
	if elements, err = h.k.guard.conn.GetSetElements(h.k.guard.sets["own6"]); err != nil || len(elements) != 2 {
		t.Errorf("%d addresses are behind ports, want 2 (%v)", len(elements), err)
	}
	thief.sends(arp(netmap.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, thief.port.HardwareAddr(), 2, victim.port.V4, victim.port.V4))
	thief.reaches(client.port.V4)
	if got := client.macOf(victim.port.V4); got != thief.port.HardwareAddr() {
		t.Errorf("an address that no endpoint has any more is at %s", got)
	}
}

// TestIntegrationAFloodOfAnnouncementsLeavesNothing in the tables of any host: nothing is learned, neither MACs nor addresses.
func TestIntegrationAFloodOfAnnouncementsLeavesNothing(t *testing.T) {
	a, b, c := trio(t, true)
	all := netmap.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for n := range 500 {
		mac := netmap.MAC{2, 1, 2, 3, byte(n >> 8), byte(n)}
		from := netip.AddrFrom4([4]byte{10, 32, 8 + byte(n>>8), byte(n)})
		c.sends(arp(all, mac, 2, from, from))
	}
	c.reaches(a.port.V4, b.port.V4) // behind them
	for _, h := range a.host.hosts {
		h.isWanted()
		neighbours, err := h.k.overlay.NeighList(0, unix.AF_INET)
		check(t, err)
		entries, err := h.k.overlay.NeighList(0, unix.AF_BRIDGE)
		check(t, err)
		if len(neighbours) > 10 || len(entries) > 100 {
			t.Errorf("host %s has %d neighbours and %d entries of bridges", h.id.Short(), len(neighbours), len(entries))
		}
	}
}
