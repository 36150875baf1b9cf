package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// lastLooks are checks of what takes minutes to become right. They run after all tests.
var (
	lastLooks     []lastLook
	lastLooksLock sync.Mutex
)

type lastLook struct {
	test string
	look func(context.Context) error
}

// inTheEnd adds a check that runs after all tests.
func inTheEnd(test string, look func(context.Context) error) {
	lastLooksLock.Lock()
	defer lastLooksLock.Unlock()
	lastLooks = append(lastLooks, lastLook{test, look})
}

// atLast runs the checks of inTheEnd, and checks all answers that Docker was given.
func atLast() error {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	var errs []error
	for _, l := range lastLooks {
		began := time.Now()
		if err := l.look(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.test, err))
		}
		fmt.Fprintf(os.Stderr, "%s was looked at once more for %.1f s\n", l.test, time.Since(began).Seconds())
	}
	if shared.rig != nil && shared.rig.lab != nil {
		errs = append(errs, shared.rig.answers())
	}
	return errors.Join(errs...)
}

// took matches the method and the duration in the agent's log line about a call.
var took = regexp.MustCompile(`msg=call .*method=(\S+) .*took=\\?"?([^\s"\\]+)`)

// agentLine matches a line of an agent's log in dockerd's. logrus writes the beginning of it.
var (
	agentLine = regexp.MustCompile(`msg="((?:[^"\\]|\\.)*)" plugin=[0-9a-f]{64}`)
	logrusOf  = regexp.MustCompile(`^time=\S+ level=(debug|info|warning|error) msg=`)
)

// answers returns nil if, according to the agents' logs, no call of Docker's was answered too late
// and no agent ended by itself. The members log every call, other hosts only those that failed.
func (r *rig) answers() error {
	var errs []error
	calls, longest := 0, time.Duration(0)
	for _, h := range r.lab.Hosts() {
		text, err := os.ReadFile(filepath.Join(h.LogDir(), "dockerd.log"))
		errs = append(errs, err)
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "panic:") || strings.Contains(line, "fatal error:") {
				errs = append(errs, fmt.Errorf("%s: %s", h.Name(), line))
			}
			if of := agentLine.FindStringSubmatch(line); of != nil && !logrusOf.MatchString(strings.ReplaceAll(of[1], `\"`, "")) {
				errs = append(errs, fmt.Errorf("%s: a line of the agent's that its log did not write: %s", h.Name(), line))
			}
			match := took.FindStringSubmatch(line)
			if match == nil {
				continue
			}
			d, err := time.ParseDuration(match[2])
			calls, longest = calls+1, max(longest, d)
			if err != nil || d > answerWithin {
				errs = append(errs, cmp.Or(err, fmt.Errorf("%s answered after %v: %s", h.Name(), d, line)))
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%d calls of Docker's were answered, the slowest after %v\n", calls, longest)
	return errors.Join(errs...)
}

// TestAgentLine: dockerd names the plugin in lines of its own, too.
func TestAgentLine(t *testing.T) {
	plugin := " plugin=" + strings.Repeat("5e", 32)
	for line, want := range map[string]string{
		`time="2026-11-29T17:28:37Z" level=error msg="time=\"2026-11-29T17:28:37Z\" level=debug msg=call"` + plugin:                        `time=\"2026-11-29T17:28:37Z\" level=debug msg=call`,
		`time="2026-11-29T17:28:37Z" level=error msg="Error cleaning up containerd container" error="cannot delete running task"` + plugin: "",
	} {
		var got string
		if of := agentLine.FindStringSubmatch(line); of != nil {
			got = of[1]
		}
		if got != want {
			t.Errorf("%s: the agent's part is %q, want %q", line, got, want)
		}
	}
}
