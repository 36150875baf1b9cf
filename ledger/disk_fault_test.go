package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/store/storetest"
)

// onSmallDisk gives a host, before it starts, a disk of its own that can be filled.
func (s *sim) onSmallDisk(n int) *storetest.Disk { return storetest.Mount(s.t, s.dirOf(n), "24m") }

func (s *sim) problem(h *simHost) string { return h.ledger.Status().Problem }

// decideUntil has decisions made on a host until something is so.
func (s *sim) decideUntil(what string, by *simHost, ok func() bool) {
	s.t.Helper()
	for range 20000 {
		if ok() {
			return
		}
		by.do(state.Command{Kind: state.KindRenew})
	}
	s.t.Fatalf("not after so many decisions: %s", what)
}

// follower is a voter that does not lead, and other another host.
func (s *sim) follower() (victim, other *simHost) {
	lead := s.leader()
	for _, id := range s.voters() {
		if id != hostID(lead.n) {
			return s.hosts[int(id[0])], lead
		}
	}
	s.t.Fatal("nobody follows")
	return nil, nil
}

func (s *sim) votes(h *simHost) bool { return slices.Contains(s.voters(), hostID(h.n)) }

// TestIntegrationAFullKeeperIsReplaced: it says so, another host votes in its place,
// and it recovers by itself. Root only, as the ones below.
func TestIntegrationAFullKeeperIsReplaced(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		disks := map[int]*storetest.Disk{}
		for n := 1; n <= 3; n++ {
			disks[n] = s.onSmallDisk(n)
		}
		s.found()
		s.grow(4)
		victim, other := s.follower()
		disks[victim.n].Fill()
		s.decideUntil("the full keeper stops", other, func() bool { return s.problem(victim) != "" })
		if p := s.problem(victim); !strings.Contains(p, "is full: make room there") || !strings.Contains(p, s.dirOf(victim.n)) {
			s.t.Errorf("it says %q", p)
		}
		if !strings.Contains(victim.log.String(), "make room there") {
			s.t.Error("its log does not say what to do")
		}
		if victim.keeps() {
			s.t.Error("the others are told that it keeps the ledger")
		}
		took := s.eventually("another host votes in its place", 30*time.Second, func() bool { return len(s.voters()) == 3 && !s.votes(victim) })
		s.t.Logf("replaced after %s", took)
		victim.do(state.Command{Kind: state.KindRenew})
		disks[victim.n].Empty()
		s.eventually("it has nothing to complain of", time.Minute, func() bool { return s.problem(victim) == "" && !victim.keeps() })
		s.agree()
	})
}

// TestIntegrationAFullLeaderHandsOver: with nobody to replace it, it comes back.
func TestIntegrationAFullLeaderHandsOver(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		disk := s.onSmallDisk(1)
		s.found()
		s.grow(3)
		victim := s.hosts[1]
		if s.leader() != victim {
			s.t.Fatal("the founder does not lead")
		}
		disk.Fill()
		s.decideUntil("the full leader stops", s.hosts[2], func() bool { return s.problem(victim) != "" })
		took := s.eventually("another one leads", 10*time.Second, func() bool { l := s.leader(); return l != nil && l != victim })
		s.t.Logf("another one leads after %s", took)
		victim.do(state.Command{Kind: state.KindRenew})
		disk.Empty()
		s.eventually("it votes again", 2*time.Minute, func() bool { return s.votes(victim) && s.problem(victim) == "" })
		victim.do(state.Command{Kind: state.KindRenew})
		s.agree()
	})
}

// TestIntegrationTheOnlyKeeperIsFull: no decision, until there is room; nothing that
// was decided is lost; and its agent starts on the full disk.
func TestIntegrationTheOnlyKeeperIsFull(t *testing.T) {
	bubble(t, 1, lan, func(s *sim) {
		disk := s.onSmallDisk(1)
		s.found()
		h := s.hosts[1]
		h.do(ensure())
		h.do(grant())
		disk.Fill()
		for range 20000 {
			if s.problem(h) != "" {
				break
			}
			ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
			_, _ = h.ledger.Do(ctx, state.Command{Kind: state.KindRenew})
			cancel()
		}
		for range 2 {
			if p := s.problem(h); !strings.Contains(p, "make room there") {
				s.t.Fatalf("it says %q", p)
			}
			start := time.Now()
			if _, err := h.ledger.Do(s.t.Context(), grant()); err == nil || time.Since(start) > 5*time.Second {
				s.t.Errorf("a decision on a full disk: %v after %s", err, time.Since(start))
			}
			h.stop()
			h.start()
			s.eventually("it notices that its disk is full", time.Minute, func() bool {
				ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
				defer cancel()
				_, _ = h.ledger.Do(ctx, state.Command{Kind: state.KindRenew})
				return s.problem(h) != ""
			})
		}
		disk.Empty()
		s.eventually("it keeps again", time.Minute, func() bool { return s.problem(h) == "" })
		h.do(grant())
		if got := len(h.blocks()); got < 1 {
			s.t.Errorf("%d blocks", got)
		}
	})
}

// damage overwrites a keeper's log but for its first pages.
func (s *sim) damage(n int) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dirOf(n), "raft.db"), os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		const keep = 2 * 4096
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size())-keep), keep)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// TestADamagedLogIsReplaced, whether the agent runs at the time or not, and whether
// this keeper leads or not.
func TestADamagedLogIsReplaced(t *testing.T) {
	for _, c := range []struct {
		story           string
		leads, restarts bool
	}{
		{"a follower that runs", false, false},
		{"a leader that runs", true, false},
		{"a keeper that starts", false, true},
	} {
		t.Run(c.story, func(t *testing.T) {
			bubble(t, 3, lan, func(s *sim) {
				s.found()
				s.grow(3)
				for n := 1; n <= 3; n++ {
					s.hosts[n].do(ensure())
				}
				victim, other := s.follower()
				if c.leads {
					victim, other = other, victim
				}
				if c.restarts {
					victim.stop()
					s.damage(victim.n)
					victim.start()
				} else {
					s.damage(victim.n)
				}
				s.decideUntil("it stops", other, func() bool {
					return strings.Contains(victim.log.String(), "cannot be read or written: look at the disk")
				})
				other.do(grant())
				s.eventually("it votes again, with a new log", 2*time.Minute, func() bool { return s.votes(victim) && len(s.voters()) == 3 && s.problem(victim) == "" })
				victim.do(grant())
				s.agree()
				if _, err := os.Stat(filepath.Join(s.dirOf(victim.n), "damaged", "raft.db")); err != nil {
					s.t.Errorf("the damaged log was not put away: %v", err)
				}
			})
		})
	}
}
