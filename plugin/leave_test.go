package plugin_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

// seen is how a host sees another: its state in the report.
func (h *host) seen(id netmap.HostID) string {
	for _, o := range h.Report().Hosts {
		if o.ID == id {
			return o.State
		}
	}
	return "unknown"
}

// departure is a host that leaves, with a container on network web.
type departure struct {
	leaver  *host
	self    netmap.HostID
	others  []*host
	network string
}

// departs prepares it: the leaver has this role towards the ledger.
func departs(c *cluster, n int, role string) departure {
	c.t.Helper()
	up(c, n, unreplicated)
	c.keepers(map[int]int{2: 1, 3: 3, 4: 3, 6: 5}[n])
	d := departure{leaver: c.hosts[slices.IndexFunc(c.hosts, func(h *host) bool { return h.Report().Ledger.Role == role })]}
	d.others = slices.DeleteFunc(slices.Clone(c.hosts), func(h *host) bool { return h == d.leaver })
	d.self, d.network = d.leaver.Report().Self, d.leaver.network("web", "10.40.0.0/28")
	d.leaver.run("web-1", d.network, "")
	return d
}

// refusedWithContainers checks that the host refuses to leave while it has containers, and then removes
// them.
func (d departure) refusedWithContainers(t *testing.T) {
	t.Helper()
	begin := time.Now()
	_, err := d.leaver.Leave(t.Context(), api.Departure{})
	fails(t, begin, err, "still has containers", "10.40.0.", "--force")
	d.leaver.run("web-2", d.network, "") // it is a member as before
	for _, name := range []string{"web-1", "web-2"} {
		if err := d.leaver.docker.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// leave has the host leave, and checks that the others know at once and that it owns nothing.
func (d departure) leave(t *testing.T) {
	t.Helper()
	begin := time.Now()
	text, err := d.leaver.Leave(t.Context(), api.Departure{})
	if err != nil || !holds(text, "has left cluster", "new-identity", "weft cleanup") {
		t.Fatalf("%q, %v after %v", text, err, time.Since(begin))
	}
	t.Logf("it took %v", time.Since(begin))
	for _, h := range d.others {
		h.until("it is seen at once", 2*time.Second, func() bool { return h.seen(d.self) == "removed" })
		for _, b := range h.View().Blocks {
			if b.Owner == d.self {
				t.Errorf("it still owns %s", b.Prefix)
			}
		}
	}
}

// isOut checks that the host says that it has left, and hands out nothing.
func (d departure) isOut(t *testing.T) {
	t.Helper()
	if r := d.leaver.Report(); r.State != "left" || len(r.Problems) != 1 || !holds(r.Problems[0], "has left", "new-identity") {
		t.Errorf("it reports %s %q", r.State, r.Problems)
	}
	begin := time.Now()
	_, err := d.leaver.docker.Run(t.Context(), "new", d.network, netip.Addr{})
	fails(t, begin, err, "has left cluster")
	_, err = d.leaver.docker.CreateNetwork(t.Context(), named("new", "10.50.0.0/24"))
	fails(t, begin, err, "has left cluster", "weft host new-identity")
}

// othersGoOn checks that the whole of a small subnet is the others', and that enough of them
// keep the ledger.
func (d departure) othersGoOn() {
	for i, h := range d.others {
		h.run(fmt.Sprintf("after-%d", i), h.network("small", "10.41.0.0/28"), "")
	}
	d.others[0].until("the usual number of keepers", 2*time.Minute, func() bool {
		want := map[int]int{1: 1, 2: 1, 3: 3, 5: 5}[len(d.others)]
		return len(d.others[0].Report().Ledger.Keepers) == want
	})
}

// comesBack has the host join as another one.
func (d departure) comesBack(t *testing.T) {
	t.Helper()
	if _, err := d.leaver.NewIdentity(t.Context(), api.IdentityReset{}); err != nil {
		t.Fatal(err)
	}
	d.leaver.reborn()
	if d.leaver.Report().Self == d.self {
		t.Error("it came back as the same host")
	}
}

// TestAHostLeavesInOrder: the leader, another keeper or neither leaves a cluster of two to six hosts. The
// ledger still decides, the host's blocks are free at once, and it hands out nothing more, also after a
// restart.
func TestAHostLeavesInOrder(t *testing.T) {
	for _, n := range []int{2, 3, 4, 6} {
		for _, role := range []string{"leader", "follower", "none"} {
			if role == "none" && n == 3 || n == 2 && role == "follower" {
				continue
			}
			t.Run(fmt.Sprintf("%d hosts, %s", n, role), func(t *testing.T) {
				bubble(t, func(t *testing.T, c *cluster) {
					d := departs(c, n, role)
					d.refusedWithContainers(t)
					d.leave(t)
					d.isOut(t)
					d.leaver.restart()
					time.Sleep(time.Minute)
					d.isOut(t)
					d.othersGoOn()
					d.comesBack(t)
				})
			})
		}
	}
}

// TestWhoCannotLeave: the last host, a keeper without a majority, and a host in no cluster cannot leave,
// and say why.
func TestWhoCannotLeave(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		one := c.host().start()
		one.ready()
		_, err := one.Leave(t.Context(), api.Departure{})
		fails(t, time.Now(), err, "last host of the cluster", "weft cleanup")
		one.run("still", one.network("web", "10.40.0.0/24"), "")
		lonely := c.host(c.host()).start()
		_, err = lonely.Leave(t.Context(), api.Departure{})
		fails(t, time.Now(), err, "in no cluster")
	})
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 3, unreplicated)
		keep, _ := c.keepers(3)
		keep[1].stop()
		keep[2].stop()
		time.Sleep(time.Minute)
		_, err := keep[0].Leave(t.Context(), api.Departure{})
		if err == nil || !holds(err.Error(), "2 of the 3 keepers", keep[1].set.Name, keep[2].set.Name) {
			t.Errorf("without a majority: %v", err)
		}
		if r := keep[0].Report(); r.State != "ready" {
			t.Errorf("it is %s now", r.State)
		}
	})
}

// TestLeavingByForce: with --force a host leaves although it has containers. They run on without the
// network, and other hosts get their addresses.
func TestLeavingByForce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		leaver, other := hosts[2], hosts[1]
		lost := leaver.run("lost", leaver.network("web", "10.40.0.0/24"), "")
		id := other.network("web", "10.40.0.0/24")
		if _, err := leaver.Leave(t.Context(), api.Departure{Force: true}); err != nil {
			t.Fatal(err)
		}
		other.until("nobody forwards to it", 5*time.Second, func() bool { return other.forwards(at(lost)) == "nowhere" })
		other.run("heir", id, at(lost).String())
	})
}

// TestADepartureThatWasNotDecidedIsForgotten: a host's request to leave reaches no keeper, so the host
// stays a member. If it is removed later, that counts as a removal and not as a departure.
func TestADepartureThatWasNotDecidedIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 4, unreplicated)
		keep, rest := c.keepers(3)
		stays := rest[0]
		stays.cut()
		begin := time.Now()
		_, err := stays.Leave(t.Context(), api.Departure{})
		if err == nil || !holds(err.Error(), keep[0].set.Name, "may still be decided") || time.Since(begin) > 8*time.Second {
			t.Fatalf("cut off: %v after %v", err, time.Since(begin))
		}
		stays.heal()
		stays.restart() // the ledger accepts it
		stays.ready()
		stays.run("more", stays.network("web", "10.40.0.0/24"), "")
		stays.removed(keep[0])
		stays.heal()
		stays.reborn()
	})
}

// TestADepartureThatIsDecidedLater: the ledger decides a departure after the host has crashed. That does
// not count as a removal.
func TestADepartureThatIsDecidedLater(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 4, unreplicated)
		keep, rest := c.keepers(3)
		leaver := rest[0]
		keep[1].stop()
		keep[2].stop()
		if _, err := leaver.Leave(t.Context(), api.Departure{}); err == nil {
			t.Fatal("it left without a majority")
		}
		id := leaver.Report().Self.String()
		leaver.stop()
		keep[1].start()
		keep[2].start()
		for _, h := range keep {
			h.ready()
		}
		// As if the ledger had decided the departure: the host is not a member any more.
		keep[0].until("a decision", time.Minute, func() bool {
			_, err := keep[0].RemoveHost(t.Context(), api.Removal{Host: id, IsOff: true})
			return err == nil
		})
		leaver.start()
		leaver.until("it knows that it left", 2*time.Minute, func() bool { return leaver.Report().State == "left" })
		leaver.problem(time.Second, "has left cluster", "new-identity")
	})
}
