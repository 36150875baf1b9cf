package scale_test

import (
	"context"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// point is what one size of cluster costs. Times are virtual; bytes are those of all that
// hosts send, without the headers of IP, UDP and TCP.
type point struct {
	Hosts     int `json:"hosts"`
	Endpoints int `json:"endpoints_per_host"`

	Ready     time.Duration `json:"boot_all_ready"`   // after power-on of all but the first: every host serves containers…
	Facts     time.Duration `json:"boot_all_facts"`   // …has the facts of all…
	Mesh      time.Duration `json:"boot_full_mesh"`   // …sees all others alive…
	Network   time.Duration `json:"boot_network"`     // …has the network in its Docker
	BootBytes uint64        `json:"boot_bytes"`       // of each host, until then
	BootDials uint64        `json:"boot_dials"`       // of all
	BootCPU   time.Duration `json:"boot_processor"`   // of each host, with what the simulation takes
	Run       quantiles     `json:"run_while_boot"`   // RequestAddress to Join, one container a host as soon as its Docker has the network
	RunAgain  quantiles     `json:"run_after_outage"` // the same right after all hosts lost power at once

	Idle          float64        `json:"idle_bytes_per_second"` // of a host, the leader left out
	IdleLeader    float64        `json:"idle_bytes_per_second_leader"`
	IdleDatagrams float64        `json:"idle_datagrams_per_second"`
	IdleOf        [kinds]float64 `json:"idle_bytes_of_kinds"` // of all hosts a second
	IdleCPU       float64        `json:"idle_processor"`      // of a host, share of a core, with what the simulation takes

	Event          time.Duration `json:"event_to_all"`
	EventBytes     uint64        `json:"event_bytes"` // of all for one of many events, without those of idle hosts
	EventDatagrams uint64        `json:"event_datagrams"`
	EventAllocs    uint64        `json:"event_allocations"` // of each host for one of these
	EventCPU       time.Duration `json:"event_processor"`   // the same

	Newcomer      time.Duration `json:"newcomer_has_all_facts"`
	NewcomerBytes uint64        `json:"newcomer_bytes"` // of all, in scope.window, without those of idle ones
	NewcomerDials uint64        `json:"newcomer_dials"`
	Restart       time.Duration `json:"restart_until_synced"`
	RestartBytes  uint64        `json:"restart_bytes"` // of all, in scope.window, without those of idle ones
	RestartDials  uint64        `json:"restart_dials"`
	RestartOf     [kinds]uint64 `json:"restart_bytes_of_kinds"` // what RestartBytes were for

	Heap uint64 `json:"heap_per_agent"` // bytes
}

// quantiles are of one measurement of each host.
type quantiles struct {
	P50    time.Duration `json:"p50"`
	P99    time.Duration `json:"p99"`
	Failed int           `json:"failed,omitempty"` // hosts that got a refusal
}

// scope says how much of a cluster's life is measured.
type scope struct {
	calm    time.Duration // after boot, before what is counted
	pause   time.Duration // between what is counted
	idle    time.Duration
	window  time.Duration // in which a restart or a newcomer is counted
	events  int
	every   time.Duration // of the events
	further bool          // also a newcomer, and an outage of all
}

// long is the whole. memberlist repeats for two minutes who came, so brief, which make test
// runs, counts some of that as idle.
var (
	long  = scope{calm: 150 * time.Second, pause: 15 * time.Second, idle: time.Minute, window: time.Minute, events: 50, every: 100 * time.Millisecond, further: true}
	brief = scope{calm: 10 * time.Second, pause: 10 * time.Second, idle: 20 * time.Second, window: 10 * time.Second, events: 50, every: 5 * time.Millisecond}
)

// exchanges is how long memberlist takes until each host has compared all members with another one
// once. Hosts that boot together do that in one part of this time, and in the rest none does.
func exchanges(hosts int) time.Duration {
	const base, smallest = 45 * time.Second, 32
	if hosts <= smallest {
		return base
	}
	return base * time.Duration(math.Ceil(math.Log2(float64(hosts)/smallest))+1)
}

// over measures as long as exchanges takes, so that each host has one in all that is counted.
func (s scope) over(hosts int) scope {
	s.idle, s.window = max(s.idle, exchanges(hosts)), max(s.window, exchanges(hosts))
	return s
}

// curve measures one size of cluster.
func curve(t *testing.T, hosts, endpoints int, s scope) (p point) {
	p.Hosts, p.Endpoints = hosts, endpoints
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, hosts+1, endpoints)
		defer func() {
			w.each(w.hosts, (*host).stop)
			time.Sleep(time.Minute) // memberlist's last timers
		}()
		w.scope = s
		late := w.hosts[hosts]
		w.hosts = w.hosts[:hosts]
		phases := []func(*point){w.boot, w.idle, w.event, w.restart}
		if s.further {
			phases = append(phases, func(p *point) { w.newcomer(p, late) }, w.outage)
		}
		for _, phase := range phases {
			phase(&p)
		}
	})
	return p
}

// step is how often a slow condition is looked at: more seldom where a look costs more.
func (w *world) step() time.Duration {
	return time.Duration(max(10, len(w.hosts)/5)) * time.Millisecond
}

const patience = 2 * time.Minute

// boot has the first host found the cluster and make the network; then all others get power
// at the same moment, with empty disks and their endpoints to announce.
func (w *world) boot(p *point) {
	first, others := w.hosts[0], w.hosts[1:]
	first.start()
	w.until("the first host is ready", 10*time.Millisecond, patience, w.hosts[:1], (*host).ready)
	if _, err := first.docker.CreateNetwork(w.t.Context(), web); err != nil {
		w.t.Fatal(err)
	}
	view := first.gossip.View()
	w.network = view.Networks[0].ID
	if err := first.gossip.Announce(inventedOf(w.network, first.n, 0, w.endpoints), nil); err != nil {
		w.t.Fatal(err)
	}
	heap, processor := heapInUse(), clock()
	for _, h := range others {
		h.start()
	}
	var all sync.WaitGroup
	for what, done := range map[string]struct {
		took *time.Duration
		ok   func(*host) bool
	}{
		"ready":       {&p.Ready, (*host).ready},
		"all facts":   {&p.Facts, func(h *host) bool { return h.knows(len(w.hosts) * w.endpoints) }},
		"a full mesh": {&p.Mesh, func(h *host) bool { return h.alive() == len(w.hosts)-1 }},
		"the network": {&p.Network, func(h *host) bool { return h.id() != "" }},
	} {
		all.Go(func() { *done.took = w.until(what, w.step(), patience, others, done.ok) })
	}
	all.Go(func() { p.Run = w.run("first", others) })
	all.Wait()
	p.BootBytes, p.BootDials = count(w.hosts, payload)/uint64(len(w.hosts)), count(w.hosts, dials)
	p.BootCPU = (clock() - processor) / time.Duration(len(others))
	p.Heap = (heapInUse() - heap) / uint64(len(others))
}

// run starts a container on each of the hosts as soon as its Docker has the network, and says
// how long the plugin took for each: from RequestAddress until Join was answered.
func (w *world) run(name string, hosts []*host) (q quantiles) {
	took := make([]time.Duration, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() {
			for h.id() == "" {
				time.Sleep(5 * time.Millisecond)
			}
			var begin time.Time
			h.docker.Before = func(c plugintest.Call) {
				if c.Method == "IpamDriver.RequestAddress" {
					begin = time.Now()
				}
			}
			if _, err := h.docker.Run(context.WithoutCancel(w.t.Context()), name, h.id(), netip.Addr{}); err != nil {
				took[i] = -1
				return
			}
			took[i] = time.Since(begin)
		})
	}
	all.Wait()
	slices.Sort(took)
	for ; len(took) > 0 && took[0] < 0; took = took[1:] {
		q.Failed++
	}
	if len(took) > 0 {
		q.P50, q.P99 = took[len(took)/2], took[(len(took)*99-1)/100]
	}
	return q
}

// each does something on many hosts at once.
func (w *world) each(hosts []*host, do func(*host)) {
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() { do(h) })
	}
	all.Wait()
}

// idle lets what the boot began die down, and counts.
func (w *world) idle(p *point) {
	time.Sleep(w.scope.calm)
	leader := w.leader()
	before, at, sent := count(w.hosts, payload), leader.traffic.sent.Load(), count(w.hosts, datagrams)
	processor, of := clock(), ofKinds(w.hosts)
	time.Sleep(w.scope.idle)
	seconds := w.scope.idle.Seconds()
	for k, n := range ofKinds(w.hosts) {
		p.IdleOf[k] = float64(n-of[k]) / seconds
	}
	at = leader.traffic.sent.Load() - at
	p.IdleLeader = float64(at) / seconds
	p.Idle = float64(count(w.hosts, payload)-before-at) / seconds / float64(len(w.hosts)-1)
	p.IdleDatagrams = float64(count(w.hosts, datagrams)-sent) / seconds / float64(len(w.hosts))
	p.IdleCPU = (clock() - processor).Seconds() / seconds / float64(len(w.hosts))
}

func (w *world) leader() *host {
	id := w.hosts[0].agent.Report().Ledger.Leader
	i := slices.IndexFunc(w.hosts, func(h *host) bool { return h.agent.Report().Self == id })
	return w.hosts[max(i, 0)]
}

// quiet is what all hosts send in some time in which nothing happens.
func (w *world) quiet(p *point, d time.Duration) uint64 {
	return uint64((p.Idle*float64(len(w.hosts)-1) + p.IdleLeader) * d.Seconds())
}

func above(n, idle uint64) uint64 { return n - min(n, idle) }

// event has one host announce one container, and then more.
func (w *world) event(p *point) {
	origin := w.hosts[len(w.hosts)/2]
	announce := func(i int) netmap.Endpoint {
		e := invented(w.network, origin.n, w.endpoints+i)
		e.Name = ""
		if err := origin.gossip.Announce(e.Facts(), nil); err != nil {
			w.t.Fatal(err)
		}
		return e
	}
	first := announce(0)
	p.Event = w.until("an event", 100*time.Microsecond, 40*time.Second, w.hosts, func(h *host) bool {
		_, known := h.gossip.View().Holder(w.network, first.V4)
		return known
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sent, data, processor := count(w.hosts, payload), count(w.hosts, datagrams), clock()
	events := w.scope.events
	span := time.Duration(events) * w.scope.every
	for i := range events {
		announce(i + 1)
		time.Sleep(w.scope.every)
	}
	p.EventCPU = (clock() - processor - time.Duration(p.IdleCPU*float64(span)*float64(len(w.hosts)))) / time.Duration(events*len(w.hosts))
	p.EventBytes = above(count(w.hosts, payload)-sent, w.quiet(p, span)) / uint64(events)
	p.EventDatagrams = above(count(w.hosts, datagrams)-data, uint64(p.IdleDatagrams*span.Seconds()*float64(len(w.hosts)))) / uint64(events)
	runtime.ReadMemStats(&after)
	p.EventAllocs = (after.Mallocs - before.Mallocs) / uint64(events*len(w.hosts))
}

// restart ends one agent in order and starts it a second later.
func (w *world) restart(p *point) {
	h := w.hosts[len(w.hosts)/3]
	time.Sleep(w.scope.pause)
	sent, dialled, of := count(w.hosts, payload), count(w.hosts, dials), ofKinds(w.hosts)
	h.stop()
	time.Sleep(time.Second)
	h.start()
	begin := time.Now()
	p.Restart = w.until("a restart", 10*time.Millisecond, patience, []*host{h}, func(h *host) bool { return h.ready() && h.knows(len(w.hosts)*w.endpoints) })
	time.Sleep(w.scope.window - time.Since(begin))
	p.RestartBytes = above(count(w.hosts, payload)-sent, w.quiet(p, w.scope.window))
	p.RestartDials = count(w.hosts, dials) - dialled
	for k, n := range ofKinds(w.hosts) {
		p.RestartOf[k] = above(n-of[k], uint64(p.IdleOf[k]*w.scope.window.Seconds()))
	}
}

// newcomer starts one host more.
func (w *world) newcomer(p *point, late *host) {
	time.Sleep(w.scope.pause)
	all := append(slices.Clone(w.hosts), late)
	sent, dialled, begin := count(all, payload), count(all, dials), time.Now()
	late.start()
	p.Newcomer = w.until("a newcomer", 10*time.Millisecond, patience, []*host{late}, func(h *host) bool { return h.ready() && h.knows(len(w.hosts)*w.endpoints) })
	time.Sleep(w.scope.window - time.Since(begin))
	p.NewcomerBytes = above(count(all, payload)-sent, w.quiet(p, w.scope.window))
	p.NewcomerDials = count(all, dials) - dialled
	w.hosts = all
}

// outage takes the power of all hosts at once, and gives it back a second later. What they had
// on disk is there; each starts a container at once.
func (w *world) outage(p *point) {
	for _, h := range w.hosts {
		w.net.Host(h.addr).PowerOff()
	}
	w.each(w.hosts, (*host).stop)
	time.Sleep(time.Second)
	for _, h := range w.hosts {
		w.net.Host(h.addr).PowerOn()
		h.booted = time.Now()
		h.start()
	}
	p.RunAgain = w.run("again", w.hosts)
}

// clock is the processor time that this process has used.
func clock() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
