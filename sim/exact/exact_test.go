package exact_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

const (
	span       = time.Minute      // that a seed runs before everything heals, by its timers
	budget     = 25 * time.Second // of fresh seeds, where no number was asked for
	fixedSeeds = 20               // that are run in any case
	mostFixed  = 120              // within which every kind of fault must be met
)

// simulate runs one seed and answers the world as it was left. One thread runs, and
// no garbage is collected meanwhile: what the scheduler does should not matter, and
// so it is not asked to do much.
func simulate(t *testing.T, seed uint64, watch bool) *world {
	t.Helper()
	return inBubble(t, seed, watch, (*world).live)
}

// inBubble has a world live in a bubble and end there.
func inBubble(t *testing.T, seed uint64, watch bool, live func(*world)) *world {
	t.Helper()
	if underRace {
		t.Skip("before Go 1.27 the race detector can crash in bubbles")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	cryptotest.SetGlobalRandom(t, seed)
	var w *world
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed)
		w.watch, w.loud = watch, os.Getenv("WEFT_SEED") != ""
		live(w)
		w.end()
	})
	runtime.GC()
	return w
}

// live is the whole life of a seed.
func (w *world) live() {
	n := 3 + w.dice.IntN(5)
	w.ledger.want = 1 + 2*w.dice.IntN(3)
	for range n {
		m := w.newMachine()
		w.after(w.between(0, 300*time.Millisecond), m.start)
		w.after(w.between(time.Second, 3*time.Second), m.live)
	}
	if w.chance(50) {
		w.expect = 2 + w.dice.IntN(n-1)
	}
	w.machines[0].joins = w.expect > 0
	w.after(time.Second, w.ledger.manage)
	w.after(4*time.Second, w.suffer)
	w.after(5*time.Second, w.nurse)
	w.run(span)
	w.recover()
}

// recover heals everything and waits for what must follow: every call ends, all
// facts and kernels are equal, every host works.
func (w *world) recover() {
	w.heal()
	w.run(w.now() + 30*time.Second)
	w.eventually("(10) every call of Docker ends", 3*time.Minute, w.waits)
	w.eventually("(8) facts and kernels are equal", 10*time.Second, w.unsettled)
	w.eventually("every host runs", time.Minute, w.down)
	for _, m := range w.machines {
		if m.serves() && len(w.fault) == 0 {
			m.oneMore()
		}
	}
	w.eventually("(10) every call of Docker ends", 3*time.Minute, w.waits)
	w.eventually("(8) facts and kernels are equal", 10*time.Second, w.unsettled)
	w.checkHolders()
	for _, m := range w.machines {
		w.alive += w.clock()
		if len(w.fault) == 0 && !m.buried && !m.settled {
			w.wrong("(10) %s does not work after everything healed", m)
		}
	}
}

// down says which host has no agent.
func (w *world) down() string {
	for _, m := range w.machines {
		if !m.buried && !m.serves() {
			return m.String()
		}
	}
	return ""
}

// waits says for whom Docker still waits.
func (w *world) waits() string {
	for _, m := range w.machines {
		if m.busy > 0 {
			return m.String()
		}
	}
	return ""
}

// eventually waits until nothing is left to be done.
func (w *world) eventually(what string, limit time.Duration, left func() string) {
	for end := w.now() + limit; left() != "" && len(w.fault) == 0; w.run(w.now() + 100*time.Millisecond) {
		if w.now() > end {
			w.wrong("not within %v: %s: %s", limit, what, left())
		}
	}
}

// end has every agent end, so that the bubble can.
func (w *world) end() {
	w.queue = nil
	for _, m := range w.machines {
		m.crash()
	}
	for range 100 {
		w.calm()
		time.Sleep(time.Minute)
	}
}

// tally is what many seeds came to.
type tally struct {
	begin time.Time
	seeds int
	steps int
	alive time.Duration
	met   map[string]int
}

func newTally() *tally { return &tally{begin: time.Now(), met: map[string]int{}} }

// one runs a seed and tells of its faults.
func (a *tally) one(t *testing.T, seed uint64) *world {
	t.Helper()
	w := simulate(t, seed, os.Getenv("WEFT_SEED") != "")
	a.seeds, a.steps, a.alive = a.seeds+1, a.steps+w.steps, a.alive+w.alive
	for what, n := range w.met {
		a.met[what] += n
	}
	if len(w.fault) > 0 {
		t.Errorf("seed %d: %s\nagain, with its story: WEFT_SEED=%d go test -run 'TestExact$' -v ./sim/exact; if it was the product's fault, keep the seed in testdata/seeds",
			seed, strings.Join(w.fault, "\n"), seed)
	}
	if w.watch {
		t.Logf("seed %d: trace %x, %d steps\n%s", seed, w.trace.Sum64(), w.steps, strings.Join(w.story, "\n"))
	}
	return w
}

// String says how fast it went, and how often each kind of fault and each refusal
// was met.
func (a *tally) String() string {
	took := time.Since(a.begin)
	var out strings.Builder
	fmt.Fprintf(&out, "%d seeds, %.1f seeds a second, %.0f steps a second, %.0f hours of clusters' hosts\n",
		a.seeds, float64(a.seeds)/took.Seconds(), float64(a.steps)/took.Seconds(), a.alive.Hours())
	for _, what := range slices.Sorted(maps.Keys(a.met)) {
		fmt.Fprintf(&out, "%8d %s\n", a.met[what], what)
	}
	return out.String()
}

// TestExact runs seeds until every kind of fault was met, and fresh ones as long as the
// budget lasts or as many as SEEDS says.
func TestExact(t *testing.T) {
	if one := os.Getenv("WEFT_SEED"); one != "" {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatalf("WEFT_SEED: %v", err)
		}
		newTally().one(t, seed)
		return
	}
	a := newTally()
	for seed := uint64(1); seed <= fixedSeeds || !t.Failed() && len(a.unmet()) > 0; seed++ {
		if seed > mostFixed {
			t.Fatalf("in no seed: %s", strings.Join(a.unmet(), "; "))
		}
		a.one(t, seed)
	}
	many, _ := strconv.Atoi(os.Getenv("SEEDS"))
	fresh := uint64(time.Now().UnixNano())
	for n := 0; !t.Failed() && !testing.Short() && (a.seeds < many || many == 0 && time.Since(a.begin) < budget); n++ {
		a.one(t, fresh+uint64(n))
	}
	t.Log(a)
}

// unmet is what never happened yet: a fault that was not met was not survived, and a
// refusal that nobody heard was not tested.
func (a *tally) unmet() (out []string) {
	must := []string{
		"refused: admit fenced", "refused: claim held", "refused: grant-block exhausted", "refused: remove held", "request lost", "request doubled",
		"request decided after it was given up", "answer lost", "answer nobody waits for", "message late", "gap in facts", "write lost by a crash",
		"written, and nobody was told", "write on a full disk", "group commit", "several operators at once", "host removed after its lease",
		"host removed by an operator's word", "host removed by time", "clone noticed", "host left", "leader lost", "keeper replaced", "new identity",
	}
	for _, f := range faults {
		must = append(must, "fault: "+f.name)
	}
	for _, what := range must {
		if a.met[what] == 0 {
			out = append(out, what)
		}
	}
	return out
}

// TestExactReplays: a seed is the whole story.
func TestExactReplays(t *testing.T) {
	seeds := 4
	if more, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil {
		seeds = more
	}
	for seed := uint64(1001); seed <= 1000+uint64(seeds) && !t.Failed(); seed++ {
		a, b := simulate(t, seed, true), simulate(t, seed, true)
		if a.trace.Sum64() == b.trace.Sum64() {
			continue
		}
		for i, line := range a.story {
			if i >= len(b.story) || b.story[i] != line {
				t.Errorf("seed %d is two stories; after\n%s\none goes on\n%s\nand the other\n%s", seed,
					strings.Join(a.story[max(0, i-10):i], "\n"), strings.Join(a.story[i:min(len(a.story), i+5)], "\n"), strings.Join(b.story[i:min(len(b.story), i+5)], "\n"))
				break
			}
		}
	}
}

// TestExactPast runs the seeds again that once found a fault of the product.
func TestExactPast(t *testing.T) {
	file, err := os.Open("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a := newTally()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		word, _, _ := strings.Cut(lines.Text(), " ")
		if word == "" || word == "#" {
			continue
		}
		seed, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			t.Fatalf("testdata/seeds: %q: %v", lines.Text(), err)
		}
		a.one(t, seed)
	}
}
