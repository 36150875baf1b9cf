package plugin_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/store/storetest"
)

// TestIntegrationAFullDisk fills the disk of a host (root only). Running containers stay connected. New
// ones start as long as the journal has space, and are then refused with the remedy. Agents start. With
// space again everything works. No address is held twice, and none that was answered is lost.
func TestIntegrationAFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := c.host()
		disk := storetest.Mount(t, h.set.State, "32m")
		h.start().ready()
		network := h.network("web", "10.40.0.0/16")
		ran := h.run("runs", network, "")
		holds := func(what string) {
			t.Helper()
			seen := map[netip.Addr]string{}
			for _, one := range h.docker.Containers() {
				if !one.Running {
					continue
				}
				if other, twice := seen[at(one)]; twice {
					t.Errorf("%s: %s is held by %s and %s", what, at(one), other, one.Name)
				}
				seen[at(one)] = one.Name
			}
			h.until(what+": what runs is forwarded to", 10*time.Second, func() bool { return h.forwards(at(ran)) == "here" })
		}
		disk.Fill()
		started := h.untilRefused(network)
		if started < 100 {
			t.Errorf("%d containers were started on a full disk", started)
		}
		h.problem(time.Second, "disk of the state directory is full", "make room there")
		holds("on a full disk")
		for range 3 {
			h.restart()
			holds("after a restart on a full disk")
			begin := time.Now()
			_, err := h.docker.Run(t.Context(), "refused", network, addr(""))
			fails(t, begin, err, "full", "make room there")
		}
		disk.Empty()
		h.until("containers start again", time.Minute, func() bool {
			_, err := h.docker.Run(t.Context(), "after", network, addr(""))
			return err == nil
		})
		h.until("the ledger decides again", time.Minute, func() bool {
			_, err := h.docker.CreateNetwork(t.Context(), named("another", "10.41.0.0/16"))
			return err == nil
		})
		h.until("no problem is left", 2*time.Minute, func() bool { return len(h.Report().Problems) == 0 })
		holds("with room again")
		h.restart()
		h.ready()
		holds("after a restart")
	})
}

// untilRefused starts containers, and ends most of them, until that is refused.
func (h *host) untilRefused(network string) (started int) {
	t := h.c.t
	t.Helper()
	for n := range 5000 {
		name := fmt.Sprintf("n-%d", n)
		begin := time.Now()
		if _, err := h.docker.Run(t.Context(), name, network, addr("")); err != nil {
			fails(t, begin, err, "full", "make room there")
			return n
		}
		if n%4 == 0 {
			continue
		}
		if err := h.docker.Remove(t.Context(), name); err != nil {
			fails(t, begin, err, "full", "make room there")
			return n
		}
	}
	t.Fatal("the disk is never full")
	return 0
}
