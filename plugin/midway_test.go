package plugin_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
)

// midway is a connection to the ledger that delays one command of a kind, or the answer to it.
type midway struct {
	plugin.Ledger
	kind    state.Kind
	decided bool
	used    *atomic.Bool // from when on none is held up any more
	hit, on chan struct{}
}

func (m midway) Do(ctx context.Context, cmd state.Command) (state.Reply, error) {
	if cmd.Kind != m.kind || !m.used.CompareAndSwap(false, true) {
		return m.Ledger.Do(ctx, cmd)
	}
	if !m.decided {
		close(m.hit)
		<-m.on
		return m.Ledger.Do(ctx, cmd)
	}
	defer func() { close(m.hit); <-m.on }()
	return m.Ledger.Do(ctx, cmd)
}

// heldUp gives a host that is not started yet such a connection.
func (h *host) heldUp(kind state.Kind, decided bool) midway {
	m := midway{kind: kind, decided: decided, used: &atomic.Bool{}, hit: make(chan struct{}), on: make(chan struct{})}
	h.deps.Ledger = func(cfg ledger.Config) (plugin.Ledger, error) {
		l, err := ledger.Open(cfg)
		if err != nil {
			return nil, err
		}
		m := m
		m.Ledger = l
		return m, nil
	}
	return m
}

// TestARemovalInTheMiddle: one of two hosts is removed during a cession or a claim between them. The
// address is never held twice, and in the end it can be handed out again.
func TestARemovalInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		what    string
		kind    state.Kind
		decided bool
		removed int
	}{
		{"owner, before it ceded", state.KindCede, false, 1},
		{"owner, after it ceded", state.KindCede, true, 1},
		{"heir, before it was ceded", state.KindCede, false, 2},
		{"heir, after it was ceded", state.KindCede, true, 2},
		{"claimer, before it claimed", state.KindClaim, false, 2},
		{"claimer, after it claimed", state.KindClaim, true, 2},
	} {
		t.Run(c.what, func(t *testing.T) {
			bubble(t, func(t *testing.T, cl *cluster) {
				removalInTheMiddle(t, cl, c.kind, c.decided, c.removed)
			})
		})
	}
}

func removalInTheMiddle(t *testing.T, c *cluster, kind state.Kind, decided bool, removed int) {
	t.Helper()
	asks := map[state.Kind]int{state.KindCede: 1, state.KindClaim: 2}[kind] // whose command it is
	var m midway
	hosts := up(c, 4, unreplicated, func(h *host) {
		if len(c.hosts) == asks+1 {
			m = h.heldUp(kind, decided)
		}
	})
	ids := make([]string, len(hosts))
	for i, h := range hosts {
		ids[i] = h.network("web", "10.40.0.0/24")
	}
	third, owner, heir := hosts[0], hosts[1], hosts[2]
	want := at(owner.run("first", ids[1], "")).Next()
	if kind == state.KindClaim {
		want = netip.MustParseAddr("10.40.0.200") // in nobody's block
	}
	heir.run("other", ids[2], "")
	ended := make(chan error, 1)
	go func() {
		_, err := heir.docker.Run(t.Context(), "wanted", ids[2], want)
		ended <- err
	}()
	<-m.hit
	gone := hosts[removed]
	gone.removedInPassing(third)
	close(m.on)
	err := <-ended
	t.Logf("the container on %s: %v", heir.set.Name, err)
	gone.reborn()
	nobodyTwice(t, hosts)
	if got, ok := heir.docker.Find("wanted"); ok && got.Running && heir.placed(want) == heir.Report().Self {
		begin := time.Now()
		_, err := third.docker.Run(t.Context(), "thief", ids[0], want)
		fails(t, begin, err, want.String(), "held by", "wanted")
	}
	if err := heir.docker.Remove(t.Context(), "wanted"); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*host{third, owner, heir} {
		var got plugintest.Container
		h.until(fmt.Sprintf("%s has %s", h.set.Name, want), 3*time.Minute, func() bool {
			var err error
			got, err = h.docker.Run(t.Context(), "at-last", ids[slices.Index(hosts, h)], want)
			if err != nil {
				_ = h.docker.Remove(t.Context(), "at-last")
			}
			return err == nil
		})
		nobodyTwice(t, hosts)
		if err := h.docker.Remove(t.Context(), got.Name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheLeaderIsRemoved: the leader is cut off and removed while it runs, and then the next leader. The ledger still
// decides, each host comes back as a new one with the addresses that it holds, and there are as many
// keepers again.
func TestTheLeaderIsRemoved(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 6, unreplicated)
		c.keepers(5)
		ids := map[*host]string{}
		for i, h := range hosts {
			ids[h] = h.network("web", "10.40.0.0/24")
			h.run(fmt.Sprintf("before-%d", i), ids[h], "")
		}
		for round := range 3 {
			lead := leaders(c)[0]
			former := lead.Report().Self
			by := hosts[(slices.Index(hosts, lead)+1)%len(hosts)]
			begin := time.Now()
			lead.removedInPassing(by)
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("the answer took %v", took)
			}
			lead.reborn()
			t.Logf("a new host after %v", time.Since(begin))
			begin = time.Now()
			by.network(fmt.Sprint("new-", round), fmt.Sprintf("10.5%d.0.0/24", round))
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("the next decision took %v", took)
			}
			nobodyTwice(t, hosts)
			by.until("five keepers again, of which it is none", 2*time.Minute, func() bool {
				keepers := by.Report().Ledger.Keepers
				return len(leaders(c)) == 1 && len(keepers) == 5 && !slices.Contains(keepers, former)
			})
			t.Logf("keepers after %v", time.Since(begin))
			lead.run(fmt.Sprintf("after-%d", round), ids[lead], "")
		}
		nobodyTwice(t, hosts)
	})
}
