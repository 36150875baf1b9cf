package plugin_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/settings"
)

// expecting makes hosts with the same settings: all of them in WEFT_JOIN, and their number in
// WEFT_EXPECT.
func expecting(c *cluster, n, expect int) []*host {
	for range n {
		c.host()
	}
	for _, h := range c.hosts {
		h.set.Expect = expect
		for _, o := range c.hosts {
			h.set.Join = append(h.set.Join, netip.AddrPortFrom(o.addr, 7950).String())
		}
	}
	return c.hosts
}

// one waits until all these hosts are members of one cluster, and says how long it
// took.
func one(hosts ...*host) time.Duration {
	c := hosts[0].c
	c.t.Helper()
	begin := time.Now()
	for _, h := range hosts {
		h.until("a member", 2*time.Minute, func() bool { return h.Report().State == "ready" })
	}
	took := time.Since(begin)
	for _, h := range hosts {
		if got, want := h.Report().Cluster, hosts[0].Report().Cluster; got != want {
			c.t.Errorf("%s is in cluster %s, %s in %s", h.set.Name, got, hosts[0].set.Name, want)
		}
	}
	return took
}

// outcomes are the clusters that exist, by the disks of the hosts that are up.
func outcomes(c *cluster) map[netmap.ClusterID]bool {
	out := map[netmap.ClusterID]bool{}
	for _, h := range c.hosts {
		if h.Agent != nil && !h.Report().Cluster.IsZero() {
			out[h.Report().Cluster] = true
		}
	}
	return out
}

// wipe stops a host and loses its disk.
func (h *host) wipe() {
	h.c.t.Helper()
	h.stop()
	if err := os.RemoveAll(h.set.State); err != nil {
		h.c.t.Fatal(err)
	}
}

// TestHostsThatAreToldTheSameFoundTogether: any number of hosts with the same settings found one
// cluster, and then have the usual number of keepers.
func TestHostsThatAreToldTheSameFoundTogether(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				for _, h := range expecting(c, n, n) {
					h.start()
				}
				took := one(c.hosts...)
				t.Logf("%d hosts founded together within %v", n, took)
				if took > 15*time.Second {
					t.Errorf("founding took %v", took)
				}
				want := map[int]int{1: 1, 2: 1, 3: 3, 5: 5, 8: 5}[n]
				c.hosts[0].until("the keepers are chosen", time.Minute, func() bool { return len(c.hosts[0].Report().Ledger.Keepers) == want })
				c.hosts[n-1].run("web-1", c.hosts[n-1].network("web", "10.40.0.0/24"), "")
			})
		})
	}
}

// TestFoundingWaitsForTheHostsThatAreMissing: the hosts say which others are missing. A host that comes
// later joins.
func TestFoundingWaitsForTheHostsThatAreMissing(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		expecting(c, 4, 3)
		a, b := c.hosts[2].start(), c.hosts[1].start()
		for _, h := range []*host{a, b} {
			h.problem(20*time.Second, "sees 2 of 3 expected hosts: host-2, host-3", "waiting for 192.0.2.1:7950, 192.0.2.4:7950")
		}
		begin := time.Now()
		_, err := a.docker.CreateNetwork(t.Context(), named("web", "10.40.0.0/24"))
		fails(t, begin, err, "sees 2 of 3 expected hosts")
		time.Sleep(time.Hour)
		if got := outcomes(c); len(got) != 0 || a.Report().State != "founding" {
			t.Fatalf("two of three founded %v, state %s", got, a.Report().State)
		}
		b.restart() // what was seen is not what is there
		c.hosts[0].start()
		one(c.hosts[:3]...)
		time.Sleep(time.Minute)
		c.hosts[3].start()
		one(c.hosts...)
		if strings.Contains(a.log.String(), "level=ERROR") {
			t.Error("waiting was logged as an error")
		}
	})
}

// TestNoMajorityOfTheNamedHostsFoundsNothing: WEFT_EXPECT is less than half of
// them, so that two halves could each see as many.
func TestNoMajorityOfTheNamedHostsFoundsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		expecting(c, 5, 2)
		c.hosts[0].start()
		c.hosts[1].start()
		c.hosts[0].problem(30*time.Second, "only 2 of the 5 hosts in WEFT_JOIN", "more than half")
		time.Sleep(10 * time.Minute)
		if got := outcomes(c); len(got) != 0 {
			t.Fatalf("founded %v", got)
		}
		c.hosts[4].start()
		one(c.hosts[0], c.hosts[1], c.hosts[4])
	})
}

// TestAllThatAreNamedFoundTogether: WEFT_EXPECT=agents.
func TestAllThatAreNamedFoundTogether(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		expecting(c, 3, settings.ExpectAgents)
		c.hosts[0].start()
		c.hosts[1].start()
		c.hosts[0].problem(30*time.Second, "sees 2 of 3 expected hosts")
		time.Sleep(time.Hour)
		if got := outcomes(c); len(got) != 0 {
			t.Fatalf("two of three founded %v", got)
		}
		c.hosts[2].start()
		one(c.hosts...)
	})
}

// TestARangeOverTheHostsOwnNetworkFoundsNothing, whether a host founds alone or one of several has such a network.
func TestARangeOverTheHostsOwnNetworkFoundsNothing(t *testing.T) {
	route := ipam.Route{Prefix: netip.MustParsePrefix("10.40.0.0/16"), Name: "the route via eth1"}
	own := ipam.Route{Prefix: netip.MustParsePrefix("10.41.0.0/16"), Name: "the route via wfh1", Own: true}
	words := []string{"no cluster is founded", "range 10.32.0.0/12 overlaps 10.40.0.0/16 (the route via eth1)", "WEFT_RANGE"}
	bubble(t, func(t *testing.T, c *cluster) {
		alone := c.host()
		alone.kernel.Route(route)
		alone.start()
		alone.problem(30*time.Second, words...)
		if got := outcomes(c); len(got) != 0 {
			t.Errorf("founded %v", got)
		}
		_, err := alone.docker.CreateNetwork(t.Context(), named("web", "192.168.4.0/24"))
		fails(t, time.Now(), err, words...)
		alone.kernel.Unroute()
		alone.kernel.Route(own)
		one(alone)
		alone.kernel.Route(route) // later, or on a host that joins
		alone.problem(5*time.Second, "range 10.32.0.0/12 overlaps 10.40.0.0/16 (the route via eth1) of this host", "--subnet")
		alone.kernel.Unroute()
		alone.until("no problem is left", 5*time.Second, func() bool { return len(alone.Report().Problems) == 0 })
	})
	bubble(t, func(t *testing.T, c *cluster) {
		expecting(c, 3, 3)
		c.hosts[2].kernel.Route(route)
		for _, h := range c.hosts {
			h.start()
		}
		for _, h := range c.hosts {
			h.problem(time.Minute, words...)
		}
		time.Sleep(10 * time.Minute)
		if got := outcomes(c); len(got) != 0 {
			t.Fatalf("founded %v", got)
		}
		c.hosts[2].kernel.Unroute()
		one(c.hosts...)
	})
}

func TestDifferentExpectationsAreNamed(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		expecting(c, 3, 3)
		c.hosts[1].set.Expect = 0
		for _, h := range c.hosts {
			h.start()
		}
		c.hosts[0].until("both are named", time.Minute, func() bool {
			for _, h := range c.hosts {
				for _, p := range h.Report().Problems {
					if holds(p, "host-2 has WEFT_EXPECT=0", "WEFT_EXPECT=3") {
						return true
					}
				}
			}
			return false
		})
		if got := outcomes(c); len(got) != 0 {
			t.Errorf("founded %v", got)
		}
	})
}

// TestFoundingAcrossACut: one of three hosts is cut off before they have met, or while they found. No
// host founds without the third, and all found together when the cut is healed.
func TestFoundingAcrossACut(t *testing.T) {
	for _, after := range []time.Duration{0, 300 * time.Millisecond, time.Second, 1500 * time.Millisecond, 2 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				expecting(c, 3, 3)
				for _, h := range c.hosts {
					h.start()
				}
				time.Sleep(after)
				c.net.Split(c.hosts[0].addr)
				time.Sleep(3 * time.Minute)
				if got := outcomes(c); len(got) > 1 {
					t.Fatalf("two clusters: %v", got)
				}
				c.net.HealAll()
				one(c.hosts...)
			})
		})
	}
}

// TestFoundingInTwoHalves: four hosts of which two and two see each other first.
func TestFoundingInTwoHalves(t *testing.T) {
	for _, expect := range []int{2, 3, 4} {
		t.Run(fmt.Sprint(expect), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				expecting(c, 4, expect)
				c.net.Split(c.hosts[0].addr, c.hosts[1].addr)
				for _, h := range c.hosts {
					h.start()
				}
				time.Sleep(3 * time.Minute)
				if got := outcomes(c); len(got) != 0 {
					t.Fatalf("half of the hosts founded %v", got)
				}
				c.net.HealAll()
				one(c.hosts...)
			})
		})
	}
}

// TestAHostThatLosesItsDiskDuringTheFounding: it comes back with another identity, which does not count
// as a second vote, and nobody waits for its first identity.
func TestAHostThatLosesItsDiskDuringTheFounding(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		for _, after := range []time.Duration{800 * time.Millisecond, 1200 * time.Millisecond, 1600 * time.Millisecond, 2 * time.Second, 10 * time.Second} {
			t.Run(fmt.Sprintf("%d hosts after %v", n, after), func(t *testing.T) {
				bubble(t, func(_ *testing.T, c *cluster) {
					expecting(c, n, n)
					for _, h := range c.hosts {
						h.start()
					}
					time.Sleep(after)
					last := c.hosts[n-1]
					founded := len(outcomes(c)) > 0
					last.wipe()
					time.Sleep(3 * time.Second)
					last.start()
					if n == 2 && founded {
						return // its ledger may have been the only one
					}
					one(c.hosts...)
				})
			})
		}
	}
}

// TestAHostIsKilledDuringTheFounding at many moments; its disk stays.
func TestAHostIsKilledDuringTheFounding(t *testing.T) {
	for _, after := range []time.Duration{500 * time.Millisecond, 700 * time.Millisecond, 900 * time.Millisecond, 1100 * time.Millisecond, 1300 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				expecting(c, 3, 3)
				for _, h := range c.hosts {
					h.start()
				}
				time.Sleep(after)
				for _, h := range c.hosts {
					h.restart()
					time.Sleep(70 * time.Millisecond)
				}
				one(c.hosts...)
				if got := outcomes(c); len(got) != 1 {
					t.Errorf("clusters: %v", got)
				}
			})
		})
	}
}

// TestNewcomersJoinAClusterThatIsThere instead of founding another.
func TestNewcomersJoinAClusterThatIsThere(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		expecting(c, 3, 3)
		c.hosts[0].set.Join, c.hosts[0].set.Expect = nil, 0
		c.hosts[1].start()
		c.hosts[2].start()
		time.Sleep(time.Minute)
		c.hosts[0].start().ready()
		one(c.hosts...)
	})
}

// TestAConnectedPeerDoesNotCountForFounding: only hosts in WEFT_JOIN count, which all hosts have.
func TestAConnectedPeerDoesNotCountForFounding(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		expecting(c, 4, 2)
		a, b := c.hosts[0].start(), c.hosts[1].start()
		for _, dead := range a.set.Join[2:] {
			if _, err := a.Forget(t.Context(), api.PeerChange{Peer: dead}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.Connect(t.Context(), api.PeerChange{Peer: "192.0.2.9"}); err != nil {
			t.Fatal(err)
		}
		for _, h := range []*host{a, b} {
			h.problem(30*time.Second, "only 2 of the 4 hosts in WEFT_JOIN", "more than half")
		}
		time.Sleep(10 * time.Minute)
		if got := outcomes(c); len(got) != 0 {
			t.Errorf("two of the four that are named founded %v", got)
		}
	})
}
