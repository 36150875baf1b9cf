package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/consul/consultest"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

const url = "http://127.0.0.1:8500"

// world is a host with containers, and the Consul agents that it reaches, by address.
type world struct {
	t       *testing.T
	consul  *consultest.Agent // at url
	dials   map[string]chan net.Conn
	dial    Dial
	state   string
	log     bytes.Buffer
	changed chan struct{}

	mu       sync.Mutex
	on       map[netmap.EndpointID]netmap.EndpointView
	removed  []netmap.HostID
	disk     map[string][]byte
	problems map[string]string
}

func newWorld(t *testing.T, token string) *world {
	w := &world{
		t: t, consul: consultest.New(token), state: t.TempDir(), changed: make(chan struct{}, 1), dials: map[string]chan net.Conn{},
		on: map[netmap.EndpointID]netmap.EndpointView{}, disk: map[string][]byte{}, problems: map[string]string{},
	}
	w.dial = w.pipe
	w.serve("127.0.0.1:8500", w.consul)
	return w
}

// serve has a Consul agent at an address.
func (w *world) serve(at string, agent http.Handler) {
	conns := make(chan net.Conn)
	w.dials[at] = conns
	s := &http.Server{Handler: agent, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go s.Serve(&listener{conns, make(chan struct{})})
	w.t.Cleanup(func() { s.Close() })
}

// listener accepts one end of pipes.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { close(l.closed); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

// pipe is a Dial.
func (w *world) pipe(ctx context.Context, _, at string) (net.Conn, error) {
	conns := w.dials[at]
	if conns == nil {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// View, Subscribe: the facts.
func (w *world) View() *netmap.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &netmap.View{}
	for _, id := range w.removed {
		v.Hosts = append(v.Hosts, netmap.HostView{ID: id, Entry: netmap.HostEntry{Removed: true}})
	}
	return v.WithEndpoints(slices.Collect(maps.Values(w.on))...)
}

func (w *world) Subscribe() (facts, rest <-chan struct{}, cancel func()) {
	return w.changed, make(chan struct{}), func() {}
}

// Load, Commit: the disk.
func (w *world) Load() (map[string][]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.disk), nil
}

func (w *world) Commit(set map[string][]byte, del ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.disk, set)
	for _, key := range del {
		delete(w.disk, key)
	}
	return nil
}

func (w *world) problem() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problems["consul"]
}

// agent starts an agent of this host. The function kills it.
func (w *world) agent(host netmap.HostID, url string) (r *Registrar, kill func()) {
	r = New(Config{
		URL: url, State: w.state, Self: host, Facts: w, Disk: w, Dial: w.dial, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Endpoint: func(id netmap.EndpointID) (attach.EndpointRecord, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			_, there := w.on[id]
			return attach.EndpointRecord{}, there
		},
		Problem: func(topic, sentence string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.problems[topic] = sentence
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	turn.Poke(w.changed)
	go func() { defer close(done); r.Run(ctx) }()
	kill = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(kill)
	return r, kill
}

// run starts container N of this host, of which Docker tells the agents.
func (w *world) run(n int, names netmap.EndpointName, metadata []string, told ...*Registrar) {
	id := netmap.EndpointID(fmt.Sprintf("%012x", n) + strings.Repeat("0", 52))
	names.Endpoint, names.Name, names.Short = id, fmt.Sprintf("c%d", n), fmt.Sprintf("%012d", n)
	w.mu.Lock()
	w.on[id] = netmap.EndpointView{Host: self, Names: &names, Endpoint: netmap.Endpoint{ID: id, Network: 1, V4: netip.AddrFrom4([4]byte{10, 32, 0, byte(n)})}}
	w.mu.Unlock()
	turn.Poke(w.changed)
	for _, r := range told {
		r.Told(dockerapi.Container{Names: map[netmap.EndpointID]netmap.EndpointName{id: names}, First: id, Image: "nginx", Metadata: words(metadata...)})
	}
}

func (w *world) stop(n int) {
	w.mu.Lock()
	delete(w.on, netmap.EndpointID(fmt.Sprintf("%012x", n)+strings.Repeat("0", 52)))
	w.mu.Unlock()
	turn.Poke(w.changed)
}

// answers fails unless a name has these addresses in Consul's DNS.
func (w *world) answers(name, want string) {
	w.t.Helper()
	if got := strings.Join(w.consul.Answer(name), " "); got != want {
		w.t.Errorf("%s.service.consul is %q, want %q", name, got, want)
	}
}

// within lets things happen for a while.
func within(d time.Duration) { time.Sleep(d); synctest.Wait() }

var web = netmap.EndpointName{App: "/web/customer1/site1", Services: tcp(8080)}
