package exact_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestExactReplays: the same seed gives the same run, in one process and in two.
func TestExactReplays(t *testing.T) {
	seeds, child := 4, os.Getenv("WEFT_REPLAYS") != ""
	if more, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil {
		seeds = more
	}
	here := map[string]string{}
	for seed := uint64(1001); seed <= 1000+uint64(seeds); seed++ {
		a := simulate(t, seed, true)
		here[strconv.FormatUint(seed, 10)] = strconv.FormatUint(a.trace.Sum64(), 16)
		t.Logf("seed %d is trace %x", seed, a.trace.Sum64())
		if child {
			continue
		}
		if b := simulate(t, seed, true); a.trace.Sum64() != b.trace.Sum64() {
			t.Fatalf("seed %d is two stories; %s", seed, parting(a.story, b.story))
		}
	}
	if child {
		return
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestExactReplays$", "-test.v")
	again.Env = append(os.Environ(), "WEFT_REPLAYS=1", "SEEDS="+strconv.Itoa(seeds))
	out, err := again.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	told := regexp.MustCompile(`seed (\d+) is trace ([0-9a-f]+)`).FindAllStringSubmatch(string(out), -1)
	if len(told) != seeds {
		t.Fatalf("the other process told of %d seeds, want %d:\n%s", len(told), seeds, out)
	}
	for _, there := range told {
		if here[there[1]] != there[2] {
			t.Errorf("seed %s is trace %s here and %s in another process", there[1], here[there[1]], there[2])
		}
	}
}

// parting returns the first lines in which two runs differ.
func parting(a, b []string) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	lines := func(s []string, from, to int) string { return strings.Join(s[max(0, from):min(len(s), to)], "\n") }
	return "after\n" + lines(a, i-10, i) + "\none goes on\n" + lines(a, i, i+5) + "\nand the other\n" + lines(b, i, i+5)
}

// kept is a seed that once found a fault of the product.
type kept struct {
	seed        uint64
	story, what string
}

func keptSeeds(t *testing.T) (out []kept) {
	t.Helper()
	file, err := os.Open("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		parts := strings.Split(lines.Text(), " | ")
		if len(parts) != 3 {
			t.Fatalf("testdata/seeds: %q: want a seed, its story and what it found", lines.Text())
		}
		seed, err := strconv.ParseUint(parts[0], 10, 64)
		if err != nil {
			t.Fatalf("testdata/seeds: %q: %v", lines.Text(), err)
		}
		out = append(out, kept{seed, parts[1], parts[2]})
	}
	return out
}

// TestExactPast runs the seeds again that once found a fault of the product.
func TestExactPast(t *testing.T) {
	a := newTally("TestExactPast")
	for _, k := range keptSeeds(t) {
		a.one(t, k.seed)
	}
}

// TestKeptSeedsHaveStories: what a seed found is told by a scene or a test, since the
// seed itself means something else as soon as the simulation changes.
func TestKeptSeedsHaveStories(t *testing.T) {
	files, err := filepath.Glob("../../*/*_test.go")
	nested, err2 := filepath.Glob("../../*/*/*_test.go")
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, file := range append(files, nested...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	for _, k := range keptSeeds(t) {
		scene := slices.ContainsFunc(scenes, func(s scene) bool { return s.name == k.story })
		if !scene && !strings.Contains(tests.String(), "func "+k.story+"(t *testing.T)") {
			t.Errorf("seed %d (%s): there is no scene and no test %q", k.seed, k.what, k.story)
		}
	}
}
