// Package labtest gives tests a lab of their own.
package labtest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// Up brings up a lab for one test and takes it down when the test ends. A test that failed
// keeps the logs and says where. Where no lab can be, without root or without Docker, the
// test is skipped with the reason; when WEFT_LAB_REQUIRED is set it fails instead, so that
// a CI machine that lacks something is noticed.
func Up(t testing.TB, c lab.Config) *lab.Lab {
	t.Helper()
	if err := lab.Missing(c); err != nil {
		if os.Getenv("WEFT_LAB_REQUIRED") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
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
