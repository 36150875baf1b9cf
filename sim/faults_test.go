package sim_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/underlay/lossy"
)

// trouble is something that happens to the network for a while.
type trouble struct {
	name string
	do   func(w *world, h *host)
}

// hostCutOff is always long enough for a restart of the agent.
const hostCutOff = "host cut off"

var troubles = []trouble{
	{hostCutOff, func(w *world, h *host) {
		w.net.Split(h.addr)
		w.isolate(h, true)
		h.next.Store(&action{name: "agent restart", do: (*host).restartAgent})
	}},
	{"network split in two", func(w *world, h *host) {
		var half []netip.Addr
		for _, o := range w.hosts {
			if (o.n+h.n)%2 == 0 {
				half = append(half, o.addr)
			}
		}
		w.net.Split(half...)
		if len(half) == 1 {
			w.isolate(h, true)
		}
	}},
	{"host is not heard", func(w *world, h *host) {
		for _, o := range w.hosts {
			w.net.CutOneWay(h.addr, o.addr)
		}
	}},
	{"host hears nothing", func(w *world, h *host) {
		for _, o := range w.hosts {
			w.net.CutOneWay(o.addr, h.addr)
		}
	}},
	{"one link cut one way", func(w *world, h *host) {
		w.net.CutOneWay(h.addr, w.hosts[h.n%len(w.hosts)].addr)
	}},
	{"loss, doubling and jitter", func(w *world, _ *host) {
		w.quality(lossy.Link{Loss: 0.1, Double: 0.05, Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond})
	}},
}

func (w *world) isolate(h *host, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isolated[h] = on
}

func (w *world) quality(q lossy.Link) {
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			w.net.SetLink(a.addr, b.addr, q)
		}
	}
}

// suffer causes one trouble after the other, with pauses in between.
func (w *world) suffer(until time.Time) {
	dice := rand.New(rand.NewPCG(w.seed, 0))
	for time.Now().Before(until) && !w.noticed() {
		time.Sleep(time.Duration(1+dice.IntN(15)) * time.Second)
		h, t := w.hosts[dice.IntN(len(w.hosts))], troubles[dice.IntN(len(troubles))]
		d := time.Duration(1+dice.IntN(12)) * time.Second
		if dice.IntN(4) == 0 || t.name == hostCutOff {
			d = time.Duration(30+dice.IntN(30)) * time.Second // longer than memberlist remembers its dead
		}
		w.tell("network: %s, %s, for %v", t.name, h, d)
		w.meet(t.name)
		w.upset()
		t.do(w, h)
		time.Sleep(min(d, time.Until(until)))
		w.heal()
		if dice.IntN(3) == 0 {
			w.meet("peace")
			w.peace.Store(true)
			time.Sleep(min(peaceLasts, time.Until(until)))
			w.peace.Store(false)
		}
	}
}

// peaceLasts is long enough for many facts to be older than convergeLimit, so that all hosts must
// have them.
const peaceLasts = 3 * convergeLimit

func (w *world) heal() {
	w.tell("network: healed")
	w.net.HealAll()
	w.quality(lan)
	for _, h := range w.hosts {
		w.isolate(h, false)
	}
	w.calmed()
}

// convergeLimit is the time limit of invariant 8.
const convergeLimit = 10 * time.Second

// orphanLimit is how long the agents may take to find out what Docker dropped without calling them,
// such as a network whose creation a crash interrupted.
const orphanLimit = 2 * time.Minute

// converged waits until all hosts agree and all kernels are right.
func (w *world) converged() {
	synctest.Wait()
	w.comes("(8) facts and kernels", convergeLimit, w.differences)
	limit := convergeLimit
	if w.replicates() {
		limit = orphanLimit
	}
	w.comes("(8) kernels and containers", limit, w.unlike)
}

// comes waits until left returns an empty text.
func (w *world) comes(what string, limit time.Duration, left func() string) {
	begin := time.Now()
	for left() != "" {
		if time.Since(begin) > limit {
			w.fault("%s, %v after everything healed: %s", what, limit, left())
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.tell("%s: right after %v", what, time.Since(begin))
}

// leakLimit is how long an address may be held that no container has.
const leakLimit = 15 * time.Minute

// spotless checks that nothing is left of operations that a crash interrupted. Agents learn what is
// gone from Docker's API, so it is called only for seeds in which they have that.
func (w *world) spotless() {
	if !w.replicates() {
		return
	}
	w.comes("(3) addresses in use", leakLimit, w.leaked)
}

// itself are the addresses that a host has on networks, not its containers.
func (h *host) itself() (out []netip.Addr) {
	for _, p := range h.kernel.HostPorts() {
		out = append(out, p.Addrs...)
	}
	return out
}

func (w *world) leaked() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		for block, used := range h.used() {
			var held uint64
			for addr, who := range w.held {
				if who.host == h && block.Contains(addr) {
					held++
				}
			}
			for _, addr := range h.itself() {
				if block.Contains(addr) {
					held++
				}
			}
			if used != held {
				return fmt.Sprintf("%s holds %d addresses of %s, its containers have %d", h, used, block, held)
			}
		}
	}
	return ""
}
