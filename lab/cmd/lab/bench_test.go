package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/bench"
	"github.com/weftnet/weft/lab/labtest"
)

func TestBenchChecksItsArguments(t *testing.T) {
	state := filepath.Join(t.TempDir(), "lab")
	for line, want := range map[string]string{
		"bench now":                   `unknown command "now"`,
		"bench --rounds 0":            "--rounds 0, it can be 1 to 100",
		"bench --duration 3":          "missing unit in duration",
		"bench --duration 1h":         "--duration 1h0m0s, it can be 100ms to 1m",
		"bench --round-trips -5":      "--round-trips -5, it can be",
		"bench --crowd -3":            "--crowd -3, it can be 0 to 1000",
		"bench --starts 0 --rounds 0": "--starts 0, it can be 1 to 100",
	} {
		if _, err := command(t, state, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lab %s: %v, want %q", line, err, want)
		}
	}
}

func TestBenchIsApartFromTheDemo(t *testing.T) {
	if bench.DefaultDir == lab.DefaultDir {
		t.Error("a bench without --state would be in the demo's lab")
	}
	out, err := command(t, t.TempDir(), "bench --help")
	if err != nil || !strings.Contains(out, bench.DefaultDir) {
		t.Errorf("the help does not name %s: %v\n%s", bench.DefaultDir, err, out)
	}
}

func TestIntegrationBenchFindsALabThatIsUp(t *testing.T) {
	labtest.Need(t, lab.Config{})
	state := filepath.Join(t.TempDir(), "lab")
	if _, err := lab.Up(t.Context(), lab.Config{Hosts: 1, Dir: state, NoDocker: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(context.WithoutCancel(t.Context()), lab.Config{Dir: state}, false); err != nil {
			t.Error(err)
		}
	})
	if _, err := command(t, state, "bench"); err == nil || !strings.Contains(err.Error(), "a lab is up in "+state) {
		t.Errorf("bench in a lab that is up: %v", err)
	}
}
