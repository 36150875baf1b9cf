package sim_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/api"
)

// mutatedSpan is the virtual time that a seed runs before everything heals where the checks
// are to fail, which they do sooner.
const mutatedSpan = time.Minute

// span is the virtual time that a seed runs otherwise: four minutes, or less with more than
// four hosts, since much befalls twelve of them in a minute.
func span(seed uint64) time.Duration {
	return 16 * time.Minute / time.Duration(max(4, size(seed)))
}

// size is how many hosts a seed has: mostly few, since much befalls each of them then,
// and up to twelve with every eighth seed, of which the third is the first.
func size(seed uint64) int {
	if seed%8 == 3 {
		return 12 - int(seed/8%6)
	}
	return 3 + int(seed%3)
}

// simulate runs one seed in a bubble and answers the world as it was left.
func simulate(t *testing.T, seed uint64, span time.Duration, m mutation) *world {
	t.Helper()
	var w *world
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, dir, seed, size(seed), m)
		w.up()
		end := time.Now().Add(span)
		var lives, watching sync.WaitGroup
		looking, blind := context.WithCancel(t.Context())
		watching.Go(func() { w.watch(looking) })
		for _, h := range w.hosts {
			lives.Go(func() { h.live(end) })
		}
		lives.Go(func() { w.suffer(end) })
		lives.Wait()
		w.heal()
		blind()
		watching.Wait()
		for _, check := range []func(){w.converged, w.named, w.checkHolders, w.startOneEach, w.converged, w.named, w.spotless} {
			if !w.noticed() {
				check()
			}
		}
		w.lasted = time.Since(w.began)
		w.down()
	})
	return w
}

// startOneEach is liveness: once everything healed, every host can start a
// container and make a network.
func (w *world) startOneEach() {
	w.makeRoom()
	for _, h := range w.hosts {
		w.until(fmt.Sprintf("%s has all networks", h), orphanLimit, func() bool {
			h.createNetwork() // a replica may come first
			return h.network("web") != "" && h.network("dual") != ""
		})
	}
	for _, h := range w.hosts {
		w.until(fmt.Sprintf("%s knows that all networks were made again that somebody removed", h), orphanLimit, func() bool {
			return !slices.ContainsFunc(h.agent().Report().Networks, func(n api.Network) bool { return n.Retired })
		})
		for _, spec := range networks {
			ctx, cancel := h.ctx()
			if _, err := h.docker.Run(ctx, "last-"+spec.Name, h.network(spec.Name), noAddr); err != nil {
				w.fault("%s: after everything healed, a container on %s: %v", h, spec.Name, err)
			}
			cancel()
		}
	}
}

// makeRoom ends containers until every subnet has a free address for each host. Many hosts can fill
// a small subnet.
func (w *world) makeRoom() {
	for _, spec := range networks {
		free := 1<<(32-spec.Shown.Pools[0].Subnet.Bits()) - 3 // less its edges and the gateway
		share := free/len(w.hosts) - 1
		for _, h := range w.hosts {
			n := 0
			for _, c := range h.docker.Containers() {
				if c.Network != h.network(spec.Name) || !c.Running {
					continue
				}
				if n++; n <= share {
					continue
				}
				ctx, cancel := h.ctx()
				if err := h.docker.Remove(ctx, c.Name); err != nil {
					w.fault("%s: after everything healed, %s is to be removed: %v", h, c.Name, err)
				}
				cancel()
			}
		}
	}
}

// tooLongForRace skips a test under the race detector, which makes it ten times as long and before
// Go 1.27 can crash in synctest bubbles.
func tooLongForRace(t *testing.T) {
	if underRace && os.Getenv("WEFT_SIM_TIME")+os.Getenv("WEFT_SEED") == "" {
		t.Skip("run under the race detector by itself, with WEFT_SIM_TIME or WEFT_SEED set")
	}
}

// TestSim runs random schedules.
func TestSim(t *testing.T) {
	must := []string{
		"network created", "container started", "--ip granted", "container started right after a restart", "restart with no peer reachable", "agent down for long",
		"watched: a kernel", "watched: a host's facts on another",
	}
	for _, a := range actions {
		must = append(must, a.name)
	}
	for _, a := range troubles {
		must = append(must, a.name)
	}
	runSeeds(t, "TestSim", func(t *testing.T, seed uint64) *world { return simulate(t, seed, span(seed), mutation{}) }, must...)
}
