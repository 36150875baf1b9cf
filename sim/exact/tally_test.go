package exact_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tally counts what happened in many seeds.
type tally struct {
	name   string
	begin  time.Time
	seeds  int
	failed int
	steps  int
	lasted time.Duration // virtual time of the clusters
	alive  time.Duration // the same of all their hosts
	met    map[string]int
}

func newTally(name string) *tally {
	return &tally{name: name, begin: time.Now(), met: map[string]int{}}
}

// one runs a seed and reports its faults.
func (a *tally) one(t *testing.T, seed uint64) *world {
	t.Helper()
	w := simulate(t, seed, os.Getenv("WEFT_SEED") != "")
	a.add(w)
	if len(w.fault) > 0 {
		a.failed++
		t.Errorf("seed %d: %s\nagain, with its story: WEFT_SEED=%d go test -run 'TestExact$' -v ./sim/exact; if it was the product's fault, see testdata/seeds",
			seed, strings.Join(w.fault, "\n"), seed)
	}
	if w.watch {
		t.Logf("seed %d: trace %x, %d steps\n%s", seed, w.trace.Sum64(), w.steps, strings.Join(w.story, "\n"))
	}
	return w
}

func (a *tally) add(w *world) {
	a.seeds, a.steps, a.lasted, a.alive = a.seeds+1, a.steps+w.steps, a.lasted+w.lasted, a.alive+w.alive
	for what, n := range w.met {
		a.met[what] += n
	}
}

// kinds are the parts of what was met, by how their names begin.
var kinds = []struct{ name, prefix string }{
	{"faults", "fault: "}, {"refusals of the ledger", "refused: "}, {"refusals that Docker was answered", "answered: "}, {"and", ""},
}

// String says how fast it went, and how often each kind of fault and each refusal
// was met.
func (a *tally) String() string {
	took := time.Since(a.begin)
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %d seeds, %d of them failed, %.1f seeds a second, %.0f steps a second, %.0f hours of clusters, %.0f of their hosts\n",
		a.name, a.seeds, a.failed, float64(a.seeds)/took.Seconds(), float64(a.steps)/took.Seconds(), a.lasted.Hours(), a.alive.Hours())
	left := maps.Clone(a.met)
	for _, kind := range kinds {
		fmt.Fprintf(&out, "  %s:\n", kind.name)
		for _, what := range slices.Sorted(maps.Keys(left)) {
			if short, ok := strings.CutPrefix(what, kind.prefix); ok {
				fmt.Fprintf(&out, "%8d %s\n", left[what], short)
				delete(left, what)
			}
		}
	}
	return out.String()
}

func (a *tally) tell(t *testing.T) {
	t.Helper()
	tell(t, a.name, a.String())
}

// tell prints what was met, and leaves it where WEFT_TALLY says, because go test shows
// nothing of a package that passes.
func tell(t *testing.T, name, what string) {
	t.Helper()
	t.Log(what)
	dir := os.Getenv("WEFT_TALLY")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(what), 0o600); err != nil {
		t.Error(err)
	}
}
