package exact_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/turn"
	"github.com/weftnet/weft/underlay"
)

// removeAfter is WEFT_REMOVE_AFTER.
const removeAfter = 72 * time.Hour

// machine is a host without its agent: disk, clocks and Docker. It stays when an agent ends.
type machine struct {
	w      *world
	n      int
	addr   netip.AddrPort
	disk   *drive
	kernel *kernel
	docker *plugintest.Engine
	life   *life // nil: no agent runs
	joins  bool
	twin   bool // runs with a copy of another's disk…
	of     *machine
	keeps  bool // has a log of the ledger
	fresh  bool // its disk is not the one that it kept the ledger on
	slower time.Duration
	pause  time.Duration // of Docker, when a container has its addresses
	old    *image        // an older picture of its disk

	boots    int
	booted   time.Duration // true time of the last boot
	rate     float64       // of its clocks
	wall     time.Duration // how wrong its wall clock is
	zone     time.Duration // how wrong it is at most after a boot, in one direction
	slept    time.Duration // how long its monotonic clock stood still
	volatile string        // a directory of this boot

	calls   map[string]int // of Docker, by container
	busy    int            // Docker's operations under way
	alone   bool           // one that wants to be alone
	asking  bool           // a request for any address is under way
	waiting []chan struct{}
	made    int
	lives   int    // of its Docker
	off     bool   // no power
	buried  bool   // for ever
	shady   bool   // its disk is an old one or a copy
	copied  bool   // …a copy, or has one
	aged    *image // what it was booted with last, if that was an old one or came of one
	trap    func() // sprung by the next write
	works   bool   // started a container after everything healed
}

// life is one run of an agent, from its start to its end.
type life struct {
	m      *machine
	off    chan struct{} // closed when it is killed
	gone   chan struct{} // closed when Docker loses it
	ctx    context.Context
	kill   context.CancelFunc
	agent  *plugin.Agent
	server *rpc.Server
	opened bool
	ended  bool
	told   uint64 // the newest decision that the ledger answered it
	fenced bool   // the ledger told it that it may not go on
	rom    *rom
	ledger *asker
	facts  *facts
	port   *port
}

func (m *machine) String() string { return fmt.Sprintf("host-%d", m.n) }

func (w *world) newMachine() *machine {
	m := &machine{w: w, n: len(w.machines) + 1, rate: 1 + (w.dice.Float64()-0.5)*0.006, joins: true, calls: map[string]int{}}
	m.zone = w.between(-13*time.Hour, 13*time.Hour)
	addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(m.n)})
	m.addr = netip.AddrPortFrom(addr, 7950)
	m.disk = &drive{image: image{data: map[string][]byte{}}, m: m}
	m.reboot()
	m.docker = plugintest.NewEngine(m.String())
	m.docker.Before, m.docker.After = m.before, m.after
	w.machines = append(w.machines, m)
	return m
}

func (m *machine) identity() netmap.HostID { return m.disk.identity.Host }

// serves reports whether an agent runs and is not ending.
func (m *machine) serves() bool { return m.life != nil && m.life.opened }

// running is the machine's monotonic clock.
func (m *machine) running() time.Duration { return m.up() - m.slept }

func (m *machine) up() time.Duration {
	return time.Duration(float64(m.w.clock()-m.booted) * m.rate)
}

// clocks are read by the agent at any time.
func (m *machine) clocks() (lease.Moment, error) {
	return lease.Moment{Boot: fmt.Sprintf("%s-%d", m, m.boots), Up: m.up(), Wall: m.w.begin.Add(m.w.clock() + m.wall)}, nil
}

// latency is how long something takes from one machine to another.
func (w *world) latency(from, to *machine) time.Duration {
	d := from.slower + to.slower
	switch {
	case from == to:
		return d + w.between(10*time.Microsecond, 100*time.Microsecond)
	case w.chance(w.style.late):
		w.meet("message late")
		return d + w.between(time.Second, 12*time.Second)
	case w.chance(10):
		return d + w.between(10*time.Millisecond, 400*time.Millisecond)
	}
	return d + w.between(200*time.Microsecond, 2*time.Millisecond)
}

func (m *machine) settings() settings.Settings {
	s := settings.Settings{
		Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}, Port: 7950, VXLANPort: 4789,
		Name: m.String(), State: "/nowhere", RemoveAfter: removeAfter,
	}
	if m.joins {
		s.Join, s.Expect = []string{"192.0.2.1:7950", "192.0.2.2:7950", "192.0.2.3:7950"}, m.w.expect
	}
	return s
}

var silent = slog.New(slog.DiscardHandler)

// start starts an agent. It opens in a goroutine of its own, because its first writes to disk take
// time.
func (m *machine) start() {
	l := &life{m: m, off: make(chan struct{}), gone: make(chan struct{})}
	l.ctx, l.kill = context.WithCancel(context.Background())
	m.life = l
	l.rom = m.disk.open(l)
	m.w.note("%s starts, %s start %d", m, m.identity().Short(), m.disk.identity.Start)
	cfg := plugin.Config{
		Settings: m.settings(), Version: "exact", Kernel: m.kernel, Docker: m.docker, Log: m.w.logger(m), Clocks: m.clocks, Volatile: m.volatile,
		Deps: plugin.Deps{
			Store: func(string) (plugin.Store, error) { return l.rom, nil },
			Port: func(underlay.Config) (plugin.Port, error) {
				l.port = &port{life: l, handlers: map[string]handler{}}
				return l.port, nil
			},
			Gossip: func(cfg gossip.Config) (plugin.Gossip, error) {
				l.facts = newFacts(l, cfg)
				return l.facts, nil
			},
			Ledger: func(cfg ledger.Config) (plugin.Ledger, error) {
				l.ledger = &asker{life: l, cfg: cfg, admit: turn.New(), cluster: cfg.Cluster, keep: -1}
				if m.keeps && cfg.Cluster.IsZero() {
					l.ledger.cluster = m.w.ledger.plan.Cluster
				}
				return l.ledger, nil
			},
		},
	}
	go func() {
		a, err := plugin.Open(cfg)
		m.w.arrive(m.n, "opened", func() { l.open(a, err) })
	}()
}

func (l *life) open(a *plugin.Agent, err error) {
	m := l.m
	switch {
	case err != nil && m.life == l && errors.Is(err, errFull):
		m.life = nil
		m.w.meet("start on a full disk")
		m.w.after(m.w.between(time.Second, 5*time.Second), m.restart)
		return
	case err != nil && m.life == l:
		m.w.wrong("%s does not start: %v", m, err)
		return
	case err != nil:
		return // it was killed meanwhile
	}
	l.agent = a
	if m.life != l {
		l.close()
		return
	}
	l.opened = true
	l.server = rpc.New(rpc.Config{Routes: a.Routes(), Observe: l.observe})
	m.docker.Serve(plugintest.Plugin{Handler: l.server, Gone: l.gone})
	m.w.after(m.w.between(time.Millisecond, time.Second), l.facts.talk)
	go func() {
		select {
		case <-a.Ended():
			m.w.arrive(m.n, "gives up its identity", func() { m.w.restartAgent(m) })
		case <-l.off:
		}
	}()
}

// observe counts what Docker was answered, by kind.
func (l *life) observe(d rpc.Done) {
	if d.Err == nil {
		return
	}
	kind := "another error"
	if r, ok := errors.AsType[*netmap.Refusal](d.Err); ok {
		kind = string(r.Kind)
	}
	l.m.w.arrive(l.m.n, "3 answered "+d.Method+kind, func() { l.m.w.meet("answered: " + d.Method + ": " + kind) })
}

// restart starts the agent unless somebody did.
func (m *machine) restart() {
	if m.life == nil && !m.off && !m.buried {
		m.start()
	}
}

// crash ends the agent as kill -9 or a power cut does.
func (m *machine) crash() {
	l := m.life
	if l == nil {
		return
	}
	m.w.note("%s crashes", m)
	m.life = nil
	m.disk.crash()
	l.opened = false
	l.hangUp()
	close(l.off)
	l.kill()
	l.close()
	m.w.checkDisk(m)
}

// hangUp closes Docker's connection to the agent.
func (l *life) hangUp() {
	select {
	case <-l.gone:
	default:
		close(l.gone)
	}
}

// close ends what is left of a run; nothing that it still does has an effect.
func (l *life) close() {
	if l.agent == nil || l.ended {
		return
	}
	l.ended = true
	go func() {
		if l.server != nil {
			_ = l.server.Close(l.ctx) // it is dead
		}
		_ = l.agent.Close() // its disk is gone
	}()
}

// reboot gives the machine new clocks and a new kernel. After two boots its wall clock
// differs by less than 14 h; what it was set to in between does not matter.
func (m *machine) reboot() {
	m.boots++
	m.booted, m.slept = m.w.clock(), 0
	m.wall = time.Duration(m.w.dice.Float64() * float64(m.zone))
	m.kernel = &kernel{addr: m.addr.Addr()}
	m.volatile = filepath.Join(m.w.dir, fmt.Sprintf("%s-%d", m, m.boots)) // what still ends has the one of before
}

type handler = func(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error)

// port carries the requests of hosts to each other. It implements plugin.Port.
type port struct {
	plugin.Port // what is not used here
	life        *life
	handlers    map[string]handler
}

// Handle implements plugin.Port.
func (p *port) Handle(name string, h handler) { p.handlers[name] = h }

// Packets implements plugin.Port.
func (p *port) Packets() *underlay.Packets { return nil }

func (p *port) Stats() underlay.Stats { return underlay.Stats{} }

func (p *port) Strangers() []string { return nil }

// Close implements plugin.Port.
func (p *port) Close() error { return nil }

type reply struct {
	body []byte
	err  error
}

var errUnreachable = errors.New("underlay: no route to host")

// Call implements plugin.Port.
func (p *port) Call(ctx context.Context, to netip.AddrPort, name string, body []byte) ([]byte, error) {
	w, m := p.life.m.w, p.life.m
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	done := make(chan reply, 1)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	deadline, _ := ctx.Deadline()
	w.arrive(m.n, "call "+name+" "+string(body), func() { p.request(to, name, body, deadline, done) })
	select {
	case r := <-done:
		return r.body, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.life.off:
		return nil, errPower
	}
}

func (p *port) request(to netip.AddrPort, name string, body []byte, deadline time.Time, done chan reply) {
	w, from := p.life.m.w, p.life.m
	i := slices.IndexFunc(w.machines, func(m *machine) bool { return m.addr == to })
	if i < 0 || !w.both(from, w.machines[i]) {
		w.meet("call to nobody")
		w.after(w.between(time.Millisecond, 2*time.Second), func() { done <- reply{err: errUnreachable} })
		return
	}
	at := w.machines[i]
	w.after(w.latency(from, at), func() {
		if !at.serves() {
			done <- reply{err: errUnreachable}
			return
		}
		l := at.life
		h := l.port.handlers[name]
		ctx, cancel := context.WithDeadline(l.ctx, deadline)
		go func() {
			defer cancel()
			answer, err := h(ctx, from.addr, body)
			w.arrive(at.n, "answers "+name+" "+string(body), func() { p.answer(l, reply{answer, err}, done) })
		}()
	})
}

func (p *port) answer(by *life, r reply, done chan reply) {
	w := p.life.m.w
	if by.m.life != by || !w.path(by.m, p.life.m) || w.chance(w.style.loss) {
		w.meet("answer of a host lost")
		return
	}
	w.after(w.latency(by.m, p.life.m), func() { done <- r })
}

// logger shows an agent's log beside the story.
func (w *world) logger(m *machine) *slog.Logger {
	if !w.loud {
		return silent
	}
	return slog.New(slog.NewTextHandler(journal{w, m}, nil))
}

type journal struct {
	w *world
	m *machine
}

func (j journal) Write(line []byte) (int, error) {
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	_, text, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	j.w.story = append(j.w.story, fmt.Sprintf("%v %s says: %s", j.w.now(), j.m, text))
	return len(line), nil
}
