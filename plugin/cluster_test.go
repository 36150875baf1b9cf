package plugin_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/underlay/lossy"
)

// cluster is some hosts on a network in memory, in a bubble.
type cluster struct {
	t     *testing.T
	dir   string
	net   *lossy.Net
	hosts []*host
}

// host is a machine and the agent on it.
type host struct {
	*plugin.Agent
	c      *cluster
	addr   netip.Addr
	set    settings.Settings
	kernel *plugintest.Kernel
	docker *plugintest.Engine
	deps   plugin.Deps // nil fields: the real ones
	log    journal

	server *rpc.Server
	gone   chan struct{}
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

// bubble runs a test in virtual time and ends all agents after it. The test fails if a goroutine is
// left.
func bubble(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, dir: dir, net: lossy.New(1, lossy.Link{Delay: 200 * time.Microsecond})}
		defer func() {
			for _, h := range c.hosts {
				h.stop()
				if t.Failed() {
					t.Logf("%s:\n%s", h.set.Name, h.log.String())
				}
			}
			time.Sleep(time.Minute) // memberlist's last timers
		}()
		test(t, c)
	})
}

// host makes the next host, which joins the hosts that are given. It does not
// start it.
func (c *cluster) host(join ...*host) *host {
	n := len(c.hosts) + 1
	h := &host{c: c, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}
	name := fmt.Sprintf("host-%d", n)
	h.set = settings.Settings{
		Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}, Port: 7950, VXLANPort: 4789,
		Name: name, Replicate: true, State: filepath.Join(c.dir, name),
	}
	for _, o := range join {
		h.set.Join = append(h.set.Join, netip.AddrPortFrom(o.addr, 7950).String())
	}
	h.kernel, h.docker = plugintest.NewKernel(h.addr, 1500), plugintest.NewEngine(name)
	c.net.Host(h.addr)
	c.hosts = append(c.hosts, h)
	return h
}

func (h *host) config() plugin.Config {
	return plugin.Config{
		Settings: h.set, Version: "test", Kernel: h.kernel, Network: h.c.net.Host(h.addr),
		Docker: h.docker, Log: slog.New(slog.NewTextHandler(&h.log, nil)),
		Volatile: filepath.Join(h.c.dir, h.set.Name+".run"), Deps: h.deps,
	}
}

func (h *host) start() *host {
	h.c.t.Helper()
	h.kernel.Forget()
	a, err := plugin.Open(h.config())
	if err != nil {
		h.c.t.Fatal(err)
	}
	h.Agent, h.gone, h.server = a, make(chan struct{}), rpc.New(rpc.Config{Routes: a.Routes()})
	h.docker.Serve(plugintest.Plugin{Handler: h.server, Gone: h.gone})
	return h
}

func (h *host) stop() {
	h.c.t.Helper()
	if h.Agent == nil {
		return
	}
	close(h.gone)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := h.server.Close(ctx); err != nil {
		h.c.t.Error(err)
	}
	if err := h.Close(); err != nil && !holds(err.Error(), "disk of the state directory is full") {
		h.c.t.Error(err)
	}
	h.Agent = nil
}

func (h *host) restart() {
	h.c.t.Helper()
	h.stop()
	h.start()
}

// reborn waits until the host gives its identity up, and opens its agent anew, as
// plugin.Run does.
func (h *host) reborn() {
	h.c.t.Helper()
	h.until("the identity is given up", 2*time.Minute, func() bool {
		select {
		case <-h.Ended():
			return true
		default:
			return false
		}
	})
	former := h.Report().Self
	h.restart()
	if h.Report().Self == former {
		h.c.t.Errorf("%s has its old identity still", h.set.Name)
	}
	h.ready()
}

// up starts n hosts that join the first and waits until all are members. change
// may alter what they were told.
func up(c *cluster, n int, change ...func(*host)) []*host {
	c.t.Helper()
	for i := range n {
		h := c.host(c.hosts[:min(i, 1)]...)
		for _, f := range change {
			f(h)
		}
		h.start()
	}
	for _, h := range c.hosts {
		h.ready()
	}
	return c.hosts
}

// unreplicated hosts make no network by themselves.
func unreplicated(h *host) { h.set.Replicate = false }

func (h *host) ready() time.Duration {
	h.c.t.Helper()
	return h.until("a member", 15*time.Second, func() bool { return h.Report().State == "ready" })
}

// until waits for a condition in virtual time and says how long it took, to a thousandth of
// the limit: a look takes the real time of a processor.
func (h *host) until(what string, limit time.Duration, ok func() bool) time.Duration {
	h.c.t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			h.c.t.Fatalf("%s: not within %v: %s", h.set.Name, limit, what)
		}
		time.Sleep(max(10*time.Millisecond, limit/1000))
	}
	return time.Since(begin)
}

// problem waits until the report names a problem with all these words.
func (h *host) problem(limit time.Duration, words ...string) {
	h.c.t.Helper()
	defer func() {
		if h.c.t.Failed() {
			h.c.t.Logf("want a problem with %q, got %q", words, h.Report().Problems)
		}
	}()
	h.until("a problem", limit, func() bool {
		for _, p := range h.Report().Problems {
			if holds(p, words...) {
				return true
			}
		}
		return false
	})
}

func holds(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// fails checks that an error came in time and has all these words.
func fails(t *testing.T, begin time.Time, err error, words ...string) {
	t.Helper()
	if err == nil || !holds(err.Error(), words...) {
		t.Errorf("got %v, want an error with %q", err, words)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the answer took %v", took)
	}
}

func named(name, subnet string) dockerapi.ReplicaSpec {
	return dockerapi.ReplicaSpec{Name: name, Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix(subnet)}}}}
}

// network makes a network in this host's Docker.
func (h *host) network(name, subnet string) string {
	h.c.t.Helper()
	id, err := h.docker.CreateNetwork(h.c.t.Context(), named(name, subnet))
	if err != nil {
		h.c.t.Fatalf("%s: network %s: %v", h.set.Name, name, err)
	}
	return id
}

func (h *host) run(name, network, ip string) plugintest.Container {
	h.c.t.Helper()
	c, err := h.docker.Run(h.c.t.Context(), name, network, addr(ip))
	if err != nil {
		h.c.t.Fatalf("%s: run %s: %v", h.set.Name, name, err)
	}
	return c
}

// addr is the zero address for an empty text.
func addr(ip string) netip.Addr {
	if ip == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(ip)
}

// lookup is Docker's id of a network by name, empty if there is none.
func (h *host) lookup(name string) string {
	h.c.t.Helper()
	list, _ := h.docker.Networks(h.c.t.Context()) // also while its API is broken
	for _, n := range list {
		if n.Name == name {
			return n.ID
		}
	}
	return ""
}

// reported is a network of the report by its subnet, without what hosts have themselves on it.
func (h *host) reported(subnet string) api.Network {
	for _, n := range h.Report().Networks {
		for _, s := range n.Subnets {
			if s.Prefix.String() == subnet {
				n.Endpoints = slices.DeleteFunc(n.Endpoints, func(e api.Endpoint) bool { return e.ID == netmap.HostEndpoint(e.Host, n.ID) })
				return n
			}
		}
	}
	return api.Network{}
}
