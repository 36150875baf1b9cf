package bench_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/bench"
	"github.com/weftnet/weft/lab/labtest"
)

func brief(dir string, out *strings.Builder, t *testing.T) bench.Config {
	return bench.Config{
		Dir: dir, Rounds: 1, Duration: 100 * time.Millisecond, Connections: 1, RoundTrips: 100, Starts: 1, Addresses: 16, JSON: true,
		Out: out, Log: func(line string) { t.Log(line) },
	}
}

// TestIntegrationBench measures for moments only: every figure is there, every ratio is
// one, and nothing is left.
func TestIntegrationBench(t *testing.T) {
	labtest.Need(t, lab.Config{})
	if testing.Short() {
		t.Skip("brings up two hosts with Docker; not with -short")
	}
	if os.Getenv("WEFT_LONG") == "" {
		t.Skip("takes both processors for minutes, beside which tests with deadlines are late: make test-long runs it (WEFT_LONG)")
	}
	var out strings.Builder
	dir := filepath.Join(t.TempDir(), "lab")
	c := brief(dir, &out, t)
	c.Plugin, c.Crowd = labtest.Plugin(t), 6
	if err := bench.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var r bench.Report
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	if r.Machine.Docker == "" || r.Machine.CPUs == 0 || r.Machine.Rounds != 1 {
		t.Errorf("how it was measured: %+v", r.Machine)
	}
	for name, all := range map[string][]bench.Figure{"throughput": r.Throughput, "p50": r.P50, "p99": r.P99, "docker run": r.DockerRun} {
		if len(all) != 5 {
			t.Errorf("%s: %d figures, want 5", name, len(all))
		}
		for _, f := range all {
			if f.Median <= 0 || len(f.To) != 2 || f.To["swarm"].Median <= 0 {
				t.Errorf("%s of %s: %+v", name, f.Of, f)
			}
		}
	}
	for name, c := range map[string]struct {
		all  []bench.Figure
		want int
	}{
		"address p50": {r.AddressP50, 5}, "address p99": {r.AddressP99, 5}, "addresses": {r.AddressRate, 4}, "processor": {r.Processor, 2}, "grant": {r.Grant, 2}, "connect": {r.Connect, 2}, "reached": {r.Reached, 2}, "found": {r.Found, 2}, "gone": {r.Gone, 2}, "lookup": {r.Lookup, 4},
		"crowd": {r.CrowdReached, 2}, "crowd's last": {r.CrowdLast, 2}, "crowd's processor": {r.CrowdProcessor, 3},
	} {
		if len(c.all) != c.want {
			t.Errorf("%s: %d figures, want %d", name, len(c.all), c.want)
		}
		for _, f := range c.all {
			if f.Median <= 0 {
				t.Errorf("%s of %s: %v", name, f.Of, f.Median)
			}
			for base, ratio := range f.To {
				if ratio.Median <= 0 {
					t.Errorf("%s of %s: to %s %v", name, f.Of, base, ratio)
				}
			}
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the state directory is still there: %v", err)
	}
}

// TestIntegrationBenchLeavesAnotherLabAlone: a lab that is up may be somebody's demo.
func TestIntegrationBenchLeavesAnotherLabAlone(t *testing.T) {
	l := labtest.Up(t, lab.Config{Hosts: 1, NoDocker: true})
	var out strings.Builder
	err := bench.Run(t.Context(), brief(l.Dir(), &out, t))
	if err == nil || !strings.Contains(err.Error(), "lab --state "+l.Dir()+" down") {
		t.Errorf("a lab is up: %v", err)
	}
	if _, err := l.Host(1).Exec(t.Context(), "true"); err != nil {
		t.Errorf("the other lab is gone: %v", err)
	}
}

// TestIntegrationBenchTakesDownWhatFailed: a plugin that is none ends the run, its logs stay.
func TestIntegrationBenchTakesDownWhatFailed(t *testing.T) {
	labtest.Need(t, lab.Config{})
	if testing.Short() {
		t.Skip("brings up two hosts with Docker; not with -short")
	}
	var out strings.Builder
	c := brief(filepath.Join(t.TempDir(), "lab"), &out, t)
	c.Plugin = t.TempDir()
	if err := bench.Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "plugin on both hosts") {
		t.Errorf("a directory without a plugin: %v", err)
	}
	if _, err := lab.Open(lab.Config{Dir: c.Dir}); err == nil {
		t.Error("the lab is still up")
	}
	if logs, err := filepath.Glob(filepath.Join(c.Dir, "host1", "log", "dockerd.log")); err != nil || len(logs) != 1 {
		t.Errorf("logs that stayed: %v, %v", logs, err)
	}
}
