package plugin_test

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/plugin/plugintest"
)

// TestAContainerThatStartsForMinutesKeepsItsAddress: Docker lists it only once it
// runs.
func TestAContainerThatStartsForMinutesKeepsItsAddress(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := c.host()
		var slow atomic.Bool
		h.docker.Before = func(call plugintest.Call) {
			if call.Method == "NetworkDriver.Join" && slow.Load() {
				time.Sleep(15 * time.Minute)
			}
		}
		h.start().ready()
		id := h.network("web", "10.40.0.0/28")
		slow.Store(true)
		started := make(chan plugintest.Container, 1)
		go func() { started <- h.run("slow", id, "") }()
		time.Sleep(10 * time.Minute)
		slow.Store(false)
		seen := map[netip.Addr]bool{}
		for range 12 { // all that are left of 13
			a := h.run("c"+time.Now().String(), id, "").Addrs[0].Addr()
			if seen[a] {
				t.Errorf("%s twice", a)
			}
			seen[a] = true
			time.Sleep(time.Second)
		}
		if a := (<-started).Addrs[0].Addr(); seen[a] {
			t.Errorf("%s was given away while its container started", a)
		}
	})
}

// TestAnEndpointThatWasDeletedUnheard: the agent ends during a DeleteEndpoint, which Docker does not
// repeat. Next Docker releases the address. If the endpoint was detached before, another container gets
// the address at once, else soon.
func TestAnEndpointThatWasDeletedUnheard(t *testing.T) {
	for name, lost := range map[string][]string{
		"the delete":               {"NetworkDriver.DeleteEndpoint"},
		"the leave":                {"NetworkDriver.Leave"},
		"the leave and the delete": {"NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				h := c.host()
				var cut atomic.Bool
				h.docker.Cut = func(call plugintest.Call) bool { return cut.Load() && slices.Contains(lost, call.Method) }
				h.start().ready()
				id := h.network("web", "10.40.0.0/28")
				h.run("first", id, "10.40.0.7")
				h.until("named", time.Minute, func() bool {
					e := h.reported("10.40.0.0/28").Endpoints
					return len(e) == 1 && e[0].Name == "first"
				})
				cut.Store(true)
				if err := h.docker.Remove(t.Context(), "first"); err == nil {
					t.Error("no call was lost")
				}
				cut.Store(false)
				if len(lost) == 1 {
					h.run("second", id, "10.40.0.7")
					return
				}
				begin := time.Now()
				_, err := h.docker.Run(t.Context(), "second", id, addr("10.40.0.7"))
				fails(t, begin, err, "10.40.0.7 is held by container first", "Docker released it", "within three minutes")
				time.Sleep(3 * time.Minute)
				h.run("second", id, "10.40.0.7")
			})
		})
	}
}

// TestNothingIsTakenBackWhileDockerCannotBeAsked: while dockerd is down its containers may run on
// (live-restore). When it is back, one look at its list is not enough.
func TestNothingIsTakenBackWhileDockerCannotBeAsked(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		id := h.network("web", "10.40.0.0/28")
		kept := h.run("kept", id, "").Addrs[0].Addr()
		dropped := h.run("dropped", id, "").Addrs[0].Addr()
		h.until("named", time.Minute, func() bool { return len(h.reported("10.40.0.0/28").Endpoints) == 2 })
		broken := errors.New("dial unix /run/docker.sock: connect: connection refused")
		h.docker.BreakAPI(broken)
		h.docker.Forget("dropped") // a crash: the plugin is not called
		time.Sleep(24 * time.Hour)
		for range 20 { // it answers now and then, never for long
			h.docker.BreakAPI(nil)
			time.Sleep(40 * time.Second)
			h.docker.BreakAPI(broken)
			time.Sleep(40 * time.Second)
		}
		if got := len(h.reported("10.40.0.0/28").Endpoints); got != 2 {
			t.Errorf("%d endpoints are known, want both while Docker cannot be asked", got)
		}
		h.docker.BreakAPI(nil)
		h.until("what Docker dropped is gone", 5*time.Minute, func() bool {
			e := h.reported("10.40.0.0/28").Endpoints
			return len(e) == 1 && e[0].V4 == kept
		})
		time.Sleep(5 * time.Minute)
		back := false
		for range 12 {
			a := h.run("c"+time.Now().String(), id, "").Addrs[0].Addr()
			back = back || a == dropped
			if a == kept {
				t.Errorf("%s was given away while its container runs", a)
			}
			time.Sleep(time.Second)
		}
		if !back {
			t.Errorf("%s never came back", dropped)
		}
	})
}
