package plugin_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/rpc"
)

// clocks are the clocks of a machine. The boot clock continues while the machine is suspended, and timers
// do not. The wall clock may be wrong.
type clocks struct {
	mu     sync.Mutex
	boot   string
	booted time.Time
	slept  time.Duration
	wrong  time.Duration
}

func newClocks() *clocks { return &clocks{boot: "first", booted: time.Now()} }

func (c *clocks) read() (lease.Moment, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lease.Moment{Boot: c.boot, Up: time.Since(c.booted) + c.slept, Wall: time.Now().Add(c.slept + c.wrong)}, nil
}

func (c *clocks) suspend(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
}

// step sets the wall clock forward, or back.
func (c *clocks) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong += d
}

// reboot starts the machine anew, after it was off for so long.
func (c *clocks) reboot(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot += "+"
	c.wrong += c.slept + off
	c.booted, c.slept = time.Now(), 0
}

// tick starts the host's agent with these clocks.
func (h *host) tick(m *clocks) *host {
	h.c.t.Helper()
	cfg := h.config()
	cfg.Clocks = m.read
	a, err := plugin.Open(cfg)
	if err != nil {
		h.c.t.Fatal(err)
	}
	h.Agent, h.gone, h.server = a, make(chan struct{}), rpc.New(rpc.Config{Routes: a.Routes()})
	h.docker.Serve(plugintest.Plugin{Handler: h.server, Gone: h.gone})
	return h
}

// leased are two hosts with a network; the second has these clocks, a container,
// and free addresses of its own.
func leased(c *cluster, m *clocks) (h *host, network string) {
	c.t.Helper()
	c.host().start().ready()
	h = c.host(c.hosts[0])
	h.tick(m).ready()
	network = h.network("web", "10.40.0.0/24")
	h.run("before", network, "")
	return h, network
}

func (h *host) cut()  { h.c.net.Split(h.addr) }
func (h *host) heal() { h.c.net.HealAll() }

func TestALeaseThatRanOutHandsOutNothingNew(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		m := newClocks()
		h, network := leased(c, m)
		h.cut()
		m.suspend(23 * time.Hour)
		h.run("within the lease", network, "")
		kernel := len(h.kernel.Read().Networks)
		m.suspend(2 * time.Hour)
		for what, ip := range map[string]string{"the next address": "", "one of its own": "10.40.0.9"} {
			begin := time.Now()
			_, err := h.docker.Run(t.Context(), what, network, addr(ip))
			fails(t, begin, err, "lease ran out 1h", "running containers are not affected", "weft status")
		}
		h.problem(time.Minute, "no new address", "lease ran out")
		if got := len(h.kernel.Read().Networks); got != kernel || len(h.reported("10.40.0.0/24").Endpoints) != 2 {
			t.Errorf("the containers were touched: %d networks of %d, %+v", got, kernel, h.reported("10.40.0.0/24").Endpoints)
		}
		h.heal()
		h.until("a new address again", time.Minute, func() bool {
			_, err := h.docker.Run(t.Context(), "after", network, addr(""))
			return err == nil
		})
		h.until("no problem is left", time.Minute, func() bool {
			return !slices.ContainsFunc(h.Report().Problems, func(p string) bool { return strings.Contains(p, "lease") })
		})
	})
}

// TestASuspendedMachineRenewsBeforeItHandsOut: no timer has fired when the machine wakes up, so the first
// request notices that the lease has ended.
func TestASuspendedMachineRenewsBeforeItHandsOut(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		m := newClocks()
		h, network := leased(c, m)
		m.suspend(30 * time.Hour)
		h.run("at once after waking", network, "")
	})
}

func TestARestartWithinTheLeaseServesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*clocks)
		refused   string // empty: it serves
	}{
		"the agent alone":              {meanwhile: func(*clocks) {}},
		"the wall clock a year ahead":  {meanwhile: func(m *clocks) { m.step(9000 * time.Hour) }},
		"the wall clock in 1970":       {meanwhile: func(m *clocks) { m.step(-400000 * time.Hour) }},
		"suspended too long":           {meanwhile: func(m *clocks) { m.suspend(25 * time.Hour) }, refused: "lease ran out 1h"},
		"rebooted":                     {meanwhile: func(m *clocks) { m.reboot(time.Hour) }, refused: "only the addresses that its containers had"},
		"rebooted after half a day":    {meanwhile: func(m *clocks) { m.reboot(12 * time.Hour) }, refused: "may be a day ago"},
		"rebooted into an earlier day": {meanwhile: func(m *clocks) { m.reboot(-48 * time.Hour) }, refused: "may be a day ago"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, cl *cluster) {
				m := newClocks()
				h, network := leased(cl, m)
				h.cut()
				h.stop()
				c.meanwhile(m)
				h.tick(m)
				begin := time.Now()
				_, err := h.docker.Run(t.Context(), "alone", network, addr(""))
				if c.refused != "" {
					fails(t, begin, err, c.refused)
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
}
