package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin"
)

// notReady waits until the host says with these words why it is not ready.
func (h *host) notReady(words string) {
	h.c.t.Helper()
	h.until("not ready: "+words, time.Minute, func() bool { return strings.Contains(h.NotReady(), words) })
	if r := h.Report(); r.NotReady == "" {
		h.c.t.Error("the report says that it is ready")
	}
}

// TestAHostIsReadyWhenItServesContainers: as a member that may hand out addresses and
// whose kernel does what it is told, and not before or after.
func TestAHostIsReadyWhenItServesContainers(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		a := c.host()
		b := c.host(a)
		b.start()
		b.notReady("no member of a cluster answers")
		a.start()
		for _, h := range c.hosts {
			h.until("ready", time.Minute, func() bool { return h.NotReady() == "" })
			if r := h.Report(); r.State != "ready" || r.NotReady != "" {
				c.t.Errorf("%s, %s", r.State, r.NotReady)
			}
		}
		b.run("shop", b.network("web", web), "")
		b.kernel.Break(errors.New("no buffer space"))
		b.notReady("no buffer space")
		b.kernel.Break(nil)
		b.until("ready again", time.Minute, func() bool { return b.NotReady() == "" })
	})
}

// TestAHostIsReadyAsLongAsItsLeaseLasts with no keeper in reach.
func TestAHostIsReadyAsLongAsItsLeaseLasts(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		m := newClocks()
		h, _ := leased(c, m)
		h.cut()
		m.suspend(23 * time.Hour)
		if why := h.NotReady(); why != "" {
			t.Errorf("within its lease: %s", why)
		}
		m.suspend(2 * time.Hour)
		h.notReady("its lease ran out")
		h.heal()
		h.until("ready with a lease", time.Minute, func() bool { return h.NotReady() == "" })
	})
}

func TestAHostThatLeftIsNotReady(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 2)[1]
		if _, err := h.Leave(t.Context(), api.Departure{}); err != nil {
			t.Fatal(err)
		}
		h.notReady("has left cluster")
	})
}

// TestATakenStatusPortKeepsNothingElse from working: it is a problem until the port is
// free.
func TestATakenStatusPortKeepsNothingElse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	root := ground(t)
	socket := filepath.Join(root, "weft.sock")
	cfg := realConfig(root)
	cfg.Settings.Status = netip.MustParseAddrPort(taken.Addr().String())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plugin.Run(ctx, cfg, socket) }()
	awaitReady(t, root, socket)
	limit := within(t, 20*time.Second)
	problems := func() string {
		r, err := api.At(filepath.Join(root, api.SocketPath)).Report(limit)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(r.Problems, "\n")
	}
	for want := fmt.Sprintf("WEFT_STATUS=%s: ", taken.Addr()); !strings.Contains(problems(), want); {
		runtime.Gosched()
	}
	if why, err := api.At(filepath.Join(root, api.SocketPath)).NotReady(limit); err != nil || why != "" {
		t.Errorf("%q, %v", why, err)
	}
	taken.Close()
	for problems() != "" {
		runtime.Gosched()
	}
	resp, err := http.Get("http://" + cfg.Settings.Status.String() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", cfg.Settings.Status.String()); err == nil {
		t.Error("the server outlives the agent")
	}
}
