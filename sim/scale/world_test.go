package scale_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/underlay/lossy"
)

// web is the network that all hosts are on: as many addresses as 1,000 hosts with 50
// containers need. Containers of Docker get theirs from its lower half, by blocks; invented
// ones are in the upper half.
var web = dockerapi.ReplicaSpec{
	Name: "web", Driver: plugintest.Driver,
	Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.64.0.0/14")}}},
}

// invented is endpoint i of host n, counted from 1, as its host announces it.
func invented(network netmap.NetworkID, n, i int) netmap.Endpoint {
	at := uint32(10<<24|66<<16) + uint32(n<<7) + uint32(i)
	e := netmap.Endpoint{
		ID: netmap.EndpointID(fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%d.%d", n, i)))), Network: network,
		V4: netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)}), Name: fmt.Sprintf("web-%d-%d", n, i),
	}
	e.MAC = netmap.MACOf(e.V4)
	return e
}

// inventedOf are the facts of n endpoints of a host, from one on.
func inventedOf(network netmap.NetworkID, host, from, n int) map[netmap.Key]any {
	facts := map[netmap.Key]any{}
	for i := from; i < from+n; i++ {
		maps.Copy(facts, invented(network, host, i).Facts())
	}
	return facts
}

// world is a cluster in a bubble.
type world struct {
	t         *testing.T
	scope     scope
	dir       string
	net       *lossy.Net
	endpoints int // invented ones of each host
	network   netmap.NetworkID
	hosts     []*host
}

// host is a machine with an agent.
type host struct {
	w       *world
	n       int
	addr    netip.Addr
	traffic traffic
	docker  *plugintest.Engine
	booted  time.Time

	agent  *plugin.Agent
	gossip *crowded
	server *rpc.Server
	gone   chan struct{}
}

func newWorld(t *testing.T, dir string, hosts, endpoints int) *world {
	w := &world{t: t, dir: dir, endpoints: endpoints, net: lossy.New(1, lossy.Link{Delay: 200 * time.Microsecond, Jitter: 50 * time.Microsecond})}
	for n := 1; n <= hosts; n++ {
		h := &host{w: w, n: n, addr: netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), booted: time.Now()}
		h.docker = plugintest.NewEngine(h.name())
		w.hosts = append(w.hosts, h)
		w.net.Host(h.addr)
	}
	return w
}

func (h *host) name() string { return fmt.Sprintf("host-%d", h.n) }

// clocks are those of the bubble: the kernel's would stand still.
func (h *host) clocks() (lease.Moment, error) {
	return lease.Moment{Boot: h.booted.String(), Up: time.Since(h.booted), Wall: time.Now()}, nil
}

// forgetful is a kernel that takes everything and keeps nothing: the real one is measured by
// TestProcess.
type forgetful struct{ *plugintest.Kernel }

// Set implements plugin.Kernel.
func (forgetful) Set(context.Context, datapath.State) (int, error) { return 0, nil }

func (forgetful) Apply(context.Context, []datapath.Op) error { return nil }

// crowded is the agent's gossip, with invented endpoints in its first announcement.
type crowded struct {
	*gossip.Gossip
	more map[netmap.Key]any
}

// Announce implements plugin.Gossip.
func (c *crowded) Announce(set map[netmap.Key]any, del []netmap.Key) error {
	if c.more != nil {
		set = maps.Clone(set)
		maps.Copy(set, c.more)
		c.more = nil
	}
	return c.Gossip.Announce(set, del)
}

func (h *host) crowd(cfg gossip.Config) (plugin.Gossip, error) {
	g, err := gossip.Start(cfg)
	if err != nil {
		return nil, err
	}
	h.gossip = &crowded{Gossip: g}
	if h.w.network != 0 {
		h.gossip.more = inventedOf(h.w.network, h.n, 0, h.w.endpoints)
	}
	return h.gossip, nil
}

func (h *host) start() {
	s := settings.Settings{
		Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}, Port: 7950, VXLANPort: 4789,
		Name: h.name(), Replicate: true, State: filepath.Join(h.w.dir, h.name()),
	}
	if h.n != 1 {
		s.Join = []string{h.w.hosts[0].addr.String(), h.w.hosts[1].addr.String(), h.w.hosts[2].addr.String()}
	}
	a, err := plugin.Open(plugin.Config{
		Settings: s, Version: "scale", Kernel: forgetful{plugintest.NewKernel(h.addr, 1500)}, Docker: h.docker,
		Network: counted{h.w.net.Host(h.addr), &h.traffic}, Clocks: h.clocks, Volatile: s.State + ".run",
		Deps: plugin.Deps{Gossip: h.crowd}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		h.w.t.Fatal(err)
	}
	h.agent, h.gone, h.server = a, make(chan struct{}), serverOf(a)
	h.docker.Serve(plugintest.Plugin{Handler: h.server, Gone: h.gone})
}

func serverOf(a *plugin.Agent) *rpc.Server { return rpc.New(rpc.Config{Routes: a.Routes()}) }

func (h *host) stop() {
	if h.agent == nil {
		return
	}
	close(h.gone)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := h.server.Close(ctx); err != nil {
		h.w.t.Error(err)
	}
	if err := h.agent.Close(); err != nil {
		h.w.t.Error(err)
	}
	h.agent = nil
}

// id is Docker's id of the network, empty while this host's Docker does not have it.
func (h *host) id() string {
	list, _ := h.docker.Networks(h.w.t.Context()) // its API is never broken here
	for _, n := range list {
		if n.Name == web.Name {
			return n.ID
		}
	}
	return ""
}

// scratch is a directory in memory: what a sync takes does not count in virtual time.
func scratch(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "weft-scale")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// until waits in virtual time until a condition holds for every host, looks at each no
// longer than it does not, and says how long that took.
func (w *world) until(what string, step, limit time.Duration, hosts []*host, ok func(*host) bool) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for left := hosts; ; time.Sleep(step) {
		var next []*host
		for _, h := range left {
			if !ok(h) {
				next = append(next, h)
			}
		}
		if left = next; len(left) == 0 {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			w.t.Fatalf("%d hosts: not within %v: %s, on %d of them, such as %s", len(hosts), limit, what, len(left), left[0].name())
		}
	}
}

// alive is how many other hosts a host's gossip sees.
func (h *host) alive() (n int) {
	for _, m := range h.gossip.Members() {
		if m.Alive {
			n++
		}
	}
	return n
}

// known counts the endpoints of a view, up to a limit.
func known(v *netmap.View, limit int) (n int) {
	for range v.Endpoints() {
		if n++; n == limit {
			break
		}
	}
	return n
}

// knows reports whether a host knows so many endpoints and is synced.
func (h *host) knows(endpoints int) bool {
	return h.gossip.Synced() && known(h.gossip.View(), endpoints) == endpoints
}

func (h *host) ready() bool { return h.agent.Report().State == "ready" }

// count adds something up over hosts.
func count(hosts []*host, of func(*traffic) *atomic.Uint64) (sum uint64) {
	for _, h := range hosts {
		sum += of(&h.traffic).Load()
	}
	return sum
}
