package sim_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/store"
)

func (h *host) removedAway() {
	w := h.w
	w.net.Split(h.addr)
	w.remove(h.self, w.others(h))
	w.plunder(h)
	time.Sleep(time.Duration(h.dice.IntN(60)) * time.Second)
	w.net.HealAll()
	h.reborn(time.Minute)
	h.account()
}

func (h *host) removedOff() {
	h.powerOff()
	h.w.remove(h.self, h.w.others(h)[:1])
	h.w.plunder(h)
	h.powerOn()
	h.reborn(time.Minute)
	h.account()
	h.replay()
}

func (h *host) powerOff() {
	h.crash()
	h.w.net.Host(h.addr).PowerOff()
}

func (h *host) powerOn() {
	h.kernel, h.booted = plugintest.NewKernel(h.addr, 1500), time.Now()
	h.w.net.Host(h.addr).PowerOn()
	h.start()
}

// replay lets dockerd start its containers again after the machine was off. It requests all their
// addresses, and is refused those that belong to another host now. Those that its disk does not know
// are new ones, which a recovered ledger may not give yet.
func (h *host) replay() {
	unknown := h.runsUnknown()
	if err := h.docker.Restart(context.Background(), false); err != nil && !refusedFor(err, anothers) && !(unknown && refusedFor(err, anothers+"|"+recovered)) {
		h.w.fault("(6) %s: dockerd's replay: %v", h, err)
	}
}

// removedLive removes a host that still runs, once it does not answer for a moment. It learns of that at once.
func (h *host) removedLive() {
	h.w.net.Split(h.addr)
	h.w.remove(h.self, h.w.others(h)[:2])
	h.w.net.HealAll()
	h.reborn(time.Minute)
	h.account()
}

func (h *host) suspended() {
	h.w.net.Split(h.addr)
	h.slept.Add(int64(25 * time.Hour))
	h.refused("lease over", "lease ran out")
	h.w.net.HealAll()
	h.w.until(fmt.Sprintf("%s hands out again", h), time.Minute, func() bool { return h.attempt("awake") == nil })
}

// copyDisk leaves a copy of the host's disk.
func (h *host) copyDisk(name string) string {
	synctest.Wait() // nobody writes
	to := filepath.Join(h.w.dir, name)
	if err := os.CopyFS(to, os.DirFS(h.dir)); err != nil {
		h.w.t.Fatal(err)
	}
	return to
}

// recorded waits until the ledger knows the present start of the agent. An older copy of the disk
// is noticed only if the ledger knows a later start.
func (h *host) recorded() {
	h.w.until(fmt.Sprintf("the ledger knows this start of %s", h), time.Minute, func() bool {
		probe := h.copyDisk(h.String() + ".probe")
		defer os.RemoveAll(probe)
		s, err := store.Open(probe) // the next start
		if err != nil {
			h.w.t.Fatal(err)
		}
		defer s.Close()
		return len(s.Identity().Earlier) == 1
	})
}

// oldDisk replaces the state directory by an older copy. The machine notices that by itself, or only
// the ledger does. The agent does not know the containers that were started since, and takes them
// off the network.
func (h *host) oldDisk() {
	w := h.w
	backup := h.copyDisk(fmt.Sprintf("%s.backup.%d", h, h.lives))
	known := map[netmap.EndpointID]bool{}
	for _, c := range h.docker.Containers() {
		known[c.Endpoint] = true
	}
	for range 3 {
		h.run(noAddr)
	}
	h.stop()
	h.start()
	w.until(fmt.Sprintf("%s is a member again", h), 30*time.Second, func() bool { return h.agent().Report().State == "ready" })
	h.recorded()
	h.stop()
	for _, c := range h.docker.Containers() {
		if !known[c.Endpoint] {
			h.forget(c)
		}
	}
	h.dir = backup
	if h.dice.IntN(2) == 0 {
		h.forgetStarts()
	}
	h.start()
	h.fenced("older disk")
	h.decided()
}

// forgetStarts deletes what the machine keeps of earlier starts of its agent, as a boot does.
func (h *host) forgetStarts() {
	if err := os.RemoveAll(h.volatile()); err != nil {
		h.w.t.Fatal(err)
	}
}

// forget notes that the agent does not know a container, which so holds no address any more.
func (h *host) forget(c plugintest.Container) {
	h.unknown[c.Endpoint] = true
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for _, a := range c.Addrs {
		if h.w.held[a.Addr()].is(h, c.Name) {
			delete(h.w.held, a.Addr())
		}
	}
}

// decided lets the operator make this machine a new host, and remove the old one, which no machine
// is any more.
func (h *host) decided() {
	former := h.self
	if _, err := h.agent().NewIdentity(context.Background(), api.IdentityReset{}); err != nil {
		h.w.fault("%s: weft host new-identity: %v", h, err)
		return
	}
	h.reborn(time.Second)
	h.w.remove(former, h.w.others(h)[:1])
	h.account()
}

// twin returns a machine with a copy of this one's disk. It is not in the list of hosts.
func (h *host) twin() *host {
	o := h.w.machine(101 + len(h.w.twins))
	h.w.mu.Lock()
	h.w.twins = append(h.w.twins, o)
	h.w.mu.Unlock()
	o.dir = h.copyDisk(fmt.Sprintf("%s.copy.%d", h, h.lives))
	o.docker.Adopt(h.docker)
	o.booted = time.Now()
	return o
}

// copied starts a copy beside the machine. The ledger knows where the machine is, so it goes on; the others
// believe its facts again once its agent has started above the copy.
func (h *host) copied() {
	twin := h.twin()
	twin.start()
	for _, o := range []*host{h, twin} {
		h.w.until(fmt.Sprintf("%s knows of both machines", o), 2*time.Minute, func() bool {
			return slices.ContainsFunc(o.agent().Report().Problems, func(p string) bool {
				return strings.Contains(p, h.addr.String()) && strings.Contains(p, twin.addr.String())
			})
		})
	}
	twin.fenced("copy")
	twin.off()
	h.w.until(fmt.Sprintf("%s hands out", h), time.Minute, func() bool { return h.attempt("beside a copy") == nil })
	h.ended("begins above the copy", 3*time.Minute)
}

// replaced starts the copy first. The machine that comes back later has to become another host.
func (h *host) replaced() {
	h.powerOff()
	twin := h.twin()
	twin.start()
	h.w.until(fmt.Sprintf("%s, the copy, is a member", twin), 30*time.Second, func() bool { return twin.agent().Report().State == "ready" })
	twin.recorded()
	h.powerOn()
	h.fenced("copy")
	twin.off()
	h.decided()
	h.replay()
}

// off ends a machine for good.
func (h *host) off() {
	h.w.net.Host(h.addr).PowerOff()
	h.stop()
}
