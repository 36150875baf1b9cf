package sim_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// span is the virtual time that one seed runs before everything heals; where the
// checks are to fail, they do so sooner.
const (
	span        = 3 * time.Minute
	mutatedSpan = time.Minute
)

// defaultSeeds run without WEFT_SIM_TIME.
const defaultSeeds = 4

// simulate runs one seed in a bubble and answers the world as it was left.
func simulate(t *testing.T, seed uint64, span time.Duration, m mutation) *world {
	t.Helper()
	var w *world
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, dir, seed, 3+int(seed%3), m)
		w.up()
		end := time.Now().Add(span)
		var lives sync.WaitGroup
		for _, h := range w.hosts {
			lives.Go(func() { h.live(end) })
		}
		lives.Go(func() { w.suffer(end) })
		lives.Wait()
		w.heal()
		w.settled()
		w.checkHolders()
		w.startOneEach()
		w.settled()
		w.spotless()
		w.down()
	})
	return w
}

// startOneEach is liveness: once everything healed, every host can start a
// container and make a network.
func (w *world) startOneEach() {
	for _, h := range w.hosts {
		w.until(fmt.Sprintf("%s has all networks", h), orphanLimit, func() bool {
			h.createNetwork() // a replica may come first
			return h.network("web") != "" && h.network("dual") != ""
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

// tooLongForRace leaves a test to runs of its own: before Go 1.27 the race
// detector can crash in bubbles, and it makes them ten times as long.
func tooLongForRace(t *testing.T) {
	if underRace && os.Getenv("WEFT_SIM_TIME")+os.Getenv("WEFT_SIM_SEED") == "" {
		t.Skip("run under the race detector by itself, with WEFT_SIM_TIME or WEFT_SIM_SEED set")
	}
}

// TestSim runs random schedules. What is asked for by WEFT_SIM_TIME is the time
// that passes outside.
func TestSim(t *testing.T) {
	tooLongForRace(t)
	budget, err := time.ParseDuration(os.Getenv("WEFT_SIM_TIME"))
	if os.Getenv("WEFT_SIM_TIME") != "" && err != nil {
		t.Fatalf("WEFT_SIM_TIME: %v", err)
	}
	if one := os.Getenv("WEFT_SIM_SEED"); one != "" {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatalf("WEFT_SIM_SEED: %v", err)
		}
		runSeed(t, seed)
		return
	}
	begin, first, met := time.Now(), uint64(1), map[string]int{}
	if budget > 0 {
		first = uint64(begin.Unix())
	}
	for n := uint64(0); n < defaultSeeds || time.Since(begin) < budget; n++ {
		if budget > 0 && time.Since(begin) > budget || t.Failed() {
			break
		}
		for what, times := range runSeed(t, first+n) {
			met[what] += times
		}
	}
	if budget == 0 {
		allMet(t, met)
	}
}

// allMet: a fault that never happened was not survived.
func allMet(t *testing.T, met map[string]int) {
	want := []string{"network created", "container started", "--ip granted", "container started right after a restart", "restart with no peer reachable", "agent down for long"}
	for _, a := range actions {
		want = append(want, a.name)
	}
	for _, a := range troubles {
		want = append(want, a.name)
	}
	for _, what := range want {
		if met[what] == 0 && !t.Failed() {
			t.Errorf("in no seed: %s", what)
		}
	}
}

func runSeed(t *testing.T, seed uint64) (met map[string]int) {
	t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
		begin := time.Now()
		w := simulate(t, seed, span, mutation{})
		t.Logf("seed %d: %d hosts, %v in %v: %s; %+v", seed, len(w.hosts), span, time.Since(begin).Round(time.Millisecond), w.counts(), w.net.Stats())
		if len(w.faults) > 0 || t.Failed() {
			t.Errorf("%d faults:\n%s\nthe story is in %s; run again with WEFT_SIM_SEED=%d go test -run 'TestSim$' ./sim",
				len(w.faults), strings.Join(w.faults, "\n"), w.keep(), seed)
		}
		met = w.met
	})
	return met
}

// keep writes the story where it can be read.
func (w *world) keep() string {
	f, err := os.CreateTemp("", fmt.Sprintf("weft-sim-%d-*.log", w.seed))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	_, _ = f.WriteString(strings.Join(w.story, "\n") + "\n") // if it cannot, there is less to read
	return f.Name()
}
