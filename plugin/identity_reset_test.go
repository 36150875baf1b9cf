package plugin_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/api"
)

// copyDisk leaves a copy of a host's disk as it is now.
func (h *host) copyDisk(to string) {
	h.c.t.Helper()
	synctest.Wait() // nobody writes
	if err := os.CopyFS(to, os.DirFS(h.set.State)); err != nil {
		h.c.t.Fatal(err)
	}
}

// restoreDisk puts an older disk in the place of the present one.
func (h *host) restoreDisk(from string) {
	h.c.t.Helper()
	if err := os.RemoveAll(h.set.State); err != nil {
		h.c.t.Fatal(err)
	}
	if err := os.Rename(from, h.set.State); err != nil {
		h.c.t.Fatal(err)
	}
}

// TestACloneBecomesAHostOfItsOwn: the operator gives a clone a new identity. The other machine's
// containers keep their addresses.
func TestACloneBecomesAHostOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		original := hosts[2]
		network := original.network("web", "10.40.0.0/24")
		both := original.run("both", network, "")
		hosts[0].until("the replica", 10*time.Second, func() bool { return hosts[0].lookup("web") != "" })
		twin := c.twinOf(original, hosts[0])
		twin.problem(time.Minute, "shows start 2", "192.0.2.3", "weft host new-identity")
		if _, err := original.NewIdentity(t.Context(), api.IdentityReset{}); err == nil || !holds(err.Error(), "nothing is wrong", "--force") {
			t.Errorf("the one that the ledger accepts: %v", err)
		}
		if _, err := twin.docker.Run(t.Context(), "no", network, addr("")); err == nil {
			t.Error("the fenced machine hands out")
		}
		text, err := twin.NewIdentity(t.Context(), api.IdentityReset{DryRun: true})
		if err != nil || !holds(text, "would become", "web", at(both).String(), "container both", "--is-off") {
			t.Errorf("%q, %v", text, err)
		}
		select {
		case <-twin.Ended():
			t.Fatal("a dry run changed something")
		default:
		}
		if text, err := twin.NewIdentity(t.Context(), api.IdentityReset{}); err != nil || !holds(text, "becomes a new one") {
			t.Errorf("%q, %v", text, err)
		}
		twin.reborn()
		id := original.Report().Self
		original.until("it begins a later start", 10*time.Minute, original.ends)
		original.restart()
		hosts[0].until("the container is at the original", 10*time.Second, func() bool { return hosts[0].placed(at(both)) == id })
		twin.problem(time.Minute, "container both", "off the network")
		if again := twin.run("again", network, ""); at(again) == at(both) {
			t.Error("an address twice")
		}
	})
}

// TestAnOldDiskBecomesAHostOfItsOwn: a host with an old disk gets a new identity. No machine has the old
// one, so its containers get their addresses again once the operator has removed it.
func TestAnOldDiskBecomesAHostOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		one, h := hosts[0], hosts[2]
		network := h.network("web", "10.40.0.0/24")
		ran := h.run("runs", network, "")
		one.until("it is known", 10*time.Second, func() bool { return one.placed(at(ran)) == h.Report().Self })
		old := filepath.Join(c.dir, "old")
		h.copyDisk(old)
		h.restart()
		h.ready()
		former := h.Report().Self
		h.stop()
		h.restoreDisk(old)
		if err := os.RemoveAll(h.config().Volatile); err != nil { // the machine was off
			t.Fatal(err)
		}
		h.start()
		h.problem(10*time.Second, "both show start 2", "weft host new-identity")
		if _, err := h.docker.Run(t.Context(), "no", network, addr("")); err == nil {
			t.Error("the old disk hands out")
		}
		if _, err := h.NewIdentity(t.Context(), api.IdentityReset{}); err != nil {
			t.Fatal(err)
		}
		h.reborn()
		h.problem(10*time.Second, at(ran).String(), "weft host rm "+former.Short()+" --is-off")
		h.run("another", network, "") // of a block of its own
		if got := h.forwards(at(ran)); got != "here" {
			t.Errorf("while it is undecided the container is %s", got)
		}
		if _, err := one.RemoveHost(t.Context(), api.Removal{Host: former.Short(), IsOff: true}); err != nil {
			t.Fatal(err)
		}
		one.until("the container is at the new host", 30*time.Second, func() bool { return one.placed(at(ran)) == h.Report().Self })
		h.until("no problem is left", 30*time.Second, func() bool { return len(h.Report().Problems) == 0 })
	})
}

// TestAKeeperThatTheLedgerNeedsStays: the operator cannot reset the identity of a keeper without which
// there is no majority.
func TestAKeeperThatTheLedgerNeedsStays(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 1)
		one := hosts[0]
		if _, err := one.NewIdentity(t.Context(), api.IdentityReset{Force: true}); err == nil || !holds(err.Error(), "keeps the ledger", "three hosts") {
			t.Errorf("the only keeper: %v", err)
		}
		two, three := c.host(one).start(), c.host(one).start()
		two.ready()
		three.ready()
		one.until("three keepers", time.Minute, func() bool { return len(one.Report().Ledger.Keepers) == 3 })
		if _, err := one.NewIdentity(t.Context(), api.IdentityReset{Force: true}); err != nil {
			t.Fatal(err)
		}
		one.reborn()
		one.network("web", "10.40.0.0/24")
	})
}

// TestAnOlderDiskHandsOutNothingAlone: within one boot of the machine, a host notices that its state
// directory was replaced by an older copy, even if it can reach no other host.
func TestAnOlderDiskHandsOutNothingAlone(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		m := newClocks()
		h, network := leased(c, m)
		old := filepath.Join(c.dir, "old")
		h.copyDisk(old)
		h.stop()
		h.tick(m).ready()
		h.run("since", network, "")
		h.cut()
		h.stop()
		h.tick(m).run("again, alone", network, "")
		h.stop()
		h.restoreDisk(old)
		h.tick(m)
		begin := time.Now()
		_, err := h.docker.Run(t.Context(), "no", network, addr(""))
		fails(t, begin, err, "older copy", "start 3", "weft host new-identity")
		h.heal()
		time.Sleep(2 * time.Minute) // the ledger has never heard of the start that is missing, and accepts this one
		begin = time.Now()
		_, err = h.docker.Run(t.Context(), "no", network, addr(""))
		fails(t, begin, err, "older copy")
	})
}

// TestAHostThatLeftComesBackAsAnother: a host that left gets a new identity and is a member again.
func TestAHostThatLeftComesBackAsAnother(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		h := hosts[2]
		if _, err := h.Leave(t.Context(), api.Departure{}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.NewIdentity(t.Context(), api.IdentityReset{}); err != nil {
			t.Fatal(err)
		}
		h.reborn()
		network := h.network("web", "10.40.0.0/24")
		ran := h.run("runs", network, "")
		h.removed(hosts[0])
		h.heal()
		h.reborn() // by itself
		hosts[0].until("the container", 10*time.Second, func() bool { return hosts[0].placed(at(ran)) == h.Report().Self })
	})
}
