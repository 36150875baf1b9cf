package plugin_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin/plugintest"
)

// TestAnAddressOfAContainerThatMayNotStartIsAskedForAgain: while its host was removed,
// another handed the address of a running container out, and no endpoint has it yet.
// Whether it is lost is not known before that container starts or is given up.
func TestAnAddressOfAContainerThatMayNotStartIsAskedForAgain(t *testing.T) {
	for name, starts := range map[string]bool{"it starts": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				var slow atomic.Bool
				held := make(chan struct{})
				goOn := sync.OnceFunc(func() { close(held) })
				defer goOn()
				hosts := up(c, 3, func(h *host) {
					h.docker.Before = func(call plugintest.Call) {
						if call.Method == "NetworkDriver.CreateEndpoint" && slow.Load() {
							<-held
						}
					}
				})
				one, back := hosts[0], hosts[2]
				network := back.network("web", "10.40.0.0/24")
				ran := back.run("ran", network, "")
				one.until("the replica", 10*time.Second, func() bool { return one.lookup("web") != "" })
				back.removed(one)
				slow.Store(true)
				thief := make(chan error)
				go func() {
					_, err := one.docker.Run(t.Context(), "thief", one.lookup("web"), at(ran))
					thief <- err
				}()
				back.heal()
				back.reborn()
				back.problem(15*time.Second, "still missing", at(ran).String(), "try again")
				begin := time.Now()
				_, err := hosts[1].docker.Run(t.Context(), "other", hosts[1].lookup("web"), at(ran))
				fails(t, begin, err, at(ran).String(), "host-1", "try again")
				if starts {
					goOn()
					if err := <-thief; err != nil {
						t.Error(err)
					}
					back.problem(time.Minute, "container ran", at(ran).String(), "container thief", "host-1", "off the network")
					return
				}
				now := back.Report().Self
				one.until("the container has its address", 4*time.Minute, func() bool { return one.placed(at(ran)) == now })
				goOn()
				if err := <-thief; err == nil || !holds(err.Error(), at(ran).String(), "taken back") {
					t.Errorf("who came too late: %v", err)
				}
				if got := one.placed(at(ran)); got != now {
					t.Errorf("%s is at %s", at(ran), got.Short())
				}
			})
		})
	}
}

// TestAnAddressOnAHostThatIsAwayIsAskedForAgain: according to the last facts, a container on a host that
// cannot be reached has the address. When that host is removed, the address is free.
func TestAnAddressOnAHostThatIsAwayIsAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 5)
		keep, rest := c.keepers(3)
		one, thief, back := keep[0], rest[0], rest[1]
		network := back.network("web", "10.40.0.0/24")
		ran := back.run("ran", network, "")
		thief.until("the replica", 10*time.Second, func() bool { return thief.lookup("web") != "" })
		back.removed(one)
		thief.run("thief", thief.lookup("web"), at(ran).String())
		away := thief.Report().Self
		one.until("it is known", 10*time.Second, func() bool { return one.placed(at(ran)) == away })
		thief.stop()
		back.heal()
		back.reborn()
		back.problem(15*time.Second, "still missing", at(ran).String(), "container thief", "does not answer", "weft host rm "+thief.set.Name)
		if _, err := one.RemoveHost(t.Context(), api.Removal{Host: away.String(), IsOff: true}); err != nil {
			t.Fatal(err)
		}
		now := back.Report().Self
		one.until("the container has its address", time.Minute, func() bool { return one.placed(at(ran)) == now })
	})
}
