package cli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weftnet/weft/api"
)

// host is an agent that says whether its host is ready.
type host struct {
	api.Agent // the rest is not asked

	mu  sync.Mutex
	why string
}

func (h *host) NotReady() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why
}

func (h *host) becomes(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.why = why
}

func (h *host) Report() *api.Report { return &api.Report{Name: "web-1", NotReady: h.NotReady()} }

// serve answers at a socket until the test ends.
func (h *host) serve(t *testing.T, socket string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- api.Serve(ctx, socket, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestStatusWaitsUntilTheHostIsReady also for an agent that does not run yet, and says what
// it waits for.
func TestStatusWaitsUntilTheHostIsReady(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	var out bytes.Buffer
	read, write := io.Pipe()
	cmd := root("test")
	cmd.SetOut(&out)
	cmd.SetErr(write)
	cmd.SetArgs([]string{"status", "--wait", "ready", "--json", "--socket", socket})
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.ExecuteContext(t.Context())
		write.Close()
	}()
	lines := bufio.NewScanner(read)
	heard := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "waiting: ") && strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("it ended, and never waited for %q", want)
	}
	heard("no agent answers at " + socket)
	h := &host{why: "no lease yet"}
	h.serve(t, socket)
	heard("no lease yet")
	h.becomes("the disk is full")
	heard("the disk is full")
	h.becomes("")
	if lines.Scan() {
		t.Errorf("it says more: %s", lines.Text())
	}
	if err := <-ended; err != nil || !strings.Contains(out.String(), `"name": "web-1"`) {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestStatusWaitsNoLongerThanItMay(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	(&host{why: "no lease yet"}).serve(t, socket)
	for _, c := range []struct{ args, want string }{
		{"--wait ready --timeout 600ms --socket " + socket, "this host was not ready within 600ms: no lease yet"},
		{"--wait ready --timeout 300ms --socket " + socket + "x", "this host was not ready within 300ms: api: no agent answers"},
		{"--wait ready --timeout 0s", "--timeout 0s: want a time above 0"},
		{"--wait steady", `--wait "steady": want ready`},
		{"--wait ready --timeout soon", `invalid argument "soon" for "--timeout"`},
	} {
		out, err := weft(t, "status "+c.args)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("weft status %s: %v, want %q", c.args, err, c.want)
		}
		if got := strings.Count(out, "no lease yet"); strings.Contains(c.want, "no lease yet") != (got == 1) {
			t.Errorf("weft status %s says %d times what it waits for:\n%s", c.args, got, out)
		}
	}
}
