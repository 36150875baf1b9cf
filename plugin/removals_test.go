package plugin_test

import (
	"errors"
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

// TestAReplicaThatWasNotRemovedComesBack: that Docker lost a network is no user's word.
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

func (h *host) remove(id string) {
	h.c.t.Helper()
	if err := h.docker.RemoveNetwork(h.c.t.Context(), id); err != nil {
		h.c.t.Fatal(err)
	}
}
