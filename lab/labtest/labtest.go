// Package labtest gives tests a lab of their own.
package labtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// Need skips a test, with the reason, where no lab can be: without root or without
// Docker. When WEFT_LAB_REQUIRED is set the test fails instead, so that a CI machine that
// lacks something is noticed.
func Need(t testing.TB, c lab.Config) {
	t.Helper()
	if err := lab.Missing(c); err != nil {
		if os.Getenv("WEFT_LAB_REQUIRED") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// Plugin makes the plugin's directory out of the sources, as make plugin does.
func Plugin(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "config.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "rootfs", "weft"), "github.com/weftnet/weft")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// Up brings up a lab for one test that Needs one and takes it down when the test ends. A
// test that failed keeps the logs and says where.
func Up(t testing.TB, c lab.Config) *lab.Lab {
	t.Helper()
	Need(t, c)
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "weft-lab-test-")
		if err != nil {
			t.Fatal(err)
		}
		c.Dir = dir
	}
	if c.Log == nil {
		c.Log = func(line string) { t.Log(line) }
	}
	l, err := lab.Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { down(t, l) })
	return l
}

// down takes a lab down after its test; the test's own context has ended by then.
func down(t testing.TB, l *lab.Lab) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	take := l.Down
	if t.Failed() {
		take = l.DownKeepingLogs
		t.Logf("the hosts' logs are in %s", l.Dir())
	}
	if err := take(ctx); err != nil {
		t.Error(err)
	}
}
