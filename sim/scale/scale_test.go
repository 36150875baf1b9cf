package scale_test

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/lab/document"
)

// scaleEnv has the sizes to measure, such as "10x50 1000x5", and for one real agent
// "agent:1000x50". agentEnv is its binary, documentEnv the page to write, beside which its
// picture lies.
const (
	scaleEnv    = "WEFT_SCALE"
	agentEnv    = "WEFT_SCALE_AGENT"
	documentEnv = "WEFT_SCALE_DOCUMENT"
)

// TestScale measures what scaleEnv lists.
func TestScale(t *testing.T) {
	sizes := os.Getenv(scaleEnv)
	if sizes == "" {
		t.Skip("takes minutes: make scale runs it")
	}
	enter := func(string) error { return nil }
	if file := os.Getenv(documentEnv); file != "" {
		d, err := document.Open(file, "make scale")
		if err != nil {
			t.Fatal(err)
		}
		enter = d.Enter
	}
	began := time.Now()
	r := report{Machine: fmt.Sprintf("%s, %d CPUs, Linux %s", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), release())}
	for one := range strings.FieldsSeq(sizes) {
		size, process := strings.CutPrefix(one, "agent:")
		var hosts, endpoints int
		if _, err := fmt.Sscanf(size, "%dx%d", &hosts, &endpoints); err != nil {
			t.Fatalf("%s: %q is no size: %v", scaleEnv, one, err)
		}
		if process {
			r.Costs = append(r.Costs, agentCost(t, os.Getenv(agentEnv), hosts, endpoints))
		} else {
			r.Curve = append(r.Curve, curve(t, hosts, endpoints, long.over(hosts)))
		}
		fmt.Printf("%s after %.0f s\n", one, time.Since(began).Seconds())
		so, err := json.Marshal(r) // if a later size fails, these are known
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%s\n", so)
	}
	fmt.Print(r.text())
	if err := enter(r.text()); err != nil {
		t.Fatal(err)
	}
	if file := os.Getenv(documentEnv); file != "" {
		if err := os.WriteFile(strings.TrimSuffix(file, ".md")+".svg", []byte(picture(r.Curve)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func release() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease") // unknown elsewhere
	return strings.TrimSpace(string(text))
}

// TestThirtyHosts: no count of 30 hosts with 50 endpoints each has doubled since
// testdata/thirty.json was written. Counts of bytes, connections and memory vary little from
// one run to the next, and not with what else the machine does.
func TestThirtyHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten seconds; not with -short")
	}
	const file = "testdata/thirty.json"
	got := curve(t, 30, 50, brief).counts()
	if os.Getenv("UPDATE") != "" {
		raw, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var before map[string]float64
	if err := json.Unmarshal(raw, &before); err != nil {
		t.Fatal(err)
	}
	for _, problem := range doubled(before, got) {
		t.Error(problem)
	}
}

// counts are the figures of a point that do not depend on the machine.
func (p point) counts() map[string]float64 {
	return map[string]float64{
		"boot: bytes of a host": float64(p.BootBytes), "boot: connections": float64(p.BootDials),
		"idle: bytes/s of a host": p.Idle, "idle: bytes/s of the leader": p.IdleLeader, "idle: datagrams/s of a host": p.IdleDatagrams,
		"event: bytes": float64(p.EventBytes), "event: datagrams": float64(p.EventDatagrams), "event: allocations of a host": float64(p.EventAllocs),
		"restart: bytes": float64(p.RestartBytes), "restart: connections": float64(p.RestartDials),
		"heap of an agent": float64(p.Heap),
	}
}

// doubled says which counts are more than twice what they were.
func doubled(before, now map[string]float64) (problems []string) {
	for name, was := range before {
		is, measured := now[name]
		switch {
		case !measured:
			problems = append(problems, name+" is measured no more; run the test with UPDATE=1")
		case is > 2*was:
			problems = append(problems, fmt.Sprintf("%s: %.0f, it was %.0f; if that is meant, run the test with UPDATE=1 and say why in the commit", name, is, was))
		}
	}
	return problems
}

func TestADoubledCountIsAProblem(t *testing.T) {
	before := map[string]float64{"bytes": 100, "dials": 10}
	for _, c := range []struct {
		now      map[string]float64
		problems int
	}{
		{map[string]float64{"bytes": 199, "dials": 0}, 0},
		{map[string]float64{"bytes": 201, "dials": 10}, 1},
		{map[string]float64{"bytes": 100}, 1},
	} {
		if got := doubled(before, c.now); len(got) != c.problems {
			t.Errorf("%v: %q", c.now, got)
		}
	}
}

// TestThePictureIsTheSame for the same figures, and has each of them.
func TestThePictureIsTheSame(t *testing.T) {
	curve := []point{{Hosts: 10, Idle: 2000, IdleLeader: 19000, Heap: 1 << 20}, {Hosts: 1000, Idle: 1900, IdleLeader: 4000, Heap: 1 << 24}}
	one := picture(curve)
	if diff := cmp.Diff(one, picture(curve)); diff != "" {
		t.Error(diff)
	}
	for what, want := range map[string]int{"<circle": 6, "<polyline": 10, "</g>": 4} {
		if n := strings.Count(one, what); n != want {
			t.Errorf("%d of %s, want %d", n, what, want)
		}
	}
	if strings.Contains(one, "NaN") || strings.Contains(one, "Inf") {
		t.Error("a place is no number")
	}
}
