package linux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// rig is a few hosts on one wire: network namespaces, each with its own Kernel.
type rig struct {
	testing.TB
	view  netmap.View
	known []netmap.EndpointView // endpoints that all hosts know
	hosts []*labHost
	wire  *space
}

type labHost struct {
	*rig
	id    netmap.HostID
	ns    *space
	k     *Kernel
	cfg   Config
	local datapath.Local
}

// box stands for a container.
type box struct {
	testing.TB
	ns   *space
	host *labHost
	port datapath.Port
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("needs busybox at", busybox, "for ping and arping")
	}
}

const busybox = "/bin/busybox"

func newSpace(t testing.TB) *space {
	t.Helper()
	ns, err := netns.New()
	check(t, err)
	s, err := openSpace(ns)
	check(t, err)
	t.Cleanup(func() { check(t, s.close()) })
	s.up(t, "lo")
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *space) up(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := s.LinkByName(name)
	check(t, err)
	check(t, s.LinkSetUp(l))
	return l
}

func (s *space) address(t testing.TB, name, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	check(t, err)
	a.Flags = unix.IFA_F_NODAD
	check(t, s.AddrAdd(s.up(t, name), a))
}

// newRig makes n hosts, 192.0.2.1… and 2001:db8::1…, with an underlay MTU.
func newRig(t testing.TB, n, mtu int) *rig {
	t.Helper()
	needRoot(t)
	r := &rig{TB: t, wire: newSpace(t)}
	off := false
	check(t, r.wire.LinkAdd(&netlink.Bridge{LinkAttrs: attrs("wire", mtu), MulticastSnooping: &off}))
	r.wire.up(t, "wire")
	for i := 1; i <= n; i++ {
		h := &labHost{rig: r, id: netmap.HostID{byte(i)}, ns: newSpace(t)}
		end := netlink.NewVeth(attrs("eth0", mtu))
		end.PeerName, end.PeerNamespace = fmt.Sprint("host", i), netlink.NsFd(r.wire.ns.Fd())
		check(t, h.ns.LinkAdd(end))
		bridge, err := r.wire.LinkByName("wire")
		check(t, err)
		check(t, r.wire.LinkSetMaster(r.wire.up(t, end.PeerName), bridge))
		h.ns.address(t, "eth0", fmt.Sprintf("192.0.2.%d/24", i))
		h.ns.address(t, "eth0", fmt.Sprintf("2001:db8::%d/64", i))
		h.local = datapath.Local{Source: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), UnderlayMTU: mtu, Synced: true}
		h.cfg = Config{HostNS: fmt.Sprintf("/proc/self/fd/%d", h.ns.ns.Fd()), Pin: filepath.Join(t.TempDir(), "run/weft/netns/overlay")}
		h.open()
		t.Cleanup(func() {
			_, err := h.k.Cleanup(context.Background())
			check(t, err)
			check(t, h.k.Close())
		})
		r.hosts = append(r.hosts, h)
		r.view.Hosts = append(r.view.Hosts, netmap.HostView{ID: h.id, Entry: netmap.HostEntry{ID: h.id}, Fact: netmap.HostFact{Underlay: netip.AddrPortFrom(h.local.Source, 7950), MTU: mtu}})
	}
	return r
}

func (h *labHost) open() {
	h.Helper()
	k, err := Open(h.cfg)
	check(h, err)
	h.k = k
}

// overV6 moves the hosts to their IPv6 addresses.
func (r *rig) overV6() {
	for i, h := range r.hosts {
		h.local.Source = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1))
		r.view.Hosts[i].Fact.Underlay = netip.AddrPortFrom(h.local.Source, 7950)
	}
}

// network adds a dual stack network that all hosts take part in.
func (r *rig) network(id netmap.NetworkID, multicast bool) netmap.Network {
	n := netmap.Network{
		ID: id, VNI: netmap.FirstVNI + netmap.VNI(id), Multicast: multicast,
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/20"), netip.MustParsePrefix("fd00:32::/64")},
	}
	r.view.Networks = append(r.view.Networks, n)
	for _, h := range r.hosts {
		h.local.Networks = append(h.local.Networks, n)
	}
	return n
}

func (h *labHost) device(id netmap.NetworkID) datapath.Device {
	n, _ := h.view.Network(id)
	return datapath.DeviceOf(&h.view, h.id, n, h.local)
}

// endpoint is 10.32.0.n and fd00:32::n of a network.
func endpoint(network netmap.NetworkID, n int) datapath.Port {
	return datapath.Port{
		Endpoint: netmap.EndpointID(fmt.Sprintf("%04x%060x", n, network)), Network: network,
		V4: netip.AddrFrom4([4]byte{10, 32, byte(n >> 8), byte(n)}), V6: netip.MustParseAddr(fmt.Sprintf("fd00:32::%x", n)),
	}
}

// start does what happens when a container starts: the port is plugged, announced,
// and Docker moves its end.
func (h *labHost) start(network netmap.NetworkID, n int) *box {
	h.Helper()
	p := endpoint(network, n)
	name, err := h.k.Plug(h.Context(), datapath.Plugged{Device: h.device(network), Port: p})
	check(h, err)
	h.local.Ports = append(h.local.Ports, p)
	h.announce(p)
	b := &box{TB: h.TB, ns: newSpace(h), host: h, port: p}
	b.take(name)
	return b
}

func (h *labHost) announce(p datapath.Port) {
	h.known = append(h.known, netmap.EndpointView{Host: h.id, Endpoint: netmap.Endpoint{ID: p.Endpoint, Network: p.Network, V4: p.V4, V6: p.V6, MAC: p.MAC}})
}

// stop does what happens when a container stops.
func (b *box) stop() {
	b.Helper()
	check(b, b.host.k.Unplug(b.Context(), b.port.Endpoint))
	l := &b.host.local
	for i, p := range l.Ports {
		if p.Endpoint == b.port.Endpoint {
			l.Ports = append(l.Ports[:i:i], l.Ports[i+1:]...)
			break
		}
	}
	r := b.host.rig
	for i, e := range r.known {
		if e.ID == b.port.Endpoint {
			r.known = append(r.known[:i:i], r.known[i+1:]...)
			break
		}
	}
}

// sync lets every host do what it knows.
func (r *rig) sync() {
	r.Helper()
	for _, h := range r.hosts {
		h.set()
	}
}

func (h *labHost) want() datapath.State {
	return datapath.Desired(h.view.WithEndpoints(h.known...), h.id, h.local)
}

func (h *labHost) set() Report {
	h.Helper()
	report, err := h.k.Set(h.Context(), h.want())
	check(h, err)
	return report
}

func (h *labHost) read() datapath.State {
	h.Helper()
	s, err := h.k.Read(h.Context())
	check(h, err)
	return s
}

// run runs a busybox applet in the box.
func (b *box) run(args ...string) (string, error) {
	var out bytes.Buffer
	err := b.ns.ns.Do(func() error {
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, busybox, args...) // forked from this thread, so in its namespace
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	return out.String(), err
}

// reaches fails the test unless a single first packet is answered.
func (b *box) reaches(addrs ...netip.Addr) {
	b.Helper()
	for _, a := range addrs {
		if out, err := b.run("ping", "-c", "1", "-W", "2", a.String()); err != nil {
			b.Fatalf("%s does not reach %s: %v\n%s", b.port.V4, a, err, out)
		}
	}
}

func (b *box) doesNotReach(addrs ...netip.Addr) {
	b.Helper()
	for _, a := range addrs {
		if out, err := b.run("ping", "-c", "1", "-W", "1", a.String()); err == nil {
			b.Fatalf("%s reaches %s\n%s", b.port.V4, a, out)
		}
	}
}

// socket is a UDP socket in the box.
func (b *box) socket(addr string) net.PacketConn {
	b.Helper()
	var c net.PacketConn
	check(b, b.ns.ns.Do(func() (err error) {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(b.Context(), "udp4", addr)
		return err
	}))
	b.Cleanup(func() { check(b, c.Close()) })
	check(b, c.SetDeadline(time.Now().Add(5*time.Second)))
	return c
}

// tap shows the frames that pass a device, in an operator's words: "arp",
// "nd fd00::1" (who asks for whom), "ping", "udp", "other".
func (s *space) tap(t testing.TB, device string) (seen func() []string) {
	t.Helper()
	l, err := s.LinkByName(device)
	check(t, err)
	fd := -1
	check(t, s.ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Attrs().Index}) // ETH_P_ALL in network order
	}))
	t.Cleanup(func() { check(t, unix.Close(fd)) })
	return func() (out []string) {
		buf := make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EAGAIN) {
				return out
			}
			check(t, err)
			out = append(out, word(buf[:n]))
		}
	}
}

func word(frame []byte) string {
	kind, body := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	switch {
	case kind == unix.ETH_P_ARP:
		return "arp"
	case kind == unix.ETH_P_IP && body[9] == unix.IPPROTO_ICMP:
		return "ping"
	case kind == unix.ETH_P_IPV6 && body[6] == unix.IPPROTO_ICMPV6 && body[40] == 135:
		return "nd " + netip.AddrFrom16([16]byte(body[48:64])).String()
	case kind == unix.ETH_P_IPV6 && body[6] == unix.IPPROTO_ICMPV6 && body[40] == 128:
		return "ping"
	case kind == unix.ETH_P_IP && body[9] == unix.IPPROTO_UDP, kind == unix.ETH_P_IPV6 && body[6] == unix.IPPROTO_UDP:
		return "udp"
	}
	return "other"
}

// count counts the frames that are one of some words.
func count(frames []string, words ...string) (n int) {
	for _, f := range frames {
		if slices.Contains(words, f) {
			n++
		}
	}
	return n
}
