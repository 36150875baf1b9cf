package gossip_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay/lossy"
)

func TestFiveHostsKnowTheSame(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		begin := time.Now()
		hosts := w.start(5)
		t.Logf("five hosts that join one know each other and all facts after %s", time.Since(begin))
		for _, h := range hosts {
			h.say(container(int(h.cfg.Host[1]), 1))
		}
		w.settled(time.Second, hosts...)
		if got := len(endpoints(hosts[3].View())); got != 5 {
			t.Errorf("%d endpoints, want 5", got)
		}
	})
}

func TestAFactIsEverywhereInMilliseconds(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(10)
		w.pass(20 * time.Second) // joins and echoes are over
		var worst time.Duration
		before := hosts[0].Stats()
		const events = 20
		for n := range events {
			c := container(1, n)
			hosts[0].say(c)
			took := w.until("the fact", time.Second, func() bool {
				return !slices.ContainsFunc(hosts, func(h *host) bool { return !has(h.View(), c) })
			})
			worst = max(worst, took)
			w.pass(5 * time.Millisecond)
		}
		after := hosts[0].Stats()
		bytes := float64(after.SentBytes-before.SentBytes) / events
		t.Logf("at most %s until all of 10 hosts know; %.0f bytes in %.1f datagrams per event at its origin, %.0f bytes per receiver",
			worst, bytes, float64(after.Sent-before.Sent)/events, bytes/9)
		if worst >= 2*time.Millisecond { // one that comes alone waits for no other
			t.Errorf("%s until all know, want less than 2ms", worst)
		}
		if bytes > 9*150 {
			t.Errorf("%.0f bytes per event", bytes)
		}
	})
}

func TestManyFactsAtOnce(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(10)
		begin := time.Now()
		for _, h := range hosts {
			for n := range 50 {
				h.say(container(int(h.cfg.Host[1]), n))
			}
		}
		w.settled(5*time.Second, hosts...)
		t.Logf("50 containers on each of 10 hosts are known everywhere after %s", time.Since(begin))
		if got := len(endpoints(hosts[0].View())); got != 500 {
			t.Errorf("%d endpoints, want 500", got)
		}
	})
}

func TestLostDatagramsAreRepaired(t *testing.T) {
	bad := lossy.Link{Loss: 0.2, Double: 0.1, Delay: time.Millisecond, Jitter: 10 * time.Millisecond}
	bubble(t, bad, func(t *testing.T, w *town) {
		hosts := w.start(5)
		for n := range 40 {
			for _, h := range hosts {
				h.say(container(int(h.cfg.Host[1]), n))
				if n > 4 {
					h.say(withdrawn(container(int(h.cfg.Host[1]), n-5)))
				}
			}
			w.pass(30 * time.Millisecond)
		}
		took := w.settled(10*time.Second, hosts...)
		if took > 3*time.Second { // the digests would do it too, later
			t.Errorf("repaired after %s", took)
		}
		var gaps, pulls uint64
		for _, h := range hosts {
			gaps, pulls = gaps+h.Stats().Gaps, pulls+h.Stats().Pulls
		}
		t.Logf("20%% loss: all equal %s after the last fact; %d gaps, %d pulls", took, gaps, pulls)
		if got := len(endpoints(hosts[0].View())); got != 25 {
			t.Errorf("%d endpoints, want 25", got)
		}
		if gaps == 0 || pulls == 0 || w.net.Stats().Lost == 0 {
			t.Errorf("nothing was lost: %+v", w.net.Stats())
		}
	})
}

// TestTheLastDatagramIsLost: no gap shows it, so heads must.
func TestTheLastDatagramIsLost(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(4)
		w.pass(time.Minute)
		var sum time.Duration
		const times = 12
		for n := range times {
			for far := 2; far <= 4; far++ {
				w.net.SetLink(addrOf(1), addrOf(far), lossy.Link{Loss: 1})
			}
			hosts[0].say(container(1, n))
			w.pass(10 * time.Millisecond)
			for far := 2; far <= 4; far++ {
				w.net.SetLink(addrOf(1), addrOf(far), lan)
			}
			sum += w.settled(10*time.Second, hosts...)
			w.pass(2 * time.Second)
		}
		t.Logf("a fact whose only datagram was lost to all is known after %s in the mean", sum/times)
		if sum/times > 1500*time.Millisecond {
			t.Errorf("%s in the mean", sum/times)
		}
	})
}

func TestOvertakingCausesNoPulls(t *testing.T) {
	bubble(t, lossy.Link{Delay: time.Millisecond, Jitter: 10 * time.Millisecond}, func(t *testing.T, w *town) {
		hosts := w.start(2)
		w.pass(time.Minute)
		before := hosts[1].Stats()
		for n := range 100 {
			hosts[0].say(container(1, n))
			w.pass(3 * time.Millisecond)
		}
		w.settled(time.Second, hosts...)
		after := hosts[1].Stats()
		gaps, pulls := after.Gaps-before.Gaps, after.Pulls-before.Pulls
		t.Logf("%d gaps, %d pulls", gaps, pulls)
		if gaps == 0 || pulls > gaps/4 { // a datagram may be later than a gap is waited for
			t.Error("want gaps that close by themselves")
		}
	})
}

func TestACutLongerThanMemberlistRemembersHeals(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(5)
		alone, others := hosts[4], hosts[:4]
		w.net.Split(addrOf(5))
		w.until("its death", time.Minute, func() bool { return !aliveAt(hosts[0], id(5)) })
		alone.say(container(5, 1))
		others[1].say(container(2, 1))
		w.pass(2 * time.Minute)
		if has(others[0].View(), container(5, 1)) || len(others[0].View().Hosts) != 5 {
			t.Error("the cut let something through, or facts of an unreachable host were dropped")
		}
		w.net.HealAll()
		t.Logf("healed and equal %s after a cut of 2 minutes", w.settled(10*time.Second, hosts...))
		if !has(alone.View(), container(2, 1)) || !has(others[2].View(), container(5, 1)) {
			t.Error("a fact of the time of the cut is missing")
		}
	})
}

func TestHalvesOfAClusterFindEachOther(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(6)
		w.net.Split(addrOf(1), addrOf(2), addrOf(3))
		w.pass(5 * time.Minute)
		hosts[0].say(container(1, 1))
		hosts[5].say(container(6, 1))
		w.net.HealAll()
		t.Logf("halves are one again after %s", w.settled(10*time.Second, hosts...))
	})
}

func aliveAt(h *host, who netmap.HostID) bool {
	return slices.ContainsFunc(h.Members(), func(m gossip.Member) bool { return m.ID == who && m.Alive })
}

func TestARestartChangesNothingInTheView(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(4)
		first, second := container(2, 1), container(2, 2)
		hosts[1].say(first, second)
		w.settled(time.Second, hosts...)
		before := hosts[0].View()
		hosts[1].restart(first, second)
		w.until("the new start", 10*time.Second, func() bool {
			return slices.ContainsFunc(hosts[0].Members(), func(m gossip.Member) bool { return m.ID == id(2) && m.Start == 2 && m.Alive })
		})
		for range 100 {
			w.pass(100 * time.Millisecond)
			if hosts[0].View() != before {
				t.Fatal("the view changed though the host says what it said before")
			}
		}
		hosts[1].restart(second)
		w.until("the withdrawal", 10*time.Second, func() bool { return !has(hosts[3].View(), first) })
		if !has(hosts[3].View(), second) {
			t.Error("what was said again went away")
		}
		w.settled(10*time.Second, hosts...)
		for _, h := range hosts {
			if len(h.clones) > 0 {
				t.Errorf("%s takes a restart for a clone: %+v", h.cfg.Name, <-h.clones)
			}
		}
	})
}

func TestARestartWithoutPeersKnowsWhatItKnew(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		hosts[0].say(container(1, 1))
		w.settled(time.Second, hosts...)
		for _, h := range hosts {
			h.stop()
		}
		hosts[2].restart()
		if !has(hosts[2].View(), container(1, 1)) || hosts[2].Synced() {
			t.Error("the last known facts are gone, or it believes to be synced")
		}
		// The others come back at other times, the first without its join list.
		hosts[0].restart(container(1, 1))
		hosts[1].named()
		hosts[1].restart()
		w.settled(30*time.Second, hosts...)
	})
}

func TestTwoClustersRefuseEachOther(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		a, b := w.host(1, ours), w.host(2, theirs)
		a.start()
		b.start()
		w.until("a refusal on both sides", 30*time.Second, func() bool { return len(a.Refused()) > 0 && len(b.Refused()) > 0 })
		w.pass(10 * time.Minute)
		for _, h := range []*host{a, b} {
			got := h.Refused()
			if len(got) != 1 || got[0].Count < 2 {
				t.Fatalf("refused: %+v", got)
			}
			for _, want := range []string{ours.String(), theirs.String(), got[0].Addr.String(), "WEFT_JOIN", "weft cleanup"} {
				if !strings.Contains(got[0].Text, want) {
					t.Errorf("%q does not say %q", got[0].Text, want)
				}
			}
			if n := strings.Count(h.log.String(), "founded apart"); n == 0 || n > 12 {
				t.Errorf("logged %d times in ten minutes", n)
			}
			if len(h.Members()) != 0 || len(h.View().Hosts) != 1 {
				t.Errorf("%s: members %v, hosts %v", h.cfg.Name, h.Members(), h.View().Hosts)
			}
		}
	})
}

func TestClustersDoNotMergeThroughANewcomer(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		a, b, c := w.host(1, ours), w.host(2, theirs), w.host(3, netmap.ClusterID{})
		b.named()
		c.named(addrOf(1), addrOf(2))
		for _, h := range []*host{a, b, c} {
			h.start()
		}
		w.until("both members at the newcomer", time.Minute, func() bool { return aliveAt(c, id(1)) && aliveAt(c, id(2)) })
		w.pass(2 * time.Minute)
		if c.Synced() || len(c.View().Hosts) != 1 {
			t.Errorf("a newcomer took facts in: %+v", c.View().Hosts)
		}
		c.SetCluster(ours)
		c.cfg.Cluster = ours
		w.settled(15*time.Second, a, c)
		w.pass(time.Minute)
		if aliveAt(a, id(2)) || aliveAt(b, id(1)) || len(b.View().Hosts) != 1 {
			t.Error("the clusters merged")
		}
	})
}

func TestANewcomerIsAdmitted(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		member, newcomer := w.host(1, ours), w.host(2, netmap.ClusterID{})
		member.start()
		newcomer.start()
		w.until("the member", 10*time.Second, func() bool { return aliveAt(newcomer, id(1)) && aliveAt(member, id(2)) })
		if m := newcomer.Members()[0]; m.Cluster != ours || m.Name != "host-1" || m.Addr != member.cfg.Advertise {
			t.Errorf("the newcomer sees %+v", m)
		}
		w.pass(time.Minute)
		if len(member.View().Hosts) != 1 {
			t.Error("facts of a newcomer are told before it is admitted")
		}
		newcomer.cfg.Cluster = ours
		newcomer.SetCluster(ours)
		newcomer.SetKeeper(true)
		t.Logf("admitted, it is in every view after %s", w.settled(10*time.Second, member, newcomer))
		w.until("the new keeper", 10*time.Second, func() bool { return member.Members()[0].Keeper })
	})
}

// TestAKeeperThatForgotItsClusterHoldsWhatItIsTold: it was admitted, and killed before it
// wrote that down. What the ledger tells it before it has found its cluster again is not
// told again, and what it then says of the ledger must not be less than all.
func TestAKeeperThatForgotItsClusterHoldsWhatItIsTold(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		member, newcomer := w.host(1, ours), w.host(2, netmap.ClusterID{})
		member.start()
		newcomer.start()
		decided := func(index uint64, h ...*host) {
			n := netmap.Network{ID: netmap.NetworkID(index), VNI: netmap.FirstVNI}
			d := gossip.Decisions{Cluster: ours, Generation: 1, Index: index, Changes: []netmap.Change{{Key: netmap.NetworkKey(n.ID), Value: n}}}
			for _, h := range h {
				if err := h.PublishDecisions(d); err != nil {
					t.Error(err)
				}
			}
		}
		for index := range uint64(4) {
			decided(3+index, member, newcomer)
		}
		w.until("the member", 10*time.Second, func() bool { return aliveAt(newcomer, id(1)) && aliveAt(member, id(2)) })
		if v := newcomer.View(); len(v.Networks) > 0 || v.Decided > 0 {
			t.Errorf("a newcomer believes what was decided: %+v", v)
		}
		if err := member.PublishDecisions(gossip.Decisions{Cluster: theirs, Generation: 1, Index: 9}); err == nil || !strings.Contains(err.Error(), "is of cluster") {
			t.Errorf("a decision of another cluster: %v", err)
		}
		newcomer.cfg.Cluster = ours
		newcomer.SetCluster(ours)
		decided(7, member, newcomer)
		w.settled(10*time.Second, member, newcomer)
		for _, h := range w.hosts {
			if v := h.View(); len(v.Networks) != 5 || v.Decided != 7 {
				t.Errorf("%s knows %d of 5 networks, and decision %d of 7", h.cfg.Name, len(v.Networks), v.Decided)
			}
		}
	})
}

func TestARemovedHostIsForgotten(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		hosts[2].say(container(3, 1))
		w.settled(time.Second, hosts...)
		hosts[2].stop()
		entry := netmap.HostEntry{ID: id(3), Name: "host-3", Index: 3, Removed: true}
		d := gossip.Decisions{Cluster: ours, Generation: 1, Index: 4, Lead: true, Changes: []netmap.Change{{Key: netmap.HostEntryKey(id(3)), Value: entry}}}
		if err := hosts[0].PublishDecisions(d); err != nil {
			t.Fatal(err)
		}
		w.until("the removal", time.Second, func() bool { return !has(hosts[1].View(), container(3, 1)) })
		w.until("its address to be forgotten", 5*time.Minute, func() bool {
			return len(hosts[0].Members()) == 1 && len(hosts[1].Members()) == 1
		})
	})
}

func TestLeaveIsKnownAtOnceAndCloseIsNot(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		hosts[1].stop()
		w.pass(500 * time.Millisecond)
		if !aliveAt(hosts[0], id(2)) {
			t.Error("a host that only closed is dead at once")
		}
		if err := hosts[2].Leave(); err != nil {
			t.Fatal(err)
		}
		w.until("the farewell", 2*time.Second, func() bool { return !aliveAt(hosts[0], id(3)) })
		hosts[2].stop()
		if err := errors.Join(hosts[2].Leave(), hosts[2].Close()); err != nil {
			t.Errorf("after Close: %v", err)
		}
	})
}
