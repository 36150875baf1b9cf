package sim_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Without SEEDS or WEFT_SIM_TIME, each test runs this much.
const (
	fixedSeeds  = 3                // in any case
	mostFixed   = 40               // within which everything must be met
	freshBudget = 25 * time.Second // of fresh seeds
)

// campaign runs many seeds of one simulation.
type campaign struct {
	test string // its name, for the command that runs a seed again
	run  func(*testing.T, uint64) *world
	must []string // what has to be met in some seed

	begin time.Time
	seeds int
	lived time.Duration // of clusters
	hosts time.Duration // of their hosts
	met   map[string]int
}

// runSeeds runs the seeds that once found a fault, then the first ones until everything
// was met, then fresh ones: as many as SEEDS says, or for as long as WEFT_SIM_TIME, or
// for a short while. WEFT_SEED is the only one then.
func runSeeds(t *testing.T, test string, run func(*testing.T, uint64) *world, must ...string) {
	t.Helper()
	tooLongForRace(t)
	c := &campaign{test: test, run: run, must: must, begin: time.Now(), met: map[string]int{}}
	if one := os.Getenv("WEFT_SEED"); one != "" {
		c.one(t, number(t, one))
		t.Log(c)
		return
	}
	many, budget := wanted(t)
	for _, seed := range past(t, test) {
		c.one(t, seed)
	}
	for seed := uint64(1); seed <= fixedSeeds || !testing.Short() && len(c.unmet()) > 0; seed++ {
		if seed > mostFixed && !t.Failed() {
			t.Errorf("in no seed: %s", strings.Join(c.unmet(), "; "))
		}
		if t.Failed() {
			break
		}
		c.one(t, seed)
	}
	fresh := uint64(time.Now().UnixNano())
	for n := uint64(0); !t.Failed() && (c.seeds < many || many == 0 && time.Since(c.begin) < budget); n++ {
		c.one(t, fresh+n)
	}
	c.tell(t)
}

// tell prints what was met, and leaves it where WEFT_TALLY says, because go test shows
// nothing of a package that passes.
func (c *campaign) tell(t *testing.T) {
	t.Helper()
	t.Log(c)
	if dir := os.Getenv("WEFT_TALLY"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, c.test), []byte(c.String()), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// wanted is how many seeds somebody asked for, or else for how long.
func wanted(t *testing.T) (many int, budget time.Duration) {
	t.Helper()
	many, err := strconv.Atoi(os.Getenv("SEEDS"))
	if os.Getenv("SEEDS") != "" && err != nil {
		t.Fatalf("SEEDS: %v", err)
	}
	budget, err = time.ParseDuration(os.Getenv("WEFT_SIM_TIME"))
	switch {
	case os.Getenv("WEFT_SIM_TIME") != "" && err != nil:
		t.Fatalf("WEFT_SIM_TIME: %v", err)
	case os.Getenv("WEFT_SIM_TIME") == "" && !testing.Short():
		budget = freshBudget
	}
	return many, budget
}

// past are the seeds that once found a fault in a test.
func past(t *testing.T, test string) (out []uint64) {
	t.Helper()
	text, err := os.ReadFile("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == test {
			out = append(out, number(t, f[1]))
		}
	}
	return out
}

func number(t *testing.T, word string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		t.Fatalf("seed: %v", err)
	}
	return n
}

// one runs a seed and reports its faults.
func (c *campaign) one(t *testing.T, seed uint64) {
	t.Helper()
	t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
		w := c.run(t, seed)
		c.seeds, c.lived, c.hosts = c.seeds+1, c.lived+w.lasted, c.hosts+w.lasted*time.Duration(len(w.hosts))
		for what, times := range w.met {
			c.met[what] += times
		}
		t.Logf("seed %d: %d hosts for %v: %s; %+v", seed, len(w.hosts), w.lasted, w.counts(), w.net.Stats())
		if len(w.faults) > 0 || t.Failed() {
			t.Errorf("seed %d: %d faults:\n%s\nbefore the first of them:\n%s\nthe whole story is in %s; again: WEFT_SEED=%d go test -run '%s$' -v ./sim; if it was the product's fault, keep the seed in sim/testdata/seeds",
				seed, len(w.faults), strings.Join(w.faults, "\n"), w.upToFault(), w.keep(), seed, c.test)
		}
	})
}

// unmet lists what no seed has had yet: what did not happen was not tested.
func (c *campaign) unmet() []string {
	return slices.DeleteFunc(slices.Clone(c.must), func(what string) bool { return c.met[what] > 0 })
}

// String says how fast it went, and how often each kind of fault and each refusal was
// met.
func (c *campaign) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %d seeds, %.2f seeds a second, %.1f hours of clusters, %.1f hours of their hosts\n",
		c.test, c.seeds, float64(c.seeds)/time.Since(c.begin).Seconds(), c.lived.Hours(), c.hosts.Hours())
	for _, what := range slices.Sorted(maps.Keys(c.met)) {
		fmt.Fprintf(&out, "%8d %s\n", c.met[what], what)
	}
	return out.String()
}

// upToFault is the end of the story up to the first fault: a run is not exactly repeatable, and
// a log may be all that is left of it.
func (w *world) upToFault() string {
	const lines = 200
	end := len(w.story)
	if n := slices.IndexFunc(w.story, func(line string) bool { return strings.Contains(line, " WRONG: ") }); n >= 0 {
		end = n + 1
	}
	return strings.Join(w.story[max(0, end-lines):end], "\n")
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
