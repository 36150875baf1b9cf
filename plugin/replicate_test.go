package plugin_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin/plugintest"
)

type statusHost = api.Host

// soon is how long replication may take, Docker's events included.
const soon = 5 * time.Second

func TestANetworkAppearsEverywhereAndGoesEverywhere(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		id := hosts[0].network("web", web)
		for _, h := range hosts {
			h.until("web", soon, func() bool { return h.lookup("web") != "" })
		}
		late := c.host(hosts[0]).start()
		late.until("web on a host that joins later", 20*time.Second, func() bool { return late.lookup("web") != "" })
		if got, want := late.docker.Subnets(late.lookup("web")), hosts[0].docker.Subnets(id); !slices.Equal(got, want) {
			t.Errorf("the replica has %v, want %v", got, want)
		}
		busy := hosts[1]
		busy.run("shop", busy.lookup("web"), "")

		hosts[0].remove(id)
		for _, h := range []*host{hosts[0], hosts[2], late} {
			h.until("web is gone", soon, func() bool { return h.lookup("web") == "" })
		}
		time.Sleep(2 * time.Minute)
		if busy.lookup("web") == "" || len(busy.reported(web).Endpoints) != 1 {
			t.Error("a network in use was removed")
		}
		if !busy.reported(web).Retired {
			t.Error("status does not tell that it was removed elsewhere")
		}
		if err := busy.docker.Remove(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		busy.until("web is gone where it was used", soon, func() bool { return busy.lookup("web") == "" })
		for _, h := range c.hosts {
			h.until("nothing is decided about it", soon, func() bool { return h.reported(web).ID == 0 })
		}
		hosts[0].network("web", web)
		late.until("web anew", soon, func() bool { return late.lookup("web") != "" })
	})
}

// TestCreatedEverywhereAtOnceIsOneNetwork: as with Ansible, all hosts create a network of one name at the
// same time, with the same subnet or with different ones.
func TestCreatedEverywhereAtOnceIsOneNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		done := make(chan error, 2*len(hosts))
		for i, h := range hosts {
			go func() {
				_, err := h.docker.CreateNetwork(t.Context(), named("same", web))
				done <- err
			}()
			go func() {
				_, err := h.docker.CreateNetwork(t.Context(), named("other", []string{"10.50.0.0/24", "10.51.0.0/24", "10.52.0.0/24"}[i]))
				done <- err
			}()
		}
		for range 2 * len(hosts) {
			// Docker refuses a user who comes just after the replica.
			if err := <-done; err != nil && !holds(err.Error(), "in use on this host by Docker network") && !holds(err.Error(), "already exists") {
				t.Error(err)
			}
		}
		for _, name := range []string{"same", "other"} {
			hosts[0].until("one network "+name, 30*time.Second, func() bool {
				first := hosts[0].docker.Subnets(hosts[0].lookup(name))
				for _, h := range hosts {
					if got := h.docker.Subnets(h.lookup(name)); len(got) != 1 || got[0] != first[0] {
						return false
					}
				}
				return true
			})
		}
		hosts[0].until("two networks in the ledger", 10*time.Second, func() bool { return len(hosts[0].Report().Networks) == 2 })
	})
}

func TestANameOfAnotherDriverIsAProblem(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		hosts[1].docker.AddForeign("web")
		hosts[0].network("web", web)
		hosts[1].problem(soon, "web", "another driver", "rename or remove")
		if err := hosts[0].docker.RemoveNetwork(t.Context(), hosts[0].lookup("web")); err != nil {
			t.Fatal(err)
		}
		hosts[1].until("no problem", time.Minute, func() bool { return len(hosts[1].Report().Problems) == 0 })
	})
}

// TestWithoutReplicationNothingAppears; the same subnet names the same network.
func TestWithoutReplicationNothingAppears(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, unreplicated)
		first, second := hosts[0], hosts[1]
		id := first.network("web", web)
		time.Sleep(2 * time.Minute)
		if second.lookup("web") != "" {
			t.Fatal("it appeared")
		}
		second.network("shop", web)
		if a, b := first.reported(web).ID, second.reported(web).ID; a != b || a == 0 {
			t.Errorf("networks %d and %d", a, b)
		}
		if err := first.docker.RemoveNetwork(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if second.lookup("shop") == "" {
			t.Error("it went with the other host's")
		}
	})
}

// TestDockersAPIMayBeAway: nothing waits for Docker's API, and replication catches up when it answers again.
func TestDockersAPIMayBeAway(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		hosts[1].docker.BreakAPI(errors.New("cannot connect to the Docker daemon"))
		hosts[0].network("web", web)
		time.Sleep(time.Minute)
		if hosts[1].lookup("web") != "" {
			t.Error("a replica without an API")
		}
		hosts[1].restart()
		hosts[1].ready()
		hosts[1].docker.BreakAPI(nil)
		hosts[1].until("the replica", soon, func() bool { return hosts[1].lookup("web") != "" })
	})
}

// TestNamesSurviveARestartOfTheAgent: the agent asks Docker for the names again.
func TestNamesSurviveARestartOfTheAgent(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		hosts := up(c, 2)
		hosts[0].run("shop", hosts[0].network("web", web), "")
		named := func() bool {
			n := hosts[1].reported(web)
			return len(n.Endpoints) == 1 && n.Endpoints[0].Name == "shop"
		}
		hosts[1].until("the name", soon, named)
		hosts[0].restart()
		hosts[1].until("the name again", soon, named)
	})
}

// TestARemovalDuringACutIsToldAfterIt: a network that was removed during a cut goes from all hosts after it,
// and does not come back where it was removed.
func TestARemovalDuringACutIsToldAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		cut := hosts[2]
		cut.network("web", web)
		hosts[0].until("web", soon, func() bool { return hosts[0].lookup("web") != "" })
		c.net.Split(cut.addr)
		time.Sleep(10 * time.Second)
		if err := cut.docker.RemoveNetwork(t.Context(), cut.lookup("web")); err != nil {
			t.Fatal(err)
		}
		cut.problem(time.Minute, "web", "removed here", "cannot be told")
		time.Sleep(time.Minute)
		if hosts[0].lookup("web") == "" || cut.lookup("web") != "" {
			t.Error("a removal crossed a cut, or the network came back")
		}
		c.net.HealAll()
		for _, h := range hosts {
			h.until("web is gone", time.Minute, func() bool { return h.lookup("web") == "" && h.reported(web).ID == 0 })
		}
		time.Sleep(5 * time.Minute)
		for _, h := range hosts {
			if h.lookup("web") != "" || len(h.Report().Problems) > 0 {
				t.Errorf("%s: web is %q, problems %q", h.set.Name, h.lookup("web"), h.Report().Problems)
			}
		}
	})
}

// stays checks that a network which a user created again is where he created it, and
// that it lives on all hosts.
func (c *cluster) stays(at *host, id string) {
	c.t.Helper()
	time.Sleep(2 * time.Minute)
	if got := at.lookup("web"); got != id {
		c.t.Errorf("%s: what was created again as %.12s is %.12q", at.set.Name, id, got)
	}
	for _, h := range c.hosts {
		if n := h.reported(web); h.lookup("web") == "" || n.Retired || n.Name != "web" || len(h.Report().Problems) > 0 {
			c.t.Errorf("%s: web is %.12q, in the ledger %+v, problems %q", h.set.Name, h.lookup("web"), n, h.Report().Problems)
		}
	}
}

// TestCreatedAgainBeforeTheHostHasLeft: a user removes a network during a cut and
// creates it again when the others know that it was removed, and not yet that his host
// left it.
func TestCreatedAgainBeforeTheHostHasLeft(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		busy, cut := hosts[1], hosts[2]
		cut.network("web", web)
		for _, h := range hosts[:2] {
			h.until("web", soon, func() bool { return h.lookup("web") != "" })
		}
		busy.run("shop", busy.lookup("web"), "")
		c.net.Split(cut.addr)
		time.Sleep(10 * time.Second)
		if err := cut.docker.RemoveNetwork(t.Context(), cut.lookup("web")); err != nil {
			t.Fatal(err)
		}
		cut.problem(time.Minute, "web", "removed here", "cannot be told")
		c.net.HealAll()
		busy.until("web is retired", time.Minute, func() bool { return busy.reported(web).Retired })
		c.stays(cut, cut.network("web", web))
	})
}

// TestARemovalThatTheDriverHearsLate: the agent looks when Docker does not list a network any more but has
// not called DeleteNetwork yet.
func TestARemovalThatTheDriverHearsLate(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		id := one.network("web", web)
		two.until("web", soon, func() bool { return two.lookup("web") != "" })
		one.docker.Before = func(call plugintest.Call) {
			if call.Method == "NetworkDriver.DeleteNetwork" && holds(call.Body, id) {
				two.network("other", "10.49.0.0/24") // a reason to look
				one.until("other", soon, func() bool { return one.lookup("other") != "" })
			}
		}
		if err := one.docker.RemoveNetwork(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			h.until("web is gone", soon, func() bool { return h.lookup("web") == "" && h.reported(web).ID == 0 })
		}
		time.Sleep(time.Minute)
		if one.lookup("web") != "" || two.lookup("web") != "" {
			t.Error("a network that a user removed is back")
		}
	})
}

// TestCreatedAgainBeforeTheAgentLooks: docker network rm and docker network create
// follow so closely that the agent hears of both at once.
func TestCreatedAgainBeforeTheAgentLooks(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		id := hosts[0].network("web", web)
		for _, h := range hosts {
			h.until("web", soon, func() bool { return h.lookup("web") != "" })
		}
		hosts[0].docker.BreakAPI(errors.New("Docker is busy"))
		if err := hosts[0].docker.RemoveNetwork(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		id = hosts[0].network("web", web)
		hosts[0].docker.BreakAPI(nil)
		c.stays(hosts[0], id)
	})
}

// TestAReplicaThatComesTooLateRevivesNothing: a user creates a network and removes it while other Dockers
// still make its replicas.
func TestAReplicaThatComesTooLateRevivesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, func(h *host) {
			h.docker.Before = func(call plugintest.Call) {
				if call.Method == "NetworkDriver.CreateNetwork" && h != c.hosts[0] {
					time.Sleep(2 * time.Second)
				}
			}
		})
		id := hosts[0].network("web", web)
		hosts[0].until("the network's name is known", soon, func() bool { return hosts[2].reported(web).Name == "web" })
		time.Sleep(time.Second)
		if err := hosts[0].docker.RemoveNetwork(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, h := range hosts {
			if h.lookup("web") != "" || h.reported(web).ID != 0 {
				t.Errorf("%s: web is back as %q", h.set.Name, h.lookup("web"))
			}
			if p := h.Report().Problems; len(p) > 0 {
				t.Errorf("%s: problems %q", h.set.Name, p)
			}
		}
	})
}

// TestANameThatCannotBeSharedStaysAtHome: Docker allows names that Weft refuses. The agent does not ask the
// ledger again and again.
func TestANameThatCannotBeSharedStaysAtHome(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		hosts[0].network("two\nlines", web)
		hosts[0].network(strings.Repeat("n", 300), "10.50.0.0/24")
		hosts[0].problem(soon, `two\nlines`, "printable", "stays on this host")
		hosts[0].problem(soon, "nnnn", "stays on this host")
		before := hosts[0].Report().Ledger.Decided
		time.Sleep(time.Minute)
		if after := hosts[0].Report().Ledger.Decided; after > before+5 {
			t.Errorf("the ledger was asked %d times in a minute", after-before)
		}
	})
}

// TestWhatFailsIsNotTriedAllTheTime: a Docker that refuses a replica causes decisions of the ledger. These
// do not cause the next attempt.
func TestWhatFailsIsNotTriedAllTheTime(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		busy := hosts[1]
		busy.docker.RefuseReplicas(errors.New("no space left on device"))
		hosts[0].network("web", web)
		busy.problem(soon, "no space left")
		before := busy.Report().Ledger.Decided
		time.Sleep(time.Minute)
		if after := busy.Report().Ledger.Decided; after > before+200 {
			t.Errorf("%d decisions in a minute", after-before)
		}
		busy.docker.RefuseReplicas(nil)
		busy.until("web", soon, func() bool { return busy.lookup("web") != "" })
	})
}

// TestWhatDockerDeletedWhileTheAgentWasDownIsForgotten: the addresses come back,
// and the others hear of it.
func TestWhatDockerDeletedWhileTheAgentWasDownIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		id := hosts[0].network("web", web)
		hosts[0].run("shop", id, "")
		kept := hosts[0].run("db", id, "")
		hosts[0].stop()
		if err := hosts[0].docker.Remove(t.Context(), "shop"); !errors.Is(err, plugintest.ErrDown) {
			t.Fatal(err)
		}
		hosts[0].start()
		hosts[1].until("one endpoint", 5*time.Minute, func() bool {
			e := hosts[1].reported(web).Endpoints
			return len(e) == 1 && e[0].V4 == kept.Addrs[0].Addr()
		})
		hosts[0].until("one address in use", 15*time.Minute, func() bool {
			var used uint64
			for _, b := range hosts[0].reported(web).Subnets[0].Blocks {
				if b.Used != nil {
					used += *b.Used
				}
			}
			return used == 1
		})
	})
}
