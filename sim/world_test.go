package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/underlay/lossy"
)

var noAddr netip.Addr

var lan = lossy.Link{Delay: 200 * time.Microsecond, Jitter: 50 * time.Microsecond}

// mutation breaks a rule on purpose. nil fields break nothing.
type mutation struct {
	handler func(h *host, agent http.Handler) http.Handler
	kernel  func(h *host) plugin.Kernel
	disk    func(h *host, dir string) // after a crash, before the next start
	deps    func(h *host) plugin.Deps
	clocks  func(h *host) func() (lease.Moment, error)
	noticed string // how a fault begins that shows it; the seed ends then
}

// world is a cluster in a bubble.
type world struct {
	t       *testing.T
	seed    uint64
	dir     string
	net     *lossy.Net
	hosts   []*host
	began   time.Time
	mutated mutation

	peace atomic.Bool // nothing ends or cuts off an agent

	mu        sync.Mutex
	story     []string
	faults    []string // what was wrong, by the checks
	held      map[netip.Addr]holder
	twins     []*host      // machines with a copy of a host's disk, so far
	decided   *netmap.View // the newest state of the ledger that any host has
	before    *netmap.View // the same of the generation before
	met       map[string]int
	isolated  map[*host]bool
	lasted    time.Duration
	calmSince time.Time // zero: something is wrong between hosts
	fateful   bool      // hosts are removed and copied: not every container keeps its address
	fated     *host     // whom the present fate befalls
}

// host is a machine: what outlives its agent, and the agent.
type host struct {
	w      *world
	n      int
	addr   netip.Addr
	dice   *rand.Rand
	kernel *plugintest.Kernel
	docker *plugintest.Engine
	lives  int
	dir    string // of the present life; a crash leaves a copy to the next one

	running atomic.Pointer[life] // nil while it is down
	self    netmap.HostID
	server  *rpc.Server
	gone    chan struct{}
	log     *slog.Logger
	trap    atomic.Pointer[trap]   // nil: none is set
	next    atomic.Pointer[action] // nil: by chance
	booted  time.Time
	slept   atomic.Int64               // for how long the machine was suspended, nanoseconds
	turn    chan struct{}              // held by whoever acts on the host, where more than one does
	unknown map[netmap.EndpointID]bool // to the agent, whose disk is an older copy
}

// life is one life of a host's agent.
type life struct {
	agent  *plugin.Agent
	kernel *plugintest.Kernel
	self   netmap.HostID
	since  time.Time
}

// agent is the running one; the host's own goroutine never finds it down.
func (h *host) agent() *plugin.Agent {
	if l := h.running.Load(); l != nil {
		return l.agent
	}
	return nil
}

func newWorld(t *testing.T, dir string, seed uint64, hosts int, m mutation) *world {
	w := &world{
		t: t, seed: seed, dir: dir, net: lossy.New(seed, lan), began: time.Now(), mutated: m,
		held: map[netip.Addr]holder{}, met: map[string]int{}, isolated: map[*host]bool{}, decided: &netmap.View{}, before: &netmap.View{},
	}
	for n := 1; n <= hosts; n++ {
		w.hosts = append(w.hosts, w.machine(n))
	}
	return w
}

// machine is a machine with an empty disk.
func (w *world) machine(n int) *host {
	addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
	h := &host{w: w, n: n, addr: addr, dice: rand.New(rand.NewPCG(w.seed, uint64(n))), kernel: plugintest.NewKernel(addr, 1500), booted: w.began}
	h.log = slog.New(slog.NewTextHandler(journal{h}, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: withoutTime}))
	h.docker = plugintest.NewEngine(h.String())
	h.docker.Before, h.docker.After = h.before, h.after
	h.dir, h.turn = filepath.Join(w.dir, fmt.Sprintf("%s.%d", h, h.lives)), make(chan struct{}, 1)
	h.unknown = map[netmap.EndpointID]bool{}
	w.net.Host(addr)
	return h
}

// scratch is a directory in memory where there is one: what is on disk counts
// here, how long a sync takes does not.
func scratch(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "weft-sim")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (h *host) String() string { return fmt.Sprintf("host-%d", h.n) }

// journal writes the agent's log into the story.
type journal struct{ h *host }

func (j journal) Write(line []byte) (int, error) {
	j.h.w.tell("%s says: %s", j.h, strings.TrimSpace(string(line)))
	return len(line), nil
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// tell adds a line to the story. That of a single seed is told while it runs.
func (w *world) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := fmt.Sprintf("%9.3f ", time.Since(w.began).Seconds()) + fmt.Sprintf(format, args...)
	w.story = append(w.story, line)
	if os.Getenv("WEFT_SEED") != "" {
		fmt.Println(line)
	}
}

// meet counts what was really met, so that a run can show it.
func (w *world) meet(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met[what]++
}

func (h *host) settings() settings.Settings {
	s := settings.Settings{
		Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}, Port: 7950, VXLANPort: 4789,
		Name: h.String(), Replicate: true, State: h.dir,
	}
	if h.n != 1 {
		s.Join = []string{"192.0.2.1:7950", "192.0.2.2:7950"}
	}
	return s
}

// replicates reports whether the agents have Docker's API, as in every other seed. Without it the
// same --subnet on all hosts makes one network.
func (w *world) replicates() bool { return w.seed%2 == 1 }

// clocks are those of the bubble.
func (h *host) clocks() (lease.Moment, error) {
	slept := time.Duration(h.slept.Load())
	return lease.Moment{Boot: h.booted.String(), Up: time.Since(h.booted) + slept, Wall: time.Now().Add(slept)}, nil
}

func (h *host) volatile() string { return filepath.Join(h.w.dir, h.String()+".run") }

// start runs the agent on what is on disk.
func (h *host) start() {
	h.lives++
	h.kernel.Forget()
	var kernel plugin.Kernel = h.kernel
	if h.w.mutated.kernel != nil {
		kernel = h.w.mutated.kernel(h)
	}
	cfg := plugin.Config{
		Settings: h.settings(), Version: "sim", Kernel: kernel, Network: h.w.net.Host(h.addr), Log: h.log, Clocks: h.clocks,
		Volatile: h.volatile(),
	}
	if h.w.mutated.deps != nil {
		cfg.Deps, cfg.Volatile = h.w.mutated.deps(h), ""
	}
	if h.w.mutated.clocks != nil {
		cfg.Clocks = h.w.mutated.clocks(h)
	}
	if h.w.replicates() {
		cfg.Docker = h.docker
	}
	a, err := plugin.Open(cfg)
	if err != nil {
		h.w.t.Fatalf("%s does not start: %v", h, err)
	}
	h.self, h.gone = a.Report().Self, make(chan struct{})
	h.running.Store(&life{agent: a, kernel: h.kernel, self: h.self, since: time.Now()})
	h.server = rpc.New(rpc.Config{Routes: a.Routes(), Observe: h.observe})
	var handler http.Handler = h.server
	if h.w.mutated.handler != nil {
		handler = h.w.mutated.handler(h, handler)
	}
	h.docker.Serve(plugintest.Plugin{Handler: h.trapped(handler, h.gone), Gone: h.gone})
}

// stop ends the agent in order: calls under way first, as plugin.Run does.
func (h *host) stop() {
	l := h.running.Swap(nil)
	if l == nil {
		return
	}
	select {
	case <-h.gone:
	default:
		close(h.gone)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := h.server.Close(ctx); err != nil {
		h.w.t.Errorf("%s: %v", h, err)
	}
	if err := l.agent.Close(); err != nil {
		h.w.fault("%s: close: %v", h, err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		h.w.fault("%s: it took %v to end; Docker kills it after 10 s", h, took)
	}
}

// crash ends the agent as kill -9 or a power cut does: what was synced at this
// moment is what the next start finds, whatever the agent still writes.
func (h *host) crash() {
	synctest.Wait() // nobody is in the middle of a write
	h.lives++
	next := filepath.Join(h.w.dir, fmt.Sprintf("%s.%d", h, h.lives))
	run := next + ".run"
	for from, to := range map[string]string{h.dir: next, h.volatile(): run} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.w.t.Fatal(err)
		}
	}
	close(h.gone) // nobody hears what it still answers
	stack := h.w.net.Host(h.addr)
	stack.PowerOff()
	h.stop()
	_ = os.RemoveAll(h.dir)
	_ = os.RemoveAll(h.volatile())
	h.dir = next
	if err := os.Rename(run, h.volatile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.w.t.Fatal(err)
	}
	if h.w.mutated.disk != nil {
		h.w.mutated.disk(h, next)
	}
	h.checkDisk(next)
	stack.PowerOn()
}

// up waits in virtual time until every host is a member.
func (w *world) up() {
	for _, h := range w.hosts {
		h.start()
	}
	w.until("all hosts are members", 30*time.Second, func() bool {
		for _, h := range w.hosts {
			if h.agent().Report().State != "ready" {
				return false
			}
		}
		return true
	})
}

func (w *world) down() {
	for _, h := range w.hosts {
		h.stop()
	}
	time.Sleep(time.Minute) // memberlist's last timers
}

// until waits for a condition and says how long it took.
func (w *world) until(what string, limit time.Duration, ok func() bool) time.Duration {
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			w.fault("not within %v: %s", limit, what)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(begin)
}
