package ledger_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
)

// TestAKeeperWhoseLogEndsInThePast: it was cut off while it was brought up to date, at a
// place where somebody kept the ledger who is gone. Who asked it to keep goes on.
func TestAKeeperWhoseLogEndsInThePast(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.hosts[1].stop()
		if err := os.CopyFS(s.dirOf(4), os.DirFS(s.dirOf(1))); err != nil {
			t.Fatal(err)
		}
		if err := ledger.GiveLog(s.dirOf(4), hostID(4)); err != nil {
			t.Fatal(err)
		}
		s.hosts[1].start()
		s.grow(3)
		s.hosts[1].stop()
		s.hosts[2].do(state.Command{Kind: state.KindRemove, Remove: &state.Remove{Target: hostID(1), IsOff: true}})
		s.hosts[4].starts = 1 // it knows its cluster
		for n := 2; n <= 3; n++ {
			h := s.hosts[n]
			s.hosts[4].trusted = append(s.hosts[4].trusted, ledger.Peer{ID: hostID(n), Addr: h.at, Voter: true})
		}
		s.hosts[4].start()
		if _, err := s.hosts[4].ledger.Admit(s.t.Context()); err != nil {
			t.Fatal(err)
		}
		s.eventually("host-4 votes", time.Minute, func() bool { return slices.Contains(s.voters(), hostID(4)) })
	})
}

// TestAKeeperThatIsBehindElectsNobody: it lost its log, was asked to keep the ledger again,
// and has come to where it was the only keeper. Alone it would lead a second ledger.
func TestAKeeperThatIsBehindElectsNobody(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		early := s.dirOf(9)
		s.hosts[1].stop()
		if err := os.CopyFS(early, os.DirFS(s.dirOf(1))); err != nil {
			t.Fatal(err)
		}
		s.hosts[1].start()
		s.grow(3)
		s.hosts[1].stop()
		s.eventually("another leads", 20*time.Second, func() bool { l := s.leader(); return l != nil && l != s.hosts[1] })
		if err := errors.Join(os.RemoveAll(s.dirOf(1)), os.CopyFS(s.dirOf(1), os.DirFS(early))); err != nil {
			t.Fatal(err)
		}
		if err := ledger.Invite(s.dirOf(1), ledger.Peer{ID: hostID(2), Addr: s.hosts[2].at, Voter: true}, 1); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{2, 3} {
			s.hosts[1].trusted = append(s.hosts[1].trusted, ledger.Peer{ID: hostID(n), Addr: s.hosts[n].at, Voter: true})
		}
		for _, n := range []int{2, 3} { // nobody brings it up to date at first
			s.net.Cut(s.hosts[1].addr, s.hosts[n].addr)
		}
		s.hosts[1].start()
		s.never("it leads", 20*time.Second, func() bool { return s.hosts[1].ledger.Status().Role == "leader" })
		for _, n := range []int{2, 3} {
			s.net.Heal(s.hosts[1].addr, s.hosts[n].addr)
		}
		s.eventually("it keeps with the others", time.Minute, func() bool {
			return s.hosts[1].ledger.Status().Applied == s.leader().ledger.Status().Applied && len(s.voters()) == 3
		})
		s.works()
	})
}
