package gossip_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

func TestDecisionsReachEveryHost(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		w.host(1, ours).cfg.Keeper = true
		w.host(2, ours).cfg.Keeper = true
		w.host(3, ours)
		w.host(4, ours)
		for _, h := range w.hosts {
			h.start()
		}
		w.settled(30*time.Second, w.hosts...)
		for _, index := range []uint64{3, 4, 9} { // raft's own entries take the others
			w.decides(w.hosts[0], index, true, false)
			w.decides(w.hosts[1], index, false, false)
		}
		t.Logf("a decision is known at a host that is no keeper after %s", w.waits(w.hosts[3], 9))
		if v := w.hosts[3].View(); v.Decided != 9 || len(v.Networks) != 3 {
			t.Errorf("decided %d, networks %v", v.Decided, v.Networks)
		}

		w.decides(w.hosts[1], 12, false, false) // nobody leads: it is not sent
		if took := w.waits(w.hosts[3], 12); took > 100*time.Millisecond {
			t.Errorf("asking a keeper took %s", took)
		}

		for _, index := range []uint64{3, 4, 9, 12, 13} { // a keeper that begins anew repeats itself
			w.decides(w.hosts[1], index, false, false)
			if v := w.hosts[1].View(); v.Decided != max(12, index) {
				t.Errorf("decided %d once %d was repeated", v.Decided, index)
			}
		}

		w.decides(w.hosts[1], 20, false, true) // a restored snapshot drops what it lacks
		w.decides(w.hosts[0], 20, true, true)
		w.settled(20*time.Second, w.hosts...)
		if v := w.hosts[2].View(); v.Decided != 20 || len(v.Networks) != 1 {
			t.Errorf("after a snapshot: decided %d, networks %v", v.Decided, v.Networks)
		}
		short, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		if err := w.hosts[2].WaitDecided(short, 99); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for what was never decided: %v", err)
		}
	})
}

// decides makes a host's ledger apply an entry that creates a network.
func (w *town) decides(h *host, index uint64, lead, whole bool) {
	w.t.Helper()
	n := netmap.Network{ID: netmap.NetworkID(index), VNI: netmap.FirstVNI}
	d := gossip.Decisions{Cluster: ours, Generation: 1, Index: index, Lead: lead, Whole: whole, Changes: []netmap.Change{{Key: netmap.NetworkKey(n.ID), Value: n}}}
	if err := h.PublishDecisions(d); err != nil {
		w.t.Fatal(err)
	}
}

// waits is how long a host waits until it knows a decision.
func (w *town) waits(h *host, index uint64) time.Duration {
	w.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	if err := h.WaitDecided(ctx, index); err != nil {
		w.t.Fatal(err)
	}
	return time.Since(began)
}

// TestAnIndexThatDecidesNothingWakesNobody but who waits for it: the ledger's log grows with
// each renewal of a lease.
func TestAnIndexThatDecidesNothingWakesNobody(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(2)
		w.decides(hosts[0], 3, true, false)
		w.waits(hosts[1], 3)
		facts, _, cancel := hosts[1].Subscribe()
		defer cancel()
		<-facts
		for index := uint64(4); index < 8; index++ {
			if err := hosts[0].PublishDecisions(gossip.Decisions{Cluster: ours, Generation: 1, Index: index, Lead: true}); err != nil {
				t.Fatal(err)
			}
			if took := w.waits(hosts[1], index); took > 100*time.Millisecond || hosts[1].View().Decided != index {
				t.Errorf("index %d is known after %s", index, took)
			}
		}
		select {
		case <-facts:
			t.Error("facts that have not changed woke a follower")
		default:
		}
		w.decides(hosts[0], 8, true, false)
		w.waits(hosts[1], 8)
		<-facts
	})
}

func TestALargeDecisionIsPulled(t *testing.T) {
	bubble(t, lan, func(t *testing.T, w *town) {
		hosts := w.start(3)
		d := gossip.Decisions{Cluster: ours, Generation: 1, Index: 7, Lead: true}
		for n := range 20_000 {
			b := netmap.Network{ID: netmap.NetworkID(n + 1), Name: strings.Repeat("x", 40)}
			d.Changes = append(d.Changes, netmap.Change{Key: netmap.NetworkKey(b.ID), Value: b})
		}
		if err := hosts[0].PublishDecisions(d); err != nil {
			t.Fatal(err)
		}
		took := w.until("20,000 networks", 5*time.Second, func() bool {
			return len(hosts[1].View().Networks) == 20_000 && len(hosts[2].View().Networks) == 20_000
		})
		t.Logf("20,000 records of one decision are pulled after %s", took)
	})
}
