package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
	"github.com/weftnet/weft/underlay/lossy"
)

var (
	ours   = netmap.ClusterID{0xc1, 15: 1}
	theirs = netmap.ClusterID{0xc2, 15: 2}
	lan    = lossy.Link{Delay: 200 * time.Microsecond, Jitter: 50 * time.Microsecond}
)

// form is the version of what hosts say to each other.
const form = 2

func id(n int) netmap.HostID { return netmap.HostID{0x10, byte(n), 15: byte(n)} }

// memory is a disk that outlives its host.
type memory struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func (m *memory) Load() (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.kept), nil
}

func (m *memory) Commit(set map[string][]byte, del ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = map[string][]byte{}
	}
	maps.Copy(m.kept, set)
	for _, key := range del {
		delete(m.kept, key)
	}
	return nil
}

// journal is a log that tests can read.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// host is one agent's gossip on a network in memory.
type host struct {
	*gossip.Gossip
	t      *testing.T
	cfg    gossip.Config
	stack  *lossy.Host
	port   *underlay.Port
	log    *journal
	clones chan gossip.Clone
	up     bool
}

// town is a network in memory and the hosts on it.
type town struct {
	t     *testing.T
	net   *lossy.Net
	hosts []*host
}

func newTown(t *testing.T, quality lossy.Link) *town {
	return &town{t: t, net: lossy.New(7, quality)}
}

func addrOf(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

// host makes host n of a cluster, which joins host 1, without starting it.
func (w *town) host(n int, cluster netmap.ClusterID) *host {
	h := &host{t: w.t, stack: w.net.Host(addrOf(n)), log: &journal{}, clones: make(chan gossip.Clone, 16)}
	h.cfg = gossip.Config{
		Host: id(n), Start: 1, Nonce: uint64(n)<<40 + 1, Cluster: cluster, Name: fmt.Sprint("host-", n),
		Advertise: netip.AddrPortFrom(addrOf(n), 7950), Disk: &memory{},
		OnClone: func(c gossip.Clone) { h.clones <- c },
		Log:     slog.New(slog.NewTextHandler(h.log, nil)),
	}
	h.cfg.Lone = true
	if n != 1 {
		h.named(addrOf(1))
	}
	w.hosts = append(w.hosts, h)
	return h
}

// named has a host look for others at these addresses.
func (h *host) named(addrs ...netip.Addr) {
	h.cfg.Lone = len(addrs) == 0
	h.cfg.Peers = func(context.Context) []netip.AddrPort {
		var out []netip.AddrPort
		for _, a := range addrs {
			out = append(out, netip.AddrPortFrom(a, 7950))
		}
		return out
	}
}

// start brings n hosts of our cluster up, each announcing one fact and waits
// until all know it.
func (w *town) start(n int) []*host {
	w.t.Helper()
	for i := range n {
		w.host(i+1, ours).start()
	}
	w.settled(30*time.Second, w.hosts...)
	return w.hosts
}

func (h *host) start(also ...netmap.Change) {
	h.t.Helper()
	port, err := underlay.Open(underlay.Config{Listen: h.cfg.Advertise, Network: h.stack})
	if err != nil {
		h.t.Fatal(err)
	}
	h.port = port
	h.cfg.Underlay, h.cfg.Packets = port, port.Packets()
	h.cfg.Handle = func(name string, handle gossip.Handler) { port.Handle(name, handle) }
	if h.Gossip, err = gossip.Start(h.cfg); err != nil {
		h.t.Fatal(err)
	}
	h.up = true
	h.say(append(also, h.fact())...)
}

func (h *host) fact() netmap.Change {
	return netmap.Change{Key: netmap.HostFactKey(h.cfg.Host), Value: netmap.HostFact{
		Name: h.cfg.Name, Underlay: h.cfg.Advertise, MTU: 1500, Version: "test", Keeper: h.cfg.Keeper,
	}}
}

func (h *host) stop() {
	h.t.Helper()
	if !h.up {
		return
	}
	h.up = false
	if err := h.Close(); err != nil {
		h.t.Error(err)
	}
	if err := h.port.Close(); err != nil {
		h.t.Error(err)
	}
}

// restart is the next start of the same host, which says what it is given.
func (h *host) restart(also ...netmap.Change) {
	h.t.Helper()
	h.stop()
	h.cfg.Start++
	h.cfg.Nonce++
	h.start(also...)
}

// say announces changes; a nil value withdraws.
func (h *host) say(changes ...netmap.Change) {
	h.t.Helper()
	set, del := map[netmap.Key]any{}, []netmap.Key(nil)
	for _, c := range changes {
		if c.Value == nil {
			del = append(del, c.Key)
		} else {
			set[c.Key] = c.Value
		}
	}
	if err := h.Announce(set, del); err != nil {
		h.t.Fatal(err)
	}
}

func container(host, n int) netmap.Change {
	e := netmap.Endpoint{
		ID: netmap.EndpointID(fmt.Sprintf("%032x%032x", host, n)), Network: 5,
		V4: netip.AddrFrom4([4]byte{10, 32, byte(host), byte(n)}), Name: fmt.Sprintf("web-%d-%d", host, n),
	}
	e.MAC = netmap.MACOf(e.V4)
	return netmap.Change{Key: netmap.EndpointKey(e.ID), Value: e}
}

func withdrawn(c netmap.Change) netmap.Change { return netmap.Change{Key: c.Key} }

func endpoints(v *netmap.View) []netmap.EndpointView { return slices.Collect(v.Endpoints()) }

func has(v *netmap.View, c netmap.Change) bool {
	return slices.ContainsFunc(endpoints(v), func(e netmap.EndpointView) bool { return e.ID == c.Value.(netmap.Endpoint).ID })
}

// pass lets virtual time pass, in which things happen or must not.
func (w *town) pass(d time.Duration) { time.Sleep(d) }

// until waits for a condition and says how long it took.
func (w *town) until(what string, limit time.Duration, ok func() bool) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for time.Since(begin) < limit {
		if ok() {
			return time.Since(begin)
		}
		time.Sleep(max(100*time.Microsecond, time.Since(begin)/50)) // virtual
	}
	w.t.Fatalf("%s did not happen within %s", what, limit)
	return 0
}

// settled waits until these hosts know each other and the same facts.
func (w *town) settled(limit time.Duration, hosts ...*host) time.Duration {
	w.t.Helper()
	return w.until("equal views", limit, func() bool { return w.difference(hosts) == "" })
}

func (w *town) difference(hosts []*host) string {
	for _, h := range hosts {
		alive := 0
		for _, m := range h.Members() {
			if m.Alive && m.Cluster == h.cfg.Cluster {
				alive++
			}
		}
		if alive < len(hosts)-1 || !h.Synced() || len(h.View().Hosts) < len(hosts) {
			return fmt.Sprintf("%s sees %d hosts alive, knows %d, synced %v", h.cfg.Name, alive, len(h.View().Hosts), h.Synced())
		}
		if !reflect.DeepEqual(hosts[0].View(), h.View()) {
			return h.cfg.Name + " has another view"
		}
	}
	return ""
}

// bubble runs a test in virtual time, stops its hosts and lets memberlist's last
// timers run out.
func bubble(t *testing.T, quality lossy.Link, test func(*testing.T, *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, quality)
		defer func() {
			for _, h := range w.hosts {
				h.stop()
			}
			time.Sleep(time.Minute)
		}()
		test(t, w)
	})
}
