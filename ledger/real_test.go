package ledger_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
)

// TestOnRealSockets is the whole on loopback, with real time and real disks: one
// host alone, three together, the leader's end, and a clean close.
func TestOnRealSockets(t *testing.T) {
	s := newReal(t, 4)
	defer s.close()
	start := time.Now()
	s.found()
	s.hosts[1].do(ensure())
	s.hosts[1].do(grant())
	alone := time.Since(start)
	if alone > time.Second {
		t.Errorf("one host alone needed %s to a first block", alone)
	}
	start = time.Now()
	s.grow(4)
	t.Logf("alone: first block after %s; three keepers after %s more", alone, time.Since(start))
	for n := 1; n <= 4; n++ {
		s.hosts[n].do(ensure())
		s.hosts[n].do(grant())
	}
	s.agree()
	old := s.leader()
	old.stop()
	start = time.Now()
	for n := 1; n <= 4; n++ {
		if s.hosts[n] != old {
			s.hosts[n].do(grant())
		}
	}
	t.Logf("decisions go on %s after the leader stopped", time.Since(start))
	old.start()
	old.do(grant())
	s.agree()
}

// TestAKeeperMoves: the ledger's own records say where it is, where the gossip knows nothing.
func TestAKeeperMoves(t *testing.T) {
	s := newReal(t, 3)
	defer s.close()
	s.found()
	s.grow(3)
	moved, lead := s.follower()
	lead.blind.Store(true)
	moved.stop()
	moved.start() // on another port
	moved.do(ensure())
	s.agree()
	for _, p := range lead.ledger.Status().Keepers {
		if p.ID == hostID(moved.n) && p.Addr != moved.at {
			t.Errorf("the leader names %s, the keeper is at %s", p.Addr, moved.at)
		}
	}
}

// TestFigures prints what decisions cost beside one sync of the same disk. Only
// the ratios mean anything; they fail when they are far off.
func TestFigures(t *testing.T) {
	sync := syncTime(t)
	s := newReal(t, 3)
	defer s.close()
	start := time.Now()
	s.found()
	founded := time.Since(start)
	s.hosts[1].do(ensure())
	one := median(s.hosts[1], 200)
	s.grow(3)
	leader := s.leader()
	three := median(leader, 200)
	other := s.hosts[1]
	if other == leader {
		other = s.hosts[2]
	}
	other.do(ensure())
	forwarded := median(other, 200)
	busy := rate(other, 16, 50)
	t.Logf("sync %s; found alone %s; decision with 1 keeper %s (%.1f syncs), 3 keepers %s (%.1f), asked from another host %s (%.1f); 16 askers %.0f/s, %.1f times one",
		sync, founded, one, ratio(one, sync), three, ratio(three, sync), forwarded, ratio(forwarded, sync), busy, busy*forwarded.Seconds())
	if founded > 500*time.Millisecond {
		t.Errorf("founding took %s", founded)
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// syncTime is the median of appending 64 bytes and syncing them.
func syncTime(t *testing.T) time.Duration {
	f, err := os.Create(filepath.Join(t.TempDir(), "sync"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var took []time.Duration
	for range 200 {
		start := time.Now()
		if _, err := f.Write(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func median(h *simHost, n int) time.Duration {
	var took []time.Duration
	for range n {
		start := time.Now()
		h.do(state.Command{Kind: state.KindRenew})
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[n/2]
}

// rate is decisions per second with several askers on one host.
func rate(h *simHost, askers, each int) float64 {
	start := time.Now()
	var work sync.WaitGroup
	for range askers {
		work.Go(func() {
			for range each {
				if _, err := h.ledger.Do(context.Background(), state.Command{Kind: state.KindRenew}); err != nil {
					h.sim.t.Error(err)
				}
			}
		})
	}
	work.Wait()
	return float64(askers*each) / time.Since(start).Seconds()
}
