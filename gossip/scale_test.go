package gossip

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
	"github.com/weftnet/weft/underlay/lossy"
)

// traffic is what a cluster sent: bytes of streams without, datagrams with the heads of IP and UDP.
type traffic struct{ dials, streamed, members, facts atomic.Int64 }

// spent is a copy of it, with the requests for facts.
type spent struct{ dials, streamed, members, facts, pulls int64 }

func (s spent) bytes() int64 { return s.streamed + s.members + s.facts }

func (s spent) minus(o spent) spent {
	return spent{s.dials - o.dials, s.streamed - o.streamed, s.members - o.members, s.facts - o.facts, s.pulls - o.pulls}
}

// String implements fmt.Stringer.
func (s spent) String() string {
	return fmt.Sprintf("%d kB (%d in streams, %d of memberlist's datagrams, %d of ours), %d dials, %d pulls",
		s.bytes()/1000, s.streamed/1000, s.members/1000, s.facts/1000, s.dials, s.pulls)
}

// metered is a host's network stack that counts.
type metered struct {
	*lossy.Host
	t *traffic
}

// Dial implements underlay.Network.
func (m metered) Dial(ctx context.Context, source netip.Addr, to netip.AddrPort) (net.Conn, error) {
	m.t.dials.Add(1)
	conn, err := m.Host.Dial(ctx, source, to)
	if err != nil {
		return nil, err
	}
	return meteredConn{conn, m.t}, nil
}

// Listen implements underlay.Network.
func (m metered) Listen(at netip.AddrPort) (net.Listener, error) {
	l, err := m.Host.Listen(at)
	return meteredListener{l, m.t}, err
}

// ListenPacket implements underlay.Network.
func (m metered) ListenPacket(at netip.AddrPort, from netip.Addr) (underlay.PacketConn, error) {
	p, err := m.Host.ListenPacket(at, from)
	return meteredPackets{p, m.t}, err
}

type meteredListener struct {
	net.Listener
	t *traffic
}

// Accept implements net.Listener.
func (l meteredListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return meteredConn{conn, l.t}, nil
}

type meteredConn struct {
	net.Conn
	t *traffic
}

// Write implements net.Conn.
func (c meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.t.streamed.Add(int64(n))
	return n, err
}

type meteredPackets struct {
	underlay.PacketConn
	t *traffic
}

// WriteTo implements underlay.PacketConn.
func (p meteredPackets) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	size := int64(len(b) + 28)
	if len(b) > 2 && b[2] == packetMemberlist {
		p.t.members.Add(size)
	} else {
		p.t.facts.Add(size)
	}
	return p.PacketConn.WriteTo(b, to)
}

// ram is a disk that outlives its host.
type ram struct {
	mu   sync.Mutex
	kept map[string][]byte
}

// Load implements Disk.
func (r *ram) Load() (map[string][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.kept), nil
}

// Commit implements Disk.
func (r *ram) Commit(set map[string][]byte, del ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(r.kept, set)
	for _, key := range del {
		delete(r.kept, key)
	}
	return nil
}

// crowd is a cluster of many hosts with some endpoints each, on a network in memory.
type crowd struct {
	t       *testing.T
	net     *lossy.Net
	sent    traffic
	members []*one
	pulls   int64 // of starts that are over
	bounded bool
}

// one is a host of the crowd.
type one struct {
	*Gossip
	cfg   Config
	port  *underlay.Port
	facts map[netmap.Key]any
}

func numbered(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}) }

// boot starts hosts with some endpoints each at one moment. Each looks for the first three.
func boot(t *testing.T, hosts, endpoints int) *crowd {
	return bootIn(t, netmap.ClusterID{0xc1}, hosts, endpoints)
}

// bootIn starts them in a cluster, or as newcomers.
func bootIn(t *testing.T, cluster netmap.ClusterID, hosts, endpoints int) *crowd {
	c := &crowd{t: t, net: lossy.New(7, lossy.Link{Delay: 200 * time.Microsecond, Jitter: 50 * time.Microsecond})}
	var seeds []netip.AddrPort
	for n := range min(3, hosts) {
		seeds = append(seeds, netip.AddrPortFrom(numbered(n+1), 7950))
	}
	for n := 1; n <= hosts; n++ {
		at := netip.AddrPortFrom(numbered(n), 7950)
		m := &one{facts: map[netmap.Key]any{}}
		m.cfg = Config{
			Host: netmap.HostID{byte(n), byte(n >> 8), 15: 1}, Start: 1, Nonce: uint64(n)<<40 + 1, Cluster: cluster, Name: fmt.Sprint("host-", n),
			Advertise: at, Disk: &ram{kept: map[string][]byte{}}, Lone: n == 1, Peers: func(context.Context) []netip.AddrPort { return slices.Clone(seeds) },
		}
		m.facts[netmap.HostFactKey(m.cfg.Host)] = netmap.HostFact{Name: m.cfg.Name, Underlay: at, MTU: 1500, Version: "test"}
		for k := range endpoints {
			maps.Copy(m.facts, endpointOf(n, k).Facts())
		}
		c.members = append(c.members, m)
	}
	for _, m := range c.members {
		c.start(m)
	}
	return c
}

func endpointOf(host, n int) netmap.Endpoint {
	e := netmap.Endpoint{
		ID: netmap.EndpointID(fmt.Sprintf("%032x%032x", host, n)), Network: 5,
		V4: netip.AddrFrom4([4]byte{10, 32 + byte(host>>8), byte(host), byte(n)}), Name: fmt.Sprintf("web-%d-%d", host, n),
	}
	e.MAC = netmap.MACOf(e.V4)
	return e
}

func (c *crowd) start(m *one) {
	c.t.Helper()
	port, err := underlay.Open(underlay.Config{Listen: m.cfg.Advertise, Network: metered{c.net.Host(m.cfg.Advertise.Addr()), &c.sent}})
	if err != nil {
		c.t.Fatal(err)
	}
	m.port, m.cfg.Underlay, m.cfg.Packets = port, port, port.Packets()
	m.cfg.Handle = func(name string, h Handler) { port.Handle(name, h) }
	if m.Gossip, err = Start(m.cfg); err != nil {
		c.t.Fatal(err)
	}
	if err := m.Announce(m.facts, nil); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) stop(m *one) {
	c.t.Helper()
	c.pulls += int64(m.Stats().Pulls)
	if err := m.Close(); err != nil {
		c.t.Error(err)
	}
	if err := m.port.Close(); err != nil {
		c.t.Error(err)
	}
}

func (c *crowd) spent() spent {
	s := spent{c.sent.dials.Load(), c.sent.streamed.Load(), c.sent.members.Load(), c.sent.facts.Load(), c.pulls}
	for _, m := range c.members {
		s.pulls += int64(m.Stats().Pulls)
	}
	return s
}

// during is what is sent while virtual time passes.
func (c *crowd) during(d time.Duration) spent {
	before := c.spent()
	time.Sleep(d)
	return c.spent().minus(before)
}

// until waits for a condition of every host, and returns how long that took.
func (c *crowd) until(what string, limit time.Duration, ok func(*one) bool) time.Duration {
	c.t.Helper()
	begin, done := time.Now(), 0
	for time.Since(begin) < limit {
		for done < len(c.members) && ok(c.members[done]) {
			done++
		}
		if done == len(c.members) {
			return time.Since(begin)
		}
		time.Sleep(max(200*time.Microsecond, time.Since(begin)/40))
	}
	c.t.Fatalf("%s: not at host %d within %s", what, done+1, limit)
	return 0
}

func (c *crowd) knowsAllFacts(m *one) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.Gossip.facts.Origins()) == len(c.members)
}

func (c *crowd) knowsAllMembers(m *one) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.roster.live(m.cfg.Cluster)) >= len(c.members)-1
}

func (m *one) reaches(head netmap.Head) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, _ := m.Gossip.facts.Head(head.Origin)
	return h.Covers(head)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail for the own process
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bound fails the test when a figure is more than it may be.
func (c *crowd) bound(what string, got, most int64) {
	c.t.Helper()
	if c.bounded && got > most {
		c.t.Errorf("%s: %d, want at most %d", what, got, most)
	}
}

// TestWhatACrowdSends measures what a cluster sends when it boots, idles, when a container and
// when an agent starts. The bounds are at most twice what was measured when they were set.
// WEFT_CROWD=300x50 measures another size, without bounds.
func TestWhatACrowdSends(t *testing.T) {
	hosts, endpoints, size := 60, 5, os.Getenv("WEFT_CROWD")
	if size != "" {
		if _, err := fmt.Sscanf(size, "%dx%d", &hosts, &endpoints); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := boot(t, hosts, endpoints)
		c.bounded = size == ""
		defer func() {
			for _, m := range c.members {
				c.stop(m)
			}
			time.Sleep(time.Minute) // memberlist's last timers
		}()
		c.boots()
		idle := c.idles()
		c.containerStarts()
		c.agentStartsAgain(idle)
	})
}

func (c *crowd) boots() {
	begin, used := time.Now(), processorTime()
	facts := c.until("all facts", time.Minute, c.knowsAllFacts)
	c.until("all members", 5*time.Minute, c.knowsAllMembers)
	mesh, got := time.Since(begin), c.spent()
	c.t.Logf("boot of %d: all facts %s, full mesh %s; %s; %s of processor per host", len(c.members),
		facts.Round(time.Millisecond), mesh.Round(time.Millisecond), got, (processorTime()-used)/time.Duration(len(c.members)))
	c.bound("ms until all have all facts", facts.Milliseconds(), 1200)
	c.bound("ms until all know all", mesh.Milliseconds(), 2000)
	c.bound("bytes to boot", got.bytes(), 11e6)
	c.bound("dials to boot", got.dials, 4500)
	c.bound("pulls to boot", got.pulls, 3300)
}

// idles returns what the cluster sends in a second.
func (c *crowd) idles() int64 {
	hosts := int64(len(c.members))
	after := c.during(2 * time.Minute)
	c.t.Logf("the 2 minutes after: %d B/s per host: %s", after.bytes()/120/hosts, after)
	used := processorTime()
	idle := c.during(3 * time.Minute)
	c.t.Logf("idle: %d B/s per host, %s of processor per host and minute; %s", idle.bytes()/180/hosts, (processorTime()-used)/time.Duration(3*hosts), idle)
	c.bound("idle bytes a second per host", idle.bytes()/180/hosts, 750)
	c.bound("idle pulls", idle.pulls, 0)
	return idle.bytes() / 180
}

func (c *crowd) containerStarts() {
	before, first := c.spent(), c.members[0]
	if err := first.Announce(endpointOf(1, 200).Facts(), nil); err != nil {
		c.t.Fatal(err)
	}
	took := c.everywhere(first)
	got := c.spent().minus(before)
	c.t.Logf("a container starts: %s to all, %s", took, got)
	c.bound("µs until all know a container", took.Microseconds(), 1000)
	c.bound("bytes for a container", got.bytes(), 20e3)
}

func (c *crowd) agentStartsAgain(idle int64) {
	before, start := c.spent(), time.Now()
	last := c.members[len(c.members)-1]
	c.stop(last)
	last.cfg.Start++
	last.cfg.Nonce++
	c.start(last)
	took := c.everywhere(last)
	time.Sleep(time.Minute - time.Since(start))
	got := c.spent().minus(before)
	c.t.Logf("an agent starts again: %s to all; in a minute %s, of which idle %d kB", took, got, 60*idle/1000)
	c.bound("ms until all know a start", took.Milliseconds(), 50)
	c.bound("bytes for a start", got.bytes()-60*idle, 700e3)
	c.bound("dials for a start", got.dials, 250)
}

// everywhere waits until all have what a host has said.
func (c *crowd) everywhere(from *one) time.Duration {
	from.mu.Lock()
	want, _ := from.Gossip.facts.Head(from.cfg.Host)
	from.mu.Unlock()
	return c.until("facts of "+from.cfg.Name, time.Minute, func(m *one) bool { return m.reaches(want) && m.Synced() })
}
