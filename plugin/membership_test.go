package plugin_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin"
)

func TestOneHostFoundsWithinASecond(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := c.host().start()
		if state := h.Report().State; state != "founding" && state != "ready" {
			t.Errorf("state %s at first", state)
		}
		if took := h.ready(); took > time.Second {
			t.Errorf("founding took %v", took)
		}
		cluster := h.Report().Cluster
		h.restart()
		if took := h.ready(); took > time.Second {
			t.Errorf("coming back took %v", took)
		}
		if again := h.Report().Cluster; cluster.IsZero() || again != cluster {
			t.Errorf("cluster %s became %s", cluster, again)
		}
	})
}

func TestJoiningMakesOneCluster(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3)
		for _, h := range hosts {
			h.until("all hosts alive", 10*time.Second, func() bool { return alive(h) == 3 })
			if h.Report().Cluster != hosts[0].Report().Cluster {
				t.Errorf("%s is in another cluster", h.set.Name)
			}
		}
	})
}

func alive(h *host) (n int) {
	for _, o := range h.Report().Hosts {
		if o.State == "alive" {
			n++
		}
	}
	return n
}

// TestAHostWithPeersNeverFoundsAlone: it says what is missing, answers Docker in
// time, and joins once somebody is there.
func TestAHostWithPeersNeverFoundsAlone(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		first := c.host()
		second := c.host(first).start()
		second.problem(5*time.Second, "WEFT_JOIN", "192.0.2.1:7950", "7950 tcp and udp")
		begin := time.Now()
		_, err := second.docker.CreateNetwork(t.Context(), named("web", "10.40.0.0/24"))
		fails(t, begin, err, "no member of a cluster answers at WEFT_JOIN", "192.0.2.1:7950")
		time.Sleep(10 * time.Minute)
		if r := second.Report(); r.State != "joining" || !r.Cluster.IsZero() {
			t.Errorf("alone: %s in cluster %s", r.State, r.Cluster)
		}
		first.start().ready()
		second.until("joined", 30*time.Second, func() bool { return second.Report().State == "ready" })
		if got := second.Report(); got.Cluster != first.Report().Cluster || len(got.Problems) > 0 {
			t.Errorf("joined %s with problems %q", got.Cluster, got.Problems)
		}
	})
}

// TestClustersFoundedApartRefuseEachOther: both sides report the ids of both clusters and what to do. No
// fact of one reaches the other.
func TestClustersFoundedApartRefuseEachOther(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host().start(), c.host().start()
		a.ready()
		b.ready()
		ours, theirs := a.Report().Cluster, b.Report().Cluster
		b.stop()
		b.set.Join = []string{"192.0.2.1:7950"}
		b.start()
		for _, h := range []*host{a, b} {
			h.problem(time.Minute, ours.String(), theirs.String(), "weft cleanup", "WEFT_JOIN")
		}
		if a.Report().Cluster != ours || b.Report().Cluster != theirs || len(a.Report().Hosts)+len(b.Report().Hosts) != 2 {
			t.Error("they merged")
		}
		b.ready()
		b.run("web-1", b.network("web", "10.40.0.0/24"), "")
	})
}

// TestPeersOfTwoClustersAreNoChoice: a new host whose peers are in two clusters joins neither.
func TestPeersOfTwoClustersAreNoChoice(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host().start(), c.host().start()
		a.ready()
		b.ready()
		newcomer := c.host(a, b).start()
		newcomer.until("a member of one, or a problem", time.Minute, func() bool {
			r := newcomer.Report()
			return r.State == "ready" || len(r.Problems) > 0
		})
		// It may have joined the one that it saw first; then it refuses the other.
		both := []string{a.Report().Cluster.String(), b.Report().Cluster.String()}
		newcomer.problem(time.Minute, both...)
		if newcomer.Report().State != "ready" {
			return
		}
		// Through it the two clusters learn of each other, and say what to do.
		one, other := a, b
		if newcomer.Report().Cluster == b.Report().Cluster {
			one, other = b, a
		}
		for _, h := range []*host{newcomer, other} {
			h.problem(time.Minute, append(both, "weft cleanup", "WEFT_JOIN")...)
		}
		if got := outcomes(c); len(got) != 2 || len(one.Report().Hosts) != 2 || len(other.Report().Hosts) != 1 {
			t.Errorf("they merged: %v", got)
		}
	})
}

func TestAStateDirectoryOfAnotherClusterIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a := c.host().start()
		a.ready()
		moved := c.host(a).start()
		moved.ready()
		old := moved.Report().Cluster
		a.stop()
		moved.stop()
		b := c.host().start()
		b.ready()
		moved.set.Join = []string{netip.AddrPortFrom(b.addr, 7950).String()}
		moved.start()
		moved.problem(time.Minute, old.String(), b.Report().Cluster.String(), "weft cleanup")
		if got := moved.Report().Cluster; got != old {
			t.Errorf("it moved to %s", got)
		}
	})
}

// TestALaterRangeIsAProblemThatNamesBoth: a host with another WEFT_RANGE than the cluster's has a problem
// that names both, be it the founder or not. A host that does not set it has none.
func TestALaterRangeIsAProblemThatNamesBoth(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		ours := []netip.Prefix{netip.MustParsePrefix("10.64.0.0/12")}
		founder := c.host()
		founder.set.Ranges = ours
		founder.start().ready()
		silent := c.host(founder).start()
		silent.ready()
		other := c.host(founder)
		other.set.Ranges = []netip.Prefix{netip.MustParsePrefix("10.80.0.0/16"), netip.MustParsePrefix("fd80::/48")}
		other.start()
		other.problem(20*time.Second, "WEFT_RANGE=10.80.0.0/16,fd80::/48", "10.64.0.0/12")
		founder.stop()
		founder.set.Ranges = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
		founder.start()
		founder.problem(20*time.Second, "WEFT_RANGE=10.96.0.0/12", "10.64.0.0/12")
		founder.stop()
		founder.set.Ranges = ours
		founder.start().ready()
		time.Sleep(time.Minute)
		for _, h := range []*host{founder, silent} {
			if p := h.Report().Problems; len(p) > 0 {
				t.Errorf("%s: %q", h.set.Name, p)
			}
		}
	})
}

// TestOpenLeavesNothingBehindWhenItFails: the bubble fails if a goroutine stays,
// and the next agent can open everything.
func TestOpenLeavesNothingBehindWhenItFails(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		first := c.host().start()
		first.ready()
		twin := c.host()
		cfg := twin.config()
		cfg.Network, cfg.Settings.State = c.net.Host(first.addr), twin.set.State
		if a, err := plugin.Open(cfg); err == nil {
			t.Error("two agents on one port", a.Close())
		}
		cfg = twin.config()
		cfg.Settings.State = first.set.State
		begin := time.Now()
		if a, err := plugin.Open(cfg); err == nil {
			t.Error("two agents on one state directory", a.Close())
		} else if !holds(err.Error(), "in use") {
			t.Error(err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		twin.start().ready()
	})
}

// peers returns the peer entries of a host as its status shows them.
func (h *host) peers() string {
	var out []string
	for _, p := range h.Report().Peers {
		out = append(out, fmt.Sprintf("%s from %s, %d alive of %d, forgotten %t", p.Peer, p.From, p.Alive, len(p.Addrs), p.Forgotten))
	}
	return strings.Join(out, "\n")
}

// TestAPeerIsConnectedWhileTheAgentRuns: a host whose WEFT_JOIN reaches no other host becomes a member by
// weft connect, and still has that peer after a restart.
func TestAPeerIsConnectedWhileTheAgentRuns(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		first, second := c.host().start(), c.host()
		second.set.Join = []string{"192.0.2.77:7950"}
		second.start()
		first.ready()
		time.Sleep(10 * time.Minute)
		if got := second.Report().State; got != "joining" {
			t.Fatalf("without a peer that is there it is %s", got)
		}
		if text, err := second.Connect(t.Context(), api.PeerChange{Peer: "192.0.2.1"}); err != nil || !strings.Contains(text, "192.0.2.1:7950 is a peer now") {
			t.Errorf("%q, %v", text, err)
		}
		second.until("a member", 30*time.Second, func() bool { return second.Report().State == "ready" && alive(second) == 2 })
		if _, err := second.Forget(t.Context(), api.PeerChange{Peer: "192.0.2.77"}); err != nil {
			t.Error(err)
		}
		want := "192.0.2.77:7950 from WEFT_JOIN, 0 alive of 1, forgotten true\n192.0.2.1:7950 from weft connect, 1 alive of 1, forgotten false"
		for _, when := range []string{"at once", "after a restart"} {
			second.until("the other host", 30*time.Second, func() bool { return alive(second) == 2 })
			if got := second.peers(); got != want {
				t.Errorf("%s its peers are\n%s\nwant\n%s", when, got, want)
			}
			second.restart()
		}
	})
}
