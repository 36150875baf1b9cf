package ledger_test

import (
	"os"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
)

// TestAnOldDiskDoesNotVoteHoweverOftenItStarts: a start number beyond the newest known
// does not make a keeper again of a copy that forgot what it acknowledged, also where
// the one who counts the votes was started anew and knows from its disk alone.
func TestAnOldDiskDoesNotVoteHoweverOftenItStarts(t *testing.T) {
	for name, outage := range map[string]bool{"host 3 runs on": false, "after an outage of all hosts": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3, lan, func(s *sim) { anOldDisk(s, outage) })
		})
	}
}

func anOldDisk(s *sim, outage bool) {
	s.found()
	s.grow(3)
	h, kept := s.hosts[2], s.t.TempDir()
	first := state.Incarnation{Start: h.starts, Nonce: h.nonce}
	h.stop()
	copyDisk(s.t, kept, s.dirOf(2))
	h.start()
	h.do(state.Command{Kind: state.KindRenew}) // and shows its second start, which is the newest decision but one
	s.agree()
	h.crash()
	s.hosts[1].crash()
	if outage {
		s.hosts[3].crash()
	}
	if err := os.RemoveAll(s.dirOf(2)); err != nil {
		s.t.Fatal(err)
	}
	copyDisk(s.t, s.dirOf(2), kept)
	h.earlier = append(h.earlier, first)
	for h.starts, h.copies = first.Start, 1; h.starts < 9; {
		h.reboot()
		h.earlier = append(h.earlier, state.Incarnation{Start: h.starts, Nonce: h.nonce})
		h.crash()
	}
	if outage {
		s.hosts[3].reboot()
	}
	h.reboot()
	// It is asked for its vote by host 3, and asks it for one.
	s.never("somebody leads by the vote of an old disk", 20*time.Second, func() bool { return s.leader() != nil })
	s.hosts[1].reboot()
	s.eventually("the two others decide without it", 20*time.Second, func() bool { return s.leader() != nil && s.leader() != h })
	s.hosts[3].do(ensure())
}

// TestTheOlderOfTwoLosesItsStreams: of a host and its copy the newer start counts from its
// admission on, not from the next stream on.
func TestTheOlderOfTwoLosesItsStreams(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		older, lead := s.follower()
		third := s.hosts[6-older.n-lead.n]
		newer := state.Command{Kind: state.KindAdmit, Host: hostID(older.n), Start: older.starts + 1, Nonce: 99, Cluster: clusterID, Admit: &state.Admit{Name: "copy", Addr: older.at}}
		body, err := state.EncodeCommand(newer)
		if err == nil {
			_, err = older.port.Call(s.t.Context(), lead.at, "ledger.do", body) // the copy has its address
		}
		if err != nil {
			s.t.Fatal(err)
		}
		third.crash()
		s.eventually("nobody leads with the older one", 5*time.Second, func() bool { return s.leader() == nil })
		s.never("somebody leads with the older one", 20*time.Second, func() bool { return s.leader() != nil })
		third.reboot()
		s.eventually("the others decide without it", 20*time.Second, func() bool { return s.leader() != nil && s.leader() != older })
	})
}

func copyDisk(t testing.TB, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
