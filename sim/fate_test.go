package sim_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay/lossy"
)

// fate is something that happens to a host's identity, such as its removal. Meanwhile nothing else
// acts on the host, the network has no faults except those of the fate, and the other hosts go on.
type fate struct {
	name       string
	do         func(*host)
	anyNetwork bool // messages may be lost, doubled and late meanwhile
}

var fates = []fate{
	{name: "removed while it is cut off", do: (*host).removedAway},
	{name: "removed while it is off", do: (*host).removedOff},
	{name: "removed while it runs", do: (*host).removedLive},
	{name: "suspended beyond its lease", do: (*host).suspended},
	{name: "an older disk is restored", do: (*host).oldDisk},
	{name: "a copy starts beside it", do: (*host).copied},
	{name: "a copy starts while it is off", do: (*host).replaced},
	{name: "leaves", do: (*host).left, anyNetwork: true},
	{name: "most keepers are lost for good", do: (*host).majorityLost, anyNetwork: true},
}

// fateful are the events that the fates must cause.
var fateful = []string{
	"returned as a new host", "an address of a removed host given to another", "container lost its address", "container kept its address",
	"refused: lease over", "refused: older disk", "refused: copy", "removed by several operators", "heir crashed",
	"refused: left", "left in order", "left with containers", "crashed while it left",
	"ledger recovered", "decisions that only lost keepers knew", "crashed during the recovery", "--ip refused of what another has",
}

// simulateFates lets each fate befall some host.
func simulateFates(t *testing.T, seed uint64, m mutation, chosen ...fate) *world {
	t.Helper()
	var w *world
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, dir, seed, max(4, size(seed)), m)
		w.fateful = true
		w.up()
		w.furnish()
		ctx, stop := context.WithCancel(t.Context())
		w.calmed()
		var lives sync.WaitGroup
		lives.Go(func() { w.watch(ctx) })
		for _, h := range w.hosts {
			lives.Go(func() { h.churn(ctx) })
		}
		dice := rand.New(rand.NewPCG(seed, 1))
		for _, i := range dice.Perm(len(chosen)) {
			w.suffers(w.hosts[dice.IntN(len(w.hosts))], chosen[i])
			if len(w.faults) > 0 {
				break
			}
		}
		stop()
		lives.Wait()
		w.converged()
		w.spotless()
		w.lasted = time.Since(w.began)
		w.down()
	})
	return w
}

// furnish creates the networks and some containers on all hosts.
func (w *world) furnish() {
	for _, h := range w.hosts {
		w.until(fmt.Sprintf("%s has all networks", h), orphanLimit, func() bool {
			h.createNetwork() // a replica may come first
			return h.network("web") != "" && h.network("dual") != ""
		})
		for range 4 {
			h.run(noAddr)
		}
	}
}

// suffers runs one fate on a host, and checks the host after it.
func (w *world) suffers(h *host, f fate) {
	time.Sleep(time.Duration(6+h.dice.IntN(10)) * time.Second) // what is known of peers is on disk by then
	keepers := 3
	if len(w.hosts) > 4 {
		keepers = 5
	}
	w.until(fmt.Sprintf("%d keepers", keepers), 2*time.Minute, func() bool {
		return slices.ContainsFunc(w.hosts, func(o *host) bool { return len(o.leads()) == keepers })
	})
	h.take()
	w.fated = h
	w.tell("fate: %s, %s", f.name, h)
	w.meet(f.name)
	w.upset()
	if f.anyNetwork && h.dice.IntN(2) == 0 {
		w.meet("on a bad network: " + f.name)
		w.quality(lossy.Link{Loss: 0.05, Double: 0.05, Delay: 2 * time.Millisecond, Jitter: 20 * time.Millisecond})
	}
	f.do(h)
	w.quality(lan)
	w.calmed()
	for _, o := range w.others(h) {
		o.take()
	}
	w.converged()
	w.checkHolders()
	w.checkRights()
	for _, o := range w.hosts {
		o.leave()
	}
}

// leads returns the keepers if this host is their leader.
func (h *host) leads() []netmap.HostID {
	a := h.agent()
	if a == nil { // it is being restarted
		return nil
	}
	if l := a.Report().Ledger; l.Role == "leader" {
		return l.Keepers
	}
	return nil
}

func (h *host) take()  { h.turn <- struct{}{} }
func (h *host) leave() { <-h.turn }

func (w *world) others(h *host) []*host {
	return slices.DeleteFunc(slices.Clone(w.hosts), func(o *host) bool { return o == h })
}

// churn is what a host does between its fates.
func (h *host) churn(ctx context.Context) {
	calm := slices.DeleteFunc(slices.Clone(actions), func(a action) bool {
		return !slices.Contains([]string{"run", "run --ip", "stop", "rm", "repeat"}, a.name)
	})
	calm = append(calm, action{name: "agent restart", weight: 2, do: (*host).restartSoon, harsh: true})
	total := 0
	for _, a := range calm {
		total += a.weight
	}
	for ctx.Err() == nil {
		time.Sleep(time.Duration(h.dice.Float64() * float64(6*time.Second)))
		a := choose(calm, h.dice.IntN(total))
		if a.harsh && h.w.peace.Load() {
			continue
		}
		h.take()
		h.w.tell("%s: %s", h, a.name)
		if a.name != "repeat" || len(h.w.connected(h)) == len(h.docker.Containers()) {
			a.do(h) // what Docker repeats of a container off the network is refused
		}
		h.leave()
	}
}

// restartSoon restarts the agent at once, so that no two keepers are down at the same time.
func (h *host) restartSoon() {
	h.stop()
	time.Sleep(time.Duration(h.dice.IntN(1000)) * time.Millisecond)
	h.start()
}

// checkRights checks invariant 4 at rest: the ledger names a connected host as the owner of
// what its containers hold.
func (w *world) checkRights() {
	w.learn()
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, who := range w.held {
		if owner := w.decided.Owner(addr); owner != who.host.self {
			w.faults = append(w.faults, fmt.Sprintf("(4) %s (%s) holds %s, which belongs to %s", who, who.host.self.Short(), addr, owner.Short()))
		}
	}
}

// attempt starts a container, and returns why it did not start.
func (h *host) attempt(what string) error {
	ctx, cancel := h.ctx()
	defer cancel()
	name := fmt.Sprintf("%s-%d", what, h.dice.Uint32())
	_, err := h.docker.Run(ctx, name, h.network("web"), noAddr)
	_ = h.docker.Remove(ctx, name) // whatever it is
	return err
}

// refused checks that the host hands out nothing, and that the error contains these words.
func (h *host) refused(what string, words ...string) {
	err := h.attempt("refused")
	switch {
	case err == nil:
		h.w.fault("(4) %s handed out an address, %s", h, what)
	case slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(err.Error(), word) }):
		h.w.fault("%s: %s: it refuses with %v, want %q", h, what, err, words)
	default:
		h.w.meet("refused: " + what)
	}
}

// fenced checks that the host hands out nothing, neither before the ledger has told it what is
// wrong nor after.
func (h *host) fenced(what string) {
	h.refused(what)
	h.w.until(fmt.Sprintf("%s knows that it is a %s", h, what), time.Minute, func() bool {
		return slices.ContainsFunc(h.agent().Report().Problems, func(p string) bool {
			return strings.Contains(p, "shows start") || strings.Contains(p, "both show start") || strings.Contains(p, "older copy")
		})
	})
	h.refused(what, "start", "new-identity")
}

// remove lets operators remove a host, on several hosts at once.
func (w *world) remove(id netmap.HostID, by []*host) {
	if len(by) > 1 {
		w.meet("removed by several operators")
	}
	var all sync.WaitGroup
	for _, o := range by {
		all.Go(func() {
			w.until(fmt.Sprintf("%s removed %s", o, id.Short()), time.Minute, func() bool {
				a := o.agent()
				if a == nil { // it is being restarted
					return false
				}
				_, err := a.RemoveHost(context.Background(), api.Removal{Host: id.String(), IsOff: true})
				if err != nil {
					w.tell("%s: weft host rm: %v", o, err)
				}
				return err == nil
			})
		})
	}
	all.Wait()
}

// plunder lets other hosts request some of the addresses that a removed host had.
func (w *world) plunder(h *host) {
	for i, c := range h.docker.Containers() {
		if len(c.Addrs) == 0 || !c.Addrs[0].Addr().Is4() || i%2 == 0 || c.Network != h.network("web") {
			continue
		}
		o := w.others(h)[i%(len(w.hosts)-1)]
		o.take()
		if h.dice.IntN(4) == 0 {
			w.meet("heir crashed")
			o.crashWhile(c.Addrs[0].Addr())
		} else {
			o.run(c.Addrs[0].Addr())
		}
		o.leave()
	}
}

// reborn starts the agent again once the host has given its identity up, and checks which addresses
// it kept.
func (h *host) reborn(limit time.Duration) {
	if took := h.ended("gives its identity up", limit); took > limit {
		_ = h.attempt("removed") // granted judges
		return
	}
	h.w.meet("returned as a new host")
}

// ended waits until the agent ends, and lets another one follow it, as plugin.Run does.
func (h *host) ended(why string, limit time.Duration) (took time.Duration) {
	took = h.w.until(fmt.Sprintf("%s %s", h, why), limit, func() bool {
		select {
		case <-h.agent().Ended():
			return true
		default:
			return false
		}
	})
	if took > limit {
		return took
	}
	h.w.tell("%s: %s after %v", h, why, took)
	h.stop()
	h.start()
	h.w.until(fmt.Sprintf("%s is a member again", h), 30*time.Second, func() bool { return h.agent().Report().State == "ready" })
	return took
}

// account waits until the ledger has decided about all addresses of the host, and notes which it
// kept. An address that another host handed out to a container that never came is free again after
// a while. Each start of that host's agent begins that time anew, so no agent restarts meanwhile.
func (h *host) account() {
	h.w.peace.Store(true)
	defer h.w.peace.Store(false)
	h.w.until(fmt.Sprintf("%s has asked for its addresses", h), orphanLimit+time.Minute, func() bool {
		return !slices.ContainsFunc(h.agent().Report().Problems, func(p string) bool { return strings.Contains(p, "still missing") })
	})
	synctest.Wait()
	view := h.agent().View()
	w := h.w
	for _, c := range h.docker.Containers() {
		lost := false
		for _, a := range c.Addrs {
			w.mu.Lock()
			who, taken := w.held[a.Addr()]
			mine := view.Owner(a.Addr()) == h.self
			if mine && (!taken || who.is(h, c.Name)) {
				w.held[a.Addr()] = holder{h, c.Name, h.self}
			}
			w.mu.Unlock()
			itself := slices.ContainsFunc(w.hosts, func(o *host) bool { return slices.Contains(o.itself(), a.Addr()) })
			if !mine && taken && who.is(h, c.Name) && !itself {
				w.fault("%s (%s): %s lost %s, which nobody else has; by decision %d it belongs to %s", h, h.self.Short(), c.Name, a.Addr(), view.Decided, view.Owner(a.Addr()).Short())
			}
			lost = lost || !mine
		}
		if lost && !h.unknown[c.Endpoint] {
			w.meet("container lost its address")
			if !slices.ContainsFunc(h.agent().Report().Problems, func(p string) bool {
				return strings.Contains(p, "off the network") && strings.Contains(p, c.Addrs[0].Addr().String())
			}) {
				w.fault("%s: nobody is told that %s lost %v: %q", h, c.Name, c.Addrs, h.agent().Report().Problems)
			}
		} else if !lost && c.Running {
			w.meet("container kept its address")
		}
	}
}

// TestFates: whatever happens to the identities of hosts, no address is held twice, and a host keeps
// the addresses that no other host got.
func TestFates(t *testing.T) {
	must := slices.Clone(fateful)
	for _, f := range fates {
		must = append(must, f.name)
	}
	runSeeds(t, "TestFates", func(t *testing.T, seed uint64) *world { return simulateFates(t, seed, mutation{}, fates...) }, must...)
}
