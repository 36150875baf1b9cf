package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
	"github.com/weftnet/weft/underlay/lossy"
)

var clusterID = netmap.ClusterID{0xc1, 0xaa}

const port = 7950

// sim is a cluster of agents' ledgers on a lossy network. Members come from an
// oracle that sees a host die after five seconds, as the gossip does.
type sim struct {
	t   testing.TB
	net *lossy.Net // nil: real sockets on loopback
	dir string

	removeAfter time.Duration // set before the hosts start

	mu    sync.Mutex
	hosts map[int]*simHost
}

type simHost struct {
	sim     *sim
	n       int
	addr    netip.Addr
	starts  uint64
	nonce   uint64
	traffic traffic
	// What an older copy of the disk knows: the starts that it made, and that no other did.
	earlier []state.Incarnation
	copies  uint64
	blind   atomic.Bool // its gossip knows nobody
	copied  func(context.Context) bool

	port   *underlay.Port
	ledger *ledger.Ledger
	log    lines

	mu       sync.Mutex
	at       netip.AddrPort
	up       bool
	downAt   time.Time
	trusted  []ledger.Peer    // the keepers that it knows when it starts
	named    []netip.AddrPort // by its operator
	keeper   bool
	index    uint64
	facts    map[netmap.Key]any
	disorder error
}

// lines are a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func hostID(n int) netmap.HostID { return netmap.HostID{byte(n), 0xbb} }

func newSim(t testing.TB, seed uint64, quality lossy.Link, hosts int) *sim {
	s := &sim{t: t, net: lossy.New(seed, quality), dir: t.TempDir(), hosts: map[int]*simHost{}}
	for n := 1; n <= hosts; n++ {
		s.hosts[n] = &simHost{sim: s, n: n, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}
		s.net.Host(s.hosts[n].addr)
	}
	return s
}

// newReal is the same on the kernel's sockets.
func newReal(t testing.TB, hosts int) *sim {
	s := &sim{t: t, dir: t.TempDir(), hosts: map[int]*simHost{}}
	for n := 1; n <= hosts; n++ {
		s.hosts[n] = &simHost{sim: s, n: n, addr: netip.MustParseAddr("127.0.0.1")}
	}
	return s
}

func (s *sim) port() uint16 {
	if s.net == nil {
		return 0
	}
	return port
}

func (s *sim) dirOf(n int) string { return filepath.Join(s.dir, fmt.Sprint(n)) }

func (h *simHost) network() underlay.Network {
	if h.sim.net == nil {
		return underlay.System()
	}
	return counted{h.sim.net.Host(h.addr), &h.traffic}
}

func (s *sim) close() {
	for _, n := range s.numbers() {
		s.hosts[n].stop()
	}
	if s.t.Failed() {
		for _, n := range s.numbers() {
			s.t.Logf("host-%d:\n%s", n, s.hosts[n].log.String())
		}
	}
}

func (s *sim) numbers() []int {
	var out []int
	for n := range s.hosts {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// start runs a host's agent, a new start of it if it ran before.
func (h *simHost) start() {
	t := h.sim.t
	t.Helper()
	h.starts++
	h.nonce = h.copies<<48 | uint64(h.n)<<32 | h.starts
	log := slog.New(slog.NewTextHandler(&h.log, nil))
	p, err := underlay.Open(underlay.Config{Listen: netip.AddrPortFrom(h.addr, h.sim.port()), Network: h.network(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.at = p.Addr()
	h.port, h.up, h.index, h.facts = p, true, 0, map[netmap.Key]any{}
	h.mu.Unlock()
	cluster := netmap.ClusterID{}
	if h.starts > 1 {
		cluster = clusterID
	}
	l, err := ledger.Open(ledger.Config{
		Self: hostID(h.n), Start: h.starts, Nonce: h.nonce, Earlier: h.earlier, Name: fmt.Sprintf("host-%d", h.n), Addr: h.at,
		Cluster: cluster, Dir: h.sim.dirOf(h.n), Underlay: p, Members: h.members, OnChange: h.onChange, Log: log,
		RemoveAfter: h.sim.removeAfter,
		OnKeeper:    h.onKeeper, Copied: h.copied, Trusted: h.trusted,
		Named: func(context.Context) []netip.AddrPort { return h.named },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.ledger = l
	h.mu.Unlock()
}

// onKeeper: a keeper that begins anew tells everything anew.
func (h *simHost) onKeeper(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keeper = on
	if !on {
		h.index = 0
	}
}

// keeps reports whether the host was told that it is a keeper.
func (h *simHost) keeps() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keeper
}

// stop ends a host's agent in order.
func (h *simHost) stop() {
	h.mu.Lock()
	up, l, p := h.up, h.ledger, h.port
	h.up, h.keeper, h.downAt = false, false, time.Now()
	h.mu.Unlock()
	if !up {
		return
	}
	start := time.Now()
	if err := errors.Join(l.Close(), p.Close()); err != nil {
		h.sim.t.Errorf("host-%d: close: %v", h.n, err)
	}
	if d := time.Since(start); d > 3*time.Second {
		h.sim.t.Errorf("host-%d: close took %s", h.n, d)
	}
}

// crash loses the power: nothing leaves the host any more.
func (h *simHost) crash() {
	h.sim.net.Host(h.addr).PowerOff()
	h.stop()
}

func (h *simHost) reboot() {
	h.sim.net.Host(h.addr).PowerOn()
	h.start()
}

// members is the oracle.
func (h *simHost) members() []ledger.Member {
	h.sim.mu.Lock()
	defer h.sim.mu.Unlock()
	if h.blind.Load() {
		return nil
	}
	var out []ledger.Member
	for _, n := range h.sim.numbers() {
		o := h.sim.hosts[n]
		o.mu.Lock()
		if o.port != nil {
			alive := o.up || time.Since(o.downAt) < 5*time.Second
			out = append(out, ledger.Member{ID: hostID(n), Name: fmt.Sprintf("host-%d", n), Addr: o.at, Alive: alive, Keeper: o.keeper || !o.up && o.n <= 3})
		}
		o.mu.Unlock()
	}
	return out
}

func (h *simHost) onChange(d ledger.Decision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.Index < h.index || d.Index == h.index && !d.Whole {
		h.disorder = fmt.Errorf("decision %d after %d", d.Index, h.index)
	}
	h.index = d.Index
	if d.Whole {
		clear(h.facts)
	}
	for _, c := range d.Changes {
		if c.Value == nil {
			delete(h.facts, c.Key)
		} else {
			h.facts[c.Key] = c.Value
		}
	}
}

func (h *simHost) blocks() map[netip.Prefix]netmap.Block {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[netip.Prefix]netmap.Block{}
	for _, v := range h.facts {
		if b, ok := v.(netmap.Block); ok {
			out[b.Prefix] = b
		}
	}
	return out
}

func (s *sim) found() {
	s.t.Helper()
	s.hosts[1].start()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	if _, err := s.hosts[1].ledger.Found(ctx, clusterID, []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}); err != nil {
		s.t.Fatal(err)
	}
}

// grow starts and admits hosts 2 to n and waits until three or five keep.
func (s *sim) grow(n int) {
	s.t.Helper()
	for i := 2; i <= n; i++ {
		s.hosts[i].start()
		if _, err := s.hosts[i].ledger.Admit(s.t.Context()); err != nil {
			s.t.Fatalf("host-%d: %v", i, err)
		}
	}
	if n >= 3 {
		want := 3
		if n >= 5 {
			want = 5
		}
		s.eventually("the keepers vote", 40*time.Second, func() bool { return len(s.voters()) == want })
	}
}

// voters are the keepers that the leader lists; none while there is no leader.
func (s *sim) voters() []netmap.HostID {
	l := s.leader()
	if l == nil {
		return nil
	}
	var out []netmap.HostID
	for _, p := range l.ledger.Status().Keepers {
		if p.Voter {
			out = append(out, p.ID)
		}
	}
	return out
}

func (s *sim) leader() *simHost {
	for _, n := range s.numbers() {
		if h := s.hosts[n]; h.up && h.ledger.Status().Role == "leader" {
			return h
		}
	}
	return nil
}

// eventually waits in (virtual) time for a condition.
func (s *sim) eventually(what string, limit time.Duration, ok func() bool) time.Duration {
	s.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			s.t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

// never watches, in virtual time, that a condition does not come true.
func (s *sim) never(what string, limit time.Duration, ok func() bool) {
	s.t.Helper()
	for start := time.Now(); time.Since(start) < limit; time.Sleep(10 * time.Millisecond) {
		if ok() {
			s.t.Fatalf("after %s: %s", time.Since(start), what)
		}
	}
}

func grant() state.Command {
	return state.Command{Kind: state.KindGrantBlock, GrantBlock: &state.GrantBlock{Subnet: subnet}}
}

var subnet = netip.MustParsePrefix("10.40.0.0/16")

func ensure() state.Command {
	return state.Command{Kind: state.KindEnsureSubnet, EnsureSubnet: &state.EnsureSubnet{Want: subnet, BlockBits: 28}}
}

func (h *simHost) do(cmd state.Command) state.Reply {
	h.sim.t.Helper()
	ctx, cancel := context.WithTimeout(h.sim.t.Context(), 5*time.Second)
	defer cancel()
	r, err := h.ledger.Do(ctx, cmd)
	if err != nil {
		h.sim.t.Fatalf("host-%d: %s: %v", h.n, cmd.Kind, err)
	}
	return r
}

// agree waits until all live keepers have told the same, and checks their order.
func (s *sim) agree() {
	s.t.Helper()
	s.eventually("all keepers know the same", 20*time.Second, func() bool {
		var first *simHost
		for _, n := range s.numbers() {
			h := s.hosts[n]
			if !h.up || !h.keeps() {
				continue
			}
			if first == nil {
				first = h
			}
			if first.ledger.Status().Applied != h.ledger.Status().Applied || !maps.Equal(first.blocks(), h.blocks()) {
				return false
			}
		}
		return first != nil
	})
	for _, n := range s.numbers() {
		if err := s.hosts[n].disorder; err != nil {
			s.t.Errorf("host-%d: %v", n, err)
		}
	}
}
