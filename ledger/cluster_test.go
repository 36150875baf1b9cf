package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
	"github.com/weftnet/weft/underlay/lossy"
)

// lan is a healthy network.
var lan = lossy.Link{Delay: 200 * time.Microsecond, Jitter: 300 * time.Microsecond}

// bubble runs a story in virtual time.
func bubble(t *testing.T, hosts int, quality lossy.Link, story func(s *sim)) {
	t.Helper()
	seeded(t, 1, hosts, quality, story)
}

func seeded(t *testing.T, seed uint64, hosts int, quality lossy.Link, story func(s *sim)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, seed, quality, hosts)
		defer s.close()
		story(s)
	})
}

func TestStreamKindIsTheUnderlaysName(t *testing.T) {
	if ledger.StreamKind != underlay.KindLedger {
		t.Errorf("%c and %c", ledger.StreamKind, underlay.KindLedger)
	}
}

func TestOneHostAloneWorksAtOnce(t *testing.T) {
	bubble(t, 1, lan, func(s *sim) {
		start := time.Now()
		s.found()
		h := s.hosts[1]
		h.do(ensure())
		b := h.do(grant()).Block
		if d := time.Since(start); d > 500*time.Millisecond {
			s.t.Errorf("founding and a first block took %s", d)
		}
		if st := h.ledger.Status(); st.Role != "leader" || st.Cluster != clusterID || st.Leader != hostID(1) || len(st.Keepers) != 1 || st.Generation != 1 {
			s.t.Errorf("status %+v", st)
		}
		// Again, after a power loss.
		h.crash()
		start = time.Now()
		h.reboot()
		next := h.do(grant()).Block
		if d := time.Since(start); d > 500*time.Millisecond {
			s.t.Errorf("the first block after a restart took %s", d)
		}
		if next.Prefix == b.Prefix || h.blocks()[b.Prefix] != *b {
			s.t.Errorf("after a restart %s was granted, and %s is known as %+v", next.Prefix, b.Prefix, h.blocks()[b.Prefix])
		}
	})
}

func TestTwoHostsHaveOneKeeper(t *testing.T) {
	bubble(t, 2, lan, func(s *sim) {
		s.found()
		s.grow(2)
		s.hosts[2].do(ensure())
		time.Sleep(time.Minute)
		if v := s.voters(); len(v) != 1 {
			s.t.Errorf("%d keepers", len(v))
		}
		if st := s.hosts[2].ledger.Status(); st.Role != "none" || st.Cluster != clusterID || st.Leader != hostID(1) || len(st.Keepers) != 1 {
			s.t.Errorf("status on the host that keeps nothing: %+v", st)
		}
	})
}

func TestThreeHostsKeepTogether(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		for n := 1; n <= 3; n++ {
			s.hosts[n].do(ensure())
			s.hosts[n].do(grant())
		}
		s.agree()
		for n := 1; n <= 3; n++ {
			if len(s.hosts[n].blocks()) != 3 || !s.hosts[n].keeps() {
				s.t.Errorf("host-%d knows %d blocks, keeper %v", n, len(s.hosts[n].blocks()), s.hosts[n].keeps())
			}
		}
	})
}

func TestTheLeaderIsCutOff(t *testing.T) {
	bubble(t, 5, lan, func(s *sim) {
		s.found()
		s.grow(5)
		for n := 1; n <= 5; n++ {
			s.hosts[n].do(ensure())
		}
		old := s.leader()
		s.net.Split(old.addr)
		start := time.Now()
		for n := 1; n <= 5; n++ {
			if s.hosts[n] != old {
				s.hosts[n].do(grant()) // within five seconds, leader or not
			}
		}
		s.t.Logf("four hosts got a block within %s of the loss of the leader", time.Since(start))
		ctx, cancel := context.WithTimeout(s.t.Context(), 4*time.Second)
		defer cancel()
		start = time.Now()
		_, err := old.ledger.Do(ctx, grant())
		var refusal *netmap.Refusal
		if !errors.As(err, &refusal) || refusal.Kind != netmap.NoQuorum {
			s.t.Fatalf("the host that was cut off got %v", err)
		}
		if d := time.Since(start); d > 4*time.Second+10*time.Millisecond {
			s.t.Errorf("it took %s to say so", d)
		}
		for _, id := range s.voters() {
			name := fmt.Sprintf("host-%d", id[0])
			if id != hostID(old.n) && !strings.Contains(refusal.Text, name+" (") {
				s.t.Errorf("%q does not name %s", refusal.Text, name)
			}
			if id == hostID(old.n) && (strings.Contains(refusal.Text, name) || !strings.Contains(refusal.Text, "this host is one")) {
				s.t.Errorf("%q lists the asking host among those that are missing", refusal.Text)
			}
		}
		s.net.HealAll()
		s.eventually("the former leader follows", 10*time.Second, func() bool { return old.ledger.Status().Role == "follower" })
		old.do(grant())
		s.agree()
		if got := len(s.leader().blocks()); got != 5 {
			s.t.Errorf("%d blocks for five grants: a refused one was decided after all, or one was lost", got)
		}
	})
}

func TestRestartFromDiskWithNoPeerReachable(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		s.hosts[2].do(ensure())
		for n := 1; n <= 3; n++ {
			s.hosts[n].crash()
		}
		h := s.hosts[2]
		h.reboot()
		for range 3 {
			ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Second)
			start := time.Now()
			_, err := h.ledger.Do(ctx, grant())
			cancel()
			if !errors.Is(err, &netmap.Refusal{Kind: netmap.NoQuorum}) || time.Since(start) > 3*time.Second+10*time.Millisecond {
				s.t.Fatalf("alone of three: %v after %s", err, time.Since(start))
			}
			if !strings.Contains(err.Error(), "2 of the 3") || !strings.Contains(err.Error(), "host-1") || !strings.Contains(err.Error(), "host-3") {
				s.t.Errorf("%q does not name who is missing", err)
			}
		}
		s.hosts[1].reboot()
		s.eventually("two of three decide", 10*time.Second, func() bool { return s.leader() != nil })
		h.do(grant())
		s.hosts[3].reboot()
		s.hosts[3].do(ensure())
		s.agree()
	})
}

// TestRetriesHaveNoSecondEffect runs many grants over a bad network with a leader
// that keeps changing: each command that succeeded got its own block, and the
// ledger has no block that nobody was told of but those of commands that failed.
func TestRetriesHaveNoSecondEffect(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { retries(t, seed) })
	}
}

func retries(t *testing.T, seed uint64) {
	seeded(t, seed, 5, lossy.Link{Loss: 0.05, Delay: time.Millisecond, Jitter: 5 * time.Millisecond}, func(s *sim) {
		s.found()
		s.grow(5)
		for n := 1; n <= 5; n++ {
			s.hosts[n].do(ensure())
		}
		got := &answered{told: map[netip.Prefix]int{}}
		var work sync.WaitGroup
		for n := 1; n <= 5; n++ {
			for range 3 {
				work.Go(func() { s.askFor(40, s.hosts[n], got) })
			}
		}
		s.cutLeaders(6)
		work.Wait()
		s.net.HealAll()
		s.agree()
		got.areTheBlocks(s)
		if len(got.told) < 300 {
			s.t.Errorf("only %d grants were answered", len(got.told))
		}
		if met := s.net.Stats(); met.Cut == 0 && met.Dials == 0 {
			s.t.Error("the network was never cut")
		}
	})
}

// answered counts how requests for blocks were answered.
type answered struct {
	mu     sync.Mutex
	told   map[netip.Prefix]int // blocks, by how often each was the answer
	failed int
}

// askFor has a host ask for so many blocks, one after the other.
func (s *sim) askFor(blocks int, h *simHost, got *answered) {
	for range blocks {
		ctx, cancel := context.WithTimeout(s.t.Context(), 8*time.Second)
		r, err := h.ledger.Do(ctx, grant())
		cancel()
		got.mu.Lock()
		if err != nil {
			got.failed++
		} else {
			got.told[r.Block.Prefix]++
		}
		got.mu.Unlock()
		time.Sleep(300 * time.Millisecond)
	}
}

// cutLeaders cuts whoever leads off so many times, in three ways.
func (s *sim) cutLeaders(times int) {
	for i := range times {
		time.Sleep(1500 * time.Millisecond)
		l := s.leader()
		if l == nil {
			continue
		}
		for n := 1; n <= 5; n++ {
			switch i % 3 {
			case 0:
				s.net.Cut(l.addr, s.hosts[n].addr)
			case 1: // it hears the others and is not heard
				s.net.CutOneWay(l.addr, s.hosts[n].addr)
			case 2: // it is heard and hears nobody: answers to it are lost
				s.net.CutOneWay(s.hosts[n].addr, l.addr)
			}
		}
		time.Sleep(2500 * time.Millisecond)
		s.net.HealAll()
	}
}

// areTheBlocks checks that each block of the ledger was the answer once, but for requests
// that failed.
func (got *answered) areTheBlocks(s *sim) {
	blocks := s.leader().blocks()
	for p, times := range got.told {
		if _, ok := blocks[p]; !ok || times != 1 {
			s.t.Errorf("%s was answered %d times; in the ledger: %v", p, times, ok)
		}
	}
	if extra := len(blocks) - len(got.told); extra < 0 || extra > got.failed {
		s.t.Errorf("%d blocks for %d answers and %d failures", len(blocks), len(got.told), got.failed)
	}
	s.t.Logf("%d grants answered, %d failed, %d blocks in the ledger", len(got.told), got.failed, len(blocks))
}

func TestFoundersOfTwoClustersRefuseEachOther(t *testing.T) {
	bubble(t, 2, lan, func(s *sim) {
		s.found()
		s.hosts[2].start()
		other := netmap.ClusterID{0xee}
		if _, err := s.hosts[2].ledger.Found(s.t.Context(), other, nil); err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.hosts[2].ledger.Found(s.t.Context(), clusterID, nil); !errors.Is(err, &netmap.Refusal{Kind: netmap.Foreign}) || !strings.Contains(err.Error(), other.String()) {
			s.t.Errorf("founding twice: %v", err)
		}
		time.Sleep(time.Minute) // neither invites the other
		for n := 1; n <= 2; n++ {
			if st := s.hosts[n].ledger.Status(); len(st.Keepers) != 1 || st.Role != "leader" {
				s.t.Errorf("host-%d: %+v", n, st)
			}
		}
	})
}

func TestNobodyToAsk(t *testing.T) {
	bubble(t, 1, lan, func(s *sim) {
		s.hosts[1].start()
		start := time.Now()
		_, err := s.hosts[1].ledger.Do(s.t.Context(), ensure())
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.NoQuorum}) || !strings.Contains(err.Error(), "WEFT_JOIN") || time.Since(start) > 5*time.Second {
			s.t.Errorf("%v after %s", err, time.Since(start))
		}
		if _, ok := s.hosts[1].ledger.Whole(); ok {
			s.t.Error("a host that keeps nothing knows everything")
		}
	})
}

func TestSnapshotsBringAKeeperUpToDate(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		h := s.hosts[1]
		h.do(ensure())
		for range 6000 { // more than a snapshot keeps of the log behind it
			h.do(state.Command{Kind: state.KindRenew})
		}
		h.do(grant())
		time.Sleep(5 * time.Minute) // raft looks every two to four minutes
		s.grow(3)
		s.agree()
		if b := s.hosts[3].blocks(); len(b) != 1 {
			s.t.Errorf("the new keeper knows %v", b)
		}
		h.crash()
		h.reboot()
		s.eventually("the blocks are known after a restart from a snapshot", 10*time.Second, func() bool { return len(h.blocks()) == 1 })
	})
}

func TestALogOfAnotherHostOrClusterIsRefused(t *testing.T) {
	bubble(t, 1, lan, func(s *sim) {
		s.found()
		h := s.hosts[1]
		h.ledger.Close()
		mine := ledger.Config{Self: hostID(1), Start: 2, Nonce: 2, Addr: h.at, Cluster: clusterID, Dir: s.dir + "/1", Underlay: h.port}
		for name, change := range map[string]func(*ledger.Config){
			"another host":    func(c *ledger.Config) { c.Self = hostID(9) },
			"another cluster": func(c *ledger.Config) { c.Cluster = netmap.ClusterID{9} },
		} {
			cfg := mine
			change(&cfg)
			if _, err := ledger.Open(cfg); !errors.Is(err, &netmap.Refusal{Kind: netmap.Foreign}) {
				s.t.Errorf("%s: %v", name, err)
			}
		}
		l, err := ledger.Open(mine)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			s.t.Error(err)
		}
	})
}
