package sim_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// networks are created with these options on all hosts.
var networks = []dockerapi.ReplicaSpec{
	{Name: "web", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.40.0.0/24")}}}},
	{Name: "dual", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.41.0.0/26")}, {Subnet: netip.MustParsePrefix("fd41::/64")}}}},
}

// maxContainers per host, so that addresses run short now and then.
const maxContainers = 9

// action is something that happens on a host, with its weight in the choice.
type action struct {
	name   string
	weight int
	do     func(*host)
	harsh  bool // ends the agent: not in times of peace
}

var actions = []action{
	{name: "network create", weight: 6, do: (*host).createNetwork},
	{name: "network rm", weight: 1, do: (*host).removeNetwork},
	{name: "run", weight: 30, do: func(h *host) { h.run(noAddr) }},
	{name: "run --ip", weight: 8, do: (*host).runAt},
	{name: "stop", weight: 14, do: (*host).stopOne},
	{name: "rm", weight: 8, do: (*host).removeOne},
	{name: "repeat", weight: 4, do: (*host).repeat},
	{name: "dockerd restart", weight: 2, do: func(h *host) { h.restartDocker(false) }},
	{name: "dockerd live-restore", weight: 2, do: func(h *host) { h.restartDocker(true) }},
	{name: "agent restart", weight: 2, do: (*host).restartAgent, harsh: true},
	{name: "agent crash", weight: 2, do: (*host).crashAgent, harsh: true},
	{name: "agent crash while starting a container", weight: 3, do: (*host).crashMidway, harsh: true},
	{name: "reboot", weight: 1, do: (*host).reboot, harsh: true},
}

// live is a host's life: one action after the other.
func (h *host) live(until time.Time) {
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	for time.Now().Before(until) && !h.w.noticed() {
		time.Sleep(time.Duration(h.dice.Float64() * float64(1500*time.Millisecond)))
		a := choose(actions, h.dice.IntN(total))
		if next := h.next.Swap(nil); next != nil {
			a = *next
		}
		if a.harsh && h.w.peace.Load() {
			continue
		}
		h.w.tell("%s: %s", h, a.name)
		h.w.meet(a.name)
		a.do(h)
	}
}

// choose returns the action for a random number below the sum of the weights.
func choose(among []action, draw int) action {
	for _, a := range among {
		if draw -= a.weight; draw < 0 {
			return a
		}
	}
	panic("the weights are more than their sum")
}

// ctx bounds what a user waits for.
func (h *host) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Minute)
}

func (h *host) network(name string) string {
	list, _ := h.docker.Networks(context.Background()) // the engine's API is not broken here
	for _, n := range list {
		if n.Name == name {
			return n.ID
		}
	}
	return ""
}

func (h *host) createNetwork() {
	ctx, cancel := h.ctx()
	defer cancel()
	for _, spec := range networks {
		if h.network(spec.Name) == "" {
			if _, err := h.docker.CreateNetwork(ctx, spec); err == nil {
				h.w.meet("network created")
			}
			return
		}
	}
}

func (h *host) removeNetwork() {
	ctx, cancel := h.ctx()
	defer cancel()
	spec := networks[h.dice.IntN(len(networks))]
	for _, c := range h.docker.Containers() {
		if c.Network == h.network(spec.Name) {
			_ = h.docker.Remove(ctx, c.Name) // the plugin's errors are told by after
		}
	}
	_ = h.docker.RemoveNetwork(ctx, h.network(spec.Name)) // unknown is fine
}

// run starts a new container on some network and reports whether it runs.
func (h *host) run(want netip.Addr) bool {
	ctx, cancel := h.ctx()
	defer cancel()
	spec := networks[h.dice.IntN(len(networks))]
	if want.IsValid() {
		spec = networks[0]
	}
	id, list := h.network(spec.Name), h.docker.Containers()
	if id == "" {
		return false
	}
	stopped := slices.IndexFunc(list, func(c plugintest.Container) bool { return !c.Running && c.Network == id })
	name := fmt.Sprintf("c%d-%d", h.n, h.dice.Uint32())
	switch {
	case !want.IsValid() && stopped >= 0 && h.dice.IntN(2) == 0:
		name, want = list[stopped].Name, list[stopped].Want
	case len(list) >= maxContainers:
		return false
	}
	c, err := h.docker.Run(ctx, name, id, want)
	if err != nil {
		_ = h.docker.Remove(ctx, name) // it does not run
		return false
	}
	h.w.meet("container started")
	h.w.tell("%s: %s runs at %v", h, name, c.Addrs)
	return true
}

// runAt requests an address anywhere in the subnet, also in blocks of other hosts. It chooses among
// a few addresses, so that two hosts sometimes ask for the same one at the same time.
func (h *host) runAt() {
	want := netip.AddrFrom4([4]byte{10, 40, 0, byte(2 + 7*h.dice.IntN(36))})
	if h.run(want) {
		h.w.meet("--ip granted")
	}
}

func (h *host) pick() (plugintest.Container, bool) {
	list := h.docker.Containers()
	if len(list) == 0 {
		return plugintest.Container{}, false
	}
	return list[h.dice.IntN(len(list))], true
}

func (h *host) stopOne() {
	ctx, cancel := h.ctx()
	defer cancel()
	if c, ok := h.pick(); ok {
		if err := h.docker.Stop(ctx, c.Name); err != nil {
			h.w.fault("(6) %s: stop: %v", h, err)
		}
	}
}

func (h *host) removeOne() {
	ctx, cancel := h.ctx()
	defer cancel()
	if c, ok := h.pick(); ok {
		if err := h.docker.Remove(ctx, c.Name); err != nil {
			h.w.fault("(6) %s: rm: %v", h, err)
		}
	}
}

// repeat checks invariant 6: it repeats calls that were answered before.
func (h *host) repeat() {
	ctx, cancel := h.ctx()
	defer cancel()
	before := h.inUse()
	if err := h.docker.Repeat(ctx); err != nil {
		h.w.fault("(6) %s: repeated calls: %v", h, err)
	}
	if after := h.inUse(); after > before {
		h.w.fault("(6) %s: repeated calls made %d addresses in use %d", h, before, after)
	}
}

// runsUnknown reports whether a container runs that the host's disk, an older one, does not know.
func (h *host) runsUnknown() bool {
	return slices.ContainsFunc(h.docker.Containers(), func(c plugintest.Container) bool { return h.unknown[c.Endpoint] })
}

// Why a replay may be refused an address that this host has to ask the ledger for: another host
// has it, or a recovered ledger gives out nothing new yet.
const (
	anothers  = "belongs to another host|is held by"
	recovered = "the ledger was recovered, and nothing new is given out"
)

// refusedFor reports whether each line of an error has one of the reasons, parted by |.
func refusedFor(err error, reasons string) bool {
	for line := range strings.Lines(err.Error()) {
		if !slices.ContainsFunc(strings.Split(reasons, "|"), func(reason string) bool { return strings.Contains(line, reason) }) {
			return false
		}
	}
	return true
}

// restartDocker checks invariant 6 for dockerd's start: the requests that it repeats are answered as
// before, even if no other host can be reached.
func (h *host) restartDocker(liveRestore bool) {
	ctx, cancel := h.ctx()
	defer cancel()
	before, unknown := h.inUse(), h.runsUnknown()
	if err := h.docker.Restart(ctx, liveRestore); err != nil && !(unknown && refusedFor(err, anothers+"|"+recovered)) {
		h.w.fault("(6) %s: dockerd's replay: %v", h, err)
	}
	if after := h.inUse(); liveRestore && after > before {
		h.w.fault("(6) %s: dockerd's replay made %d addresses in use %d", h, before, after)
	}
}

func (h *host) restartAgent() {
	h.stop()
	h.rest()
	h.start()
	h.serveAlone()
}

func (h *host) crashAgent() {
	h.crash()
	h.rest()
	h.start()
	h.serveAlone()
}

// rest waits while an agent is down: mostly for a short time, as Docker restarts it at once, and
// sometimes for so long that the other hosts notice.
func (h *host) rest() {
	d := time.Duration(h.dice.IntN(1500)) * time.Millisecond
	if h.dice.IntN(5) == 0 {
		d = time.Duration(5+h.dice.IntN(40)) * time.Second
		h.w.meet("agent down for long")
	}
	time.Sleep(d)
}

// trap delays one call of a method, before it reaches the agent or before the answer reaches Docker,
// until the agent has ended.
type trap struct {
	method string
	after  bool
	hit    chan struct{}
}

// trapped is the agent's handler with the host's trap before it.
func (h *host) trapped(agent http.Handler, gone <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := h.trap.Load()
		if t == nil || r.URL.Path != "/"+t.method || !h.trap.CompareAndSwap(t, nil) {
			agent.ServeHTTP(w, r)
			return
		}
		if t.after {
			agent.ServeHTTP(httptest.NewRecorder(), r)
		}
		close(t.hit)
		<-gone
	})
}

func (h *host) crashMidway() { h.crashWhile(noAddr) }

// crashWhile crashes the agent in the middle of the start of a container: between any
// two of Docker's calls, or while it waits for an answer.
func (h *host) crashWhile(want netip.Addr) {
	methods := []string{"IpamDriver.RequestAddress", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join"}
	t := &trap{method: methods[h.dice.IntN(len(methods))], after: h.dice.IntN(2) == 0, hit: make(chan struct{})}
	h.trap.Store(t)
	started := make(chan struct{})
	go func() {
		defer close(started)
		h.run(want)
	}()
	select {
	case <-started: // there is no network to start it on, or no address
		h.trap.Store(nil)
		return
	case <-t.hit:
	}
	h.w.meet(fmt.Sprintf("crash at %s, answered %v", t.method, t.after))
	h.crash()
	h.start()
	<-started
	synctest.Wait()
}

// reboot loses everything but the disk; Docker starts its containers again.
func (h *host) reboot() {
	h.crash()
	fresh := plugintest.NewKernel(h.addr, 1500)
	h.kernel = fresh
	h.rest()
	h.booted = time.Now()
	h.start()
	h.restartDocker(false)
}

// aloneLimit is the time limit of a call on a host that was booted and has not reached the ledger
// since. It tries for two seconds to ask whether it is still a member before it uses its lease.
const aloneLimit = 3 * time.Second

// serveAlone checks what DESIGN §3 promises for a restart with no peer reachable: the host hands out
// addresses of its own blocks at once.
func (h *host) serveAlone() {
	h.w.mu.Lock()
	alone := h.w.isolated[h]
	h.w.mu.Unlock()
	if alone {
		h.w.meet("restart with no peer reachable")
	}
	id := h.network("web")
	if id == "" || h.free("10.40.0.0/24") < 4 {
		return
	}
	ctx, cancel := h.ctx()
	defer cancel()
	begin := time.Now()
	name := fmt.Sprintf("alone-%d", h.dice.Uint32())
	_, err := h.docker.Run(ctx, name, id, noAddr)
	if err != nil && h.booted.After(h.w.began) && strings.Contains(err.Error(), "was started since it last reached the keepers") {
		h.w.meet("refused: not confirmed since the boot")
		_ = h.docker.Remove(ctx, name) // it does not run
		return
	}
	if err != nil && strings.Contains(err.Error(), "was removed on another host") {
		h.w.meet("refused: a network that was removed")
		_ = h.docker.Remove(ctx, name) // it does not run
		return
	}
	h.w.meet("container started right after a restart")
	if took := time.Since(begin); err != nil || took > aloneLimit {
		h.w.fault("(10) %s: after a restart, alone %v, with free addresses: %v after %v", h, alone, err, took)
	}
	if err := h.docker.Remove(ctx, name); err != nil {
		h.w.fault("(6) %s: rm: %v", h, err)
	}
}

// free counts the free addresses of the host's own blocks, including the reserved ones of the subnet.
func (h *host) free(subnet string) uint64 {
	var out uint64
	for p, used := range h.used() {
		if netip.MustParsePrefix(subnet).Contains(p.Addr()) {
			out += 1<<(32-p.Bits()) - used
		}
	}
	return out
}

func (h *host) inUse() (n uint64) {
	for _, used := range h.used() {
		n += used
	}
	return n
}
