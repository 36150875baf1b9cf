package plugin_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weftnet/weft/plugin/plugintest"
)

// TestARemovalOutlivesTheAgent: a user removes a network while the ledger cannot be asked,
// and the agent ends before that heals, whether it has looked at Docker since or not.
func TestARemovalOutlivesTheAgent(t *testing.T) {
	for name, end := range map[string]func(one *host, id string){
		"once it looked": func(one *host, id string) {
			one.remove(id)
			one.problem(time.Minute, "web", "removed here", "cannot be told")
			one.restart()
		},
		"before it looked": func(one *host, id string) {
			one.docker.Before = func(call plugintest.Call) {
				if call.Method == "NetworkDriver.DeleteNetwork" {
					one.docker.BreakAPI(errors.New("Docker is busy")) // nothing that the agent could look at
				}
			}
			one.remove(id)
			one.restart()
			one.docker.BreakAPI(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(_ *testing.T, c *cluster) {
				hosts := up(c, 2)
				hosts[1].network("web", web)
				one := hosts[1] // does not keep the ledger
				hosts[0].until("web", soon, func() bool { return hosts[0].lookup("web") != "" })
				c.net.Split(one.addr)
				end(one, one.lookup("web"))
				c.net.HealAll()
				for _, h := range hosts {
					h.until("web is gone", time.Minute, func() bool { return h.lookup("web") == "" && h.reported(web).ID == 0 })
				}
				one.restart() // and is not removed again
				id := one.network("web", web)
				c.stays(one, id)
			})
		})
	}
}

// TestAReplicaThatWasNotRemovedComesBack: Docker has lost a network, which no user removed.
func TestAReplicaThatWasNotRemovedComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		hosts[0].network("web", web)
		one := hosts[1]
		one.until("web", soon, func() bool { return one.lookup("web") != "" })
		one.stop()
		one.docker = plugintest.NewEngine(one.set.Name) // installed anew
		one.start()
		one.until("web again", time.Minute, func() bool { return one.lookup("web") != "" })
		if hosts[0].lookup("web") == "" {
			t.Error("it went elsewhere")
		}
	})
}

// TestANetworkRemovedAndMadeAgainUnderItsName is docker compose down and up on one
// host, while the other one has a container of the old network.
func TestANetworkRemovedAndMadeAgainUnderItsName(t *testing.T) {
	const anew = "10.49.0.0/24"
	for _, runs := range []bool{false, true} {
		t.Run(fmt.Sprintf("runs %v", runs), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				hosts := up(c, 2)
				one, two := hosts[0], hosts[1]
				id := one.network("job", web)
				two.until("job", soon, func() bool { return two.lookup("job") != "" })
				old := two.lookup("job")
				two.run("batch", old, "")
				if !runs {
					if err := two.docker.Stop(t.Context(), "batch"); err != nil {
						t.Fatal(err)
					}
				}
				one.remove(id)
				one.until("job is gone", soon, func() bool { return one.reported(web).Retired || one.reported(web).ID == 0 })
				one.network("job", anew)
				if runs {
					two.problem(soon, "network job was removed", "batch", "docker network disconnect", "new network of that name")
					two.until("the new one is decided", soon, func() bool { return two.reported(anew).Name == "job" })
					begin := time.Now()
					_, err := two.docker.Run(t.Context(), "late", old, addr(""))
					fails(t, begin, err, "network job was removed on another host", "batch", "stop them", "then start this container again")
					if err := two.docker.Stop(t.Context(), "batch"); err != nil {
						t.Fatal(err)
					}
				}
				two.until("the new one", time.Second, func() bool {
					got := two.docker.Subnets(two.lookup("job"))
					return len(got) == 1 && got[0].String() == anew
				})
				two.run("fresh", two.lookup("job"), "")
				two.until("no problem", soon, func() bool { return len(two.Report().Problems) == 0 })
			})
		})
	}
}

// TestARemovedNetworkGoesWithItsLastContainer: a network that was removed on one host goes from another
// host within a second after its last container there has ended in any way. Until then no container
// can join it.
func TestARemovedNetworkGoesWithItsLastContainer(t *testing.T) {
	for name, end := range map[string]func(two *host) error{
		"rm -f": func(two *host) error { return two.docker.Remove(two.c.t.Context(), "last") },
		"stop":  func(two *host) error { return two.docker.Stop(two.c.t.Context(), "last") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				hosts := up(c, 2)
				one, two := hosts[0], hosts[1]
				id := one.network("web", web)
				two.until("web", soon, func() bool { return two.lookup("web") != "" })
				two.run("last", two.lookup("web"), "")
				one.remove(id)
				two.until("web is retired", soon, func() bool { return two.reported(web).Retired })
				if _, err := two.docker.Run(t.Context(), "late", two.lookup("web"), addr("")); err == nil || !holds(err.Error(), "removed on another host", "last") {
					t.Errorf("a container joined a network that was removed: %v", err)
				}
				if err := end(two); err != nil {
					t.Fatal(err)
				}
				two.until("web is gone", time.Second, func() bool { return two.lookup("web") == "" })
				two.until("no problem", soon, func() bool { return len(two.Report().Problems) == 0 })
			})
		})
	}
}

// TestARemovedNetworkThatDockerStillUses for a container that it does not list as running,
// as it is being started, or as a crash left its endpoint: that is told.
func TestARemovedNetworkThatDockerStillUses(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		one, two := hosts[0], hosts[1]
		id := one.network("web", web)
		two.until("web", soon, func() bool { return two.lookup("web") != "" })
		two.docker.Before = func(call plugintest.Call) {
			if call.Method == "NetworkDriver.Join" {
				one.remove(id)
				two.problem(soon, "network web was removed", "active endpoints", "docker network inspect web")
			}
		}
		two.run("slow", two.lookup("web"), "")
		two.problem(time.Second, "network web was removed", "slow", "docker network disconnect")
		if err := two.docker.Stop(t.Context(), "slow"); err != nil {
			t.Fatal(err)
		}
		two.until("web is gone", time.Second, func() bool { return two.lookup("web") == "" && len(two.Report().Problems) == 0 })
	})
}

func (h *host) remove(id string) {
	h.c.t.Helper()
	if err := h.docker.RemoveNetwork(h.c.t.Context(), id); err != nil {
		h.c.t.Fatal(err)
	}
}
