package plugin_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// at is the first address of a container.
func at(c plugintest.Container) netip.Addr { return c.Addrs[0].Addr() }

// placed returns the host that has an address according to a host's facts; zero: none.
func (h *host) placed(a netip.Addr) netmap.HostID {
	for e := range h.View().Endpoints() {
		if e.V4 == a || e.V6 == a {
			return e.Host
		}
	}
	return netmap.HostID{}
}

// forwards reports whether the kernel sends an address to an underlay address or, for
// a port of its own, to nobody.
func (h *host) forwards(a netip.Addr) (to string) {
	for _, n := range h.kernel.Read().Networks {
		for _, e := range n.Neighbours {
			if e.Addr != a {
				continue
			}
			for _, f := range n.FDB {
				if f.MAC == e.MAC {
					return f.VTEP.String()
				}
			}
			return "here"
		}
	}
	return "nowhere"
}

// removed cuts a host off and removes it from the cluster with --is-off.
func (h *host) removed(by *host) {
	h.c.t.Helper()
	h.cut()
	if _, err := by.RemoveHost(h.c.t.Context(), api.Removal{Host: h.Report().Self.String(), IsOff: true}); err != nil {
		h.c.t.Fatal(err)
	}
}

// removedInPassing is removed, for a host that runs: it is cut off only until that is decided.
func (h *host) removedInPassing(by *host) {
	h.c.t.Helper()
	h.removed(by)
	h.heal()
}

// robbery is a host that was removed while its two containers ran on, and whose network has
// the address of one of them on another host meanwhile.
type robbery struct {
	one, back         *host
	former            netmap.HostID
	network           string // in the Docker of the host that comes back
	kept, lost, thief plugintest.Container
}

// robbed leaves the host cut off.
func robbed(c *cluster) (r robbery) {
	c.t.Helper()
	hosts := up(c, 3)
	r.one, r.back = hosts[0], hosts[2]
	r.network = r.back.network("web", "10.40.0.0/24")
	r.kept, r.lost = r.back.run("kept", r.network, ""), r.back.run("lost", r.network, "")
	r.one.until("the replica", 10*time.Second, func() bool { return r.one.lookup("web") != "" })
	r.former = r.back.Report().Self
	r.back.removed(r.one)
	r.thief = r.one.run("thief", r.one.lookup("web"), at(r.lost).String())
	return r
}

// TestARemovedHostReturnsAsANewOne: a removed host returns with its disk and running containers. It keeps
// the addresses that are free. A container whose address another host has handed out is taken off the
// network, and the operator is told, until Docker removes its endpoint.
func TestARemovedHostReturnsAsANewOne(t *testing.T) {
	for name, restarted := range map[string]bool{"cut off": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				r := robbed(c)
				one, back, kept, lost := r.one, r.back, r.kept, r.lost
				one.until("nothing is at the removed host", 10*time.Second, func() bool { return one.forwards(at(kept)) == "nowhere" })
				if restarted {
					back.stop()
					back.heal()
					back.start()
				}
				back.heal()
				back.reborn()

				now := back.Report().Self
				for _, h := range c.hosts {
					h.until("the kept container is at the new host", 10*time.Second, func() bool { return h.placed(at(kept)) == now })
					h.until("the other is where the address was given to", 10*time.Second, func() bool { return h.placed(at(r.thief)) == one.Report().Self })
				}
				back.until("the kernels follow", 10*time.Second, func() bool {
					return one.forwards(at(kept)) == back.addr.String() && back.forwards(at(kept)) == "here" && back.forwards(at(lost)) == one.addr.String()
				})
				before, _ := one.View().Host(r.former)
				after, _ := one.View().Host(now)
				if !before.Entry.Removed || after.Entry.Removed || after.Entry.Index <= before.Entry.Index {
					t.Errorf("the hosts are %+v and then %+v", before, after)
				}
				back.problem(10*time.Second, "container lost", at(lost).String(), "container thief", "host-1", "off the network")
				if text := back.log.String(); !strings.Contains(text, "container lost is off the network") {
					t.Error("the log does not say so")
				}
				begin := time.Now()
				if _, err := back.docker.Run(t.Context(), "same", r.network, at(lost)); err == nil || !holds(err.Error(), "container lost", "another host") {
					t.Errorf("the lost address once more: %v after %v", err, time.Since(begin))
				}

				for _, name := range []string{"kept", "lost"} { // Docker's own calls for both succeed
					if err := back.docker.Stop(t.Context(), name); err != nil {
						t.Errorf("stop %s: %v", name, err)
					}
				}
				back.until("no problem is left", 10*time.Second, func() bool { return len(back.Report().Problems) == 0 })
				again := back.run("lost", r.network, "")
				if at(again) == at(lost) {
					t.Error("the lost address was given out here")
				}
				if got := one.placed(at(r.thief)); got != one.Report().Self {
					t.Errorf("%s is at %s", at(r.thief), got.Short())
				}
			})
		})
	}
}

// TestAReturnSurvivesCrashes: the agent restarts at each stage of the return and continues it.
func TestAReturnSurvivesCrashes(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		r := robbed(c)
		one, back, kept, lost := r.one, r.back, r.kept, r.lost
		back.heal()
		back.until("the identity is given up", time.Minute, func() bool {
			select {
			case <-back.Ended():
				return true
			default:
				return false
			}
		})
		back.cut()
		for range 3 { // nobody to ask: it is to be gone on with
			back.restart()
			time.Sleep(3 * time.Second)
		}
		for e := range back.View().Endpoints() {
			if e.Host == back.Report().Self {
				t.Errorf("endpoint %s is announced before anybody was asked", e.ID)
			}
		}
		back.heal()
		for range 12 { // in the middle of asking
			back.restart()
			time.Sleep(70 * time.Millisecond)
		}
		back.ready()
		back.problem(10*time.Second, "container lost", "off the network")
		back.restart() // it is on disk
		back.problem(10*time.Second, "container lost", "off the network")
		one.until("the kept one", 10*time.Second, func() bool { return one.placed(at(kept)) == back.Report().Self })
		if got := back.forwards(at(lost)); got != one.addr.String() {
			t.Errorf("the lost address is %s", got)
		}
	})
}

// TestTheLastMemberReturns: the removed host was the last member of its network, so network and subnet were
// removed too. They are made again as they were. If another network has the space, the host uses none
// of it.
func TestTheLastMemberReturns(t *testing.T) {
	for name, taken := range map[string]string{"free": "", "taken": "10.40.0.0/16"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				hosts := up(c, 3, unreplicated)
				one, back := hosts[0], hosts[2]
				network := back.network("web", "10.40.0.0/24")
				ran := back.run("runs", network, "")
				back.removed(one)
				one.until("the network is gone", 10*time.Second, func() bool { return len(one.View().Networks) == 0 })
				if taken != "" {
					one.network("other", taken)
				}
				back.heal()
				back.reborn()
				if taken != "" {
					back.problem(10*time.Second, "10.40.0.0/24", "overlaps", taken, "remove it")
					back.problem(10*time.Second, "container runs", "off the network")
					begin := time.Now()
					_, err := back.docker.Run(t.Context(), "another", network, addr(""))
					fails(t, begin, err, "overlaps", taken)
					if err := back.docker.Remove(t.Context(), "runs"); err != nil {
						t.Error(err)
					}
					if err := back.docker.RemoveNetwork(t.Context(), network); err != nil {
						t.Error(err)
					}
					back.until("no problem is left", time.Minute, func() bool { return len(back.Report().Problems) == 0 })
					return
				}
				one.until("the container", 10*time.Second, func() bool { return one.placed(at(ran)) == back.Report().Self })
				local := one.network("web", "10.40.0.0/24")
				one.run("peer", local, "")
				one.until("forwarding", 10*time.Second, func() bool { return one.forwards(at(ran)) == back.addr.String() })
			})
		})
	}
}

// TestADockerReplayAfterAReturn: dockerd was restarted while its containers ran on,
// and asks again for what they have.
func TestADockerReplayAfterAReturn(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		r := robbed(c)
		one, back, kept, lost := r.one, r.back, r.kept, r.lost
		back.stop()
		back.heal()
		back.start()
		back.reborn()
		err := back.docker.Restart(t.Context(), true)
		if err == nil || !holds(err.Error(), at(lost).String()) || holds(err.Error(), at(kept).String()) {
			t.Errorf("the replay: %v", err)
		}
		one.until("the kept one", 10*time.Second, func() bool { return one.placed(at(kept)) == back.Report().Self })
		// It may have asked for an address at the moment at which Docker did; then it asks again.
		back.until("no further problem", 10*time.Second, func() bool {
			return len(slices.DeleteFunc(back.Report().Problems, func(s string) bool { return holds(s, "container lost") })) == 0
		})
	})
}
