package exact_test

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

const (
	span       = time.Minute // that a seed runs before everything heals, by its timers
	ofTree     = 40          // seeds that derive from the tree, about a second each
	mostFailed = 3           // after which nobody needs more
	fixedSeeds = 20          // that are run in any case
	mostFixed  = 120         // within which every kind of fault must be met
)

// simulate runs one seed and returns the world as it was left. It uses one thread and
// no garbage collector: the result must not depend on the scheduler, so the scheduler
// gets little to do.
func simulate(t *testing.T, seed uint64, watch bool) *world {
	t.Helper()
	return inBubble(t, seed, watch, (*world).live)
}

// inBubble runs a world in a synctest bubble, from its start to its end.
func inBubble(t *testing.T, seed uint64, watch bool, live func(*world)) *world {
	t.Helper()
	if underRace {
		t.Skip("before Go 1.27 the race detector can crash in bubbles")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	cryptotest.SetGlobalRandom(t, seed)
	var w *world
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed, dir)
		w.watch, w.loud = watch, os.Getenv("WEFT_SEED") != ""
		live(w)
		w.end()
	})
	runtime.GC()
	return w
}

// live runs a seed: actions and faults, then recovery.
func (w *world) live() {
	n := 3 + w.dice.IntN(5)
	if w.chance(12) {
		n = 8 + w.dice.IntN(5)
	}
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

// recover ends all faults and waits until every call has ended, all facts and kernels are equal,
// every host works, and everything that is not in use was returned.
func (w *world) recover() {
	w.heal()
	w.run(w.now() + 30*time.Second)
	w.eventually("(10) every call of Docker ends", 3*time.Minute, w.waits)
	w.eventually("no host is believed to be its copy", 4*time.Minute, w.mistaken)
	w.eventually("every host is a member, and none waits for its operator", 4*time.Minute, w.down)
	w.eventually("(8) facts and kernels are equal", 10*time.Second, w.differences)
	for _, m := range w.machines {
		if m.serves() && len(w.fault) == 0 {
			m.oneMore()
		}
	}
	w.eventually("(10) every call of Docker ends", 3*time.Minute, w.waits)
	w.eventually("(8) facts and kernels are equal", 10*time.Second, w.differences)
	w.checkHolders()
	w.drain()
	w.lasted = w.clock()
	for _, m := range w.machines {
		w.alive += w.clock()
		if len(w.fault) == 0 && !m.buried && !m.works {
			w.wrong("(10) %s does not work after everything healed", m)
		}
	}
}

// down returns a host that has no agent, or whose agent is no member or waits for an operator (see
// nurse).
func (w *world) down() string {
	for _, m := range w.machines {
		if !m.buried && (!m.serves() || m.life.told == 0 || m.life.fenced && !m.twin) {
			return m.String()
		}
	}
	return ""
}

// waits returns the hosts whose Docker still waits for an answer.
func (w *world) waits() string {
	for _, m := range w.machines {
		if m.busy > 0 {
			return m.String()
		}
	}
	return ""
}

// eventually waits until left returns nothing.
func (w *world) eventually(what string, limit time.Duration, left func() string) {
	for end := w.now() + limit; left() != "" && len(w.fault) == 0; w.run(w.now() + 100*time.Millisecond) {
		if w.now() > end {
			w.wrong("not within %v: %s: %s", limit, what, left())
		}
	}
}

// end stops every agent, so that the bubble can end.
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

// TestExact runs seeds until every kind of fault was met, and then further ones: those of
// the tree that WEFT_TREE says, so that each change meets others and every run of it the
// same, or new ones, as many as SEEDS says or for as long as WEFT_SIM_TIME does.
func TestExact(t *testing.T) {
	a := newTally("TestExact")
	if one := os.Getenv("WEFT_SEED"); one != "" {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatalf("WEFT_SEED: %v", err)
		}
		a.one(t, seed)
		return
	}
	defer a.tell(t)
	for seed := uint64(1); seed <= fixedSeeds || !t.Failed() && len(a.unmet()) > 0; seed++ {
		if seed > mostFixed {
			t.Fatalf("in no seed: %s", strings.Join(a.unmet(), "; "))
		}
		a.one(t, seed)
	}
	seed, more := further(t)
	for ; a.failed < mostFailed && more(a); seed++ {
		a.one(t, seed)
	}
}

// further is the first of the seeds after the fixed ones, and whether to run one more.
func further(t *testing.T) (first uint64, more func(*tally) bool) {
	t.Helper()
	anew := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEEDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SEEDS: %v", err)
		}
		return anew, func(a *tally) bool { return a.seeds < n }
	}
	if text := os.Getenv("WEFT_SIM_TIME"); text != "" {
		limit, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("WEFT_SIM_TIME: %v", err)
		}
		return anew, func(a *tally) bool { return time.Since(a.begin) < limit }
	}
	tree := os.Getenv("WEFT_TREE")
	left := ofTree
	if tree == "" || testing.Short() {
		left = 0
	}
	sum := sha256.Sum256([]byte(tree))
	first = binary.BigEndian.Uint64(sum[:])
	if left > 0 {
		t.Logf("seeds %d and the next %d are of tree %s", first, left-1, tree)
	}
	return first, func(*tally) bool { left--; return left >= 0 }
}

// unmet lists the faults and refusals that occurred in no seed yet, and so were not tested.
func (a *tally) unmet() (out []string) {
	must := []string{
		"refused: admit fenced", "refused: claim held", "refused: grant-block exhausted", "refused: remove held", "request lost", "request doubled", "asked a foreign ledger",
		"request decided after it was given up", "answer lost", "answer nobody waits for", "message late", "gap in facts", "write lost by a crash",
		"written, and nobody was told", "write on a full disk", "group commit", "several operators at once", "host removed after its lease",
		"host removed by an operator's word", "host removed by time", "clone noticed", "old disk of the newest start", "host left", "leader lost", "keeper replaced", "new identity",
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
