package ledger_test

import (
	"os"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger"
)

// TestAnOldDiskDoesNotVoteHoweverOftenItStarts: a start number beyond the newest known
// does not make a keeper again of a copy that forgot what it acknowledged.
func TestAnOldDiskDoesNotVoteHoweverOftenItStarts(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		h, kept := s.hosts[2], t.TempDir()
		first := ledger.Birth{Start: h.starts, Nonce: h.nonce}
		h.stop()
		if err := os.CopyFS(kept, os.DirFS(s.dirOf(2))); err != nil {
			t.Fatal(err)
		}
		h.start()
		h.do(ensure()) // and shows its second start
		h.do(grant())
		s.agree()
		h.crash()
		s.hosts[1].crash()
		if err := os.RemoveAll(s.dirOf(2)); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(s.dirOf(2), os.DirFS(kept)); err != nil {
			t.Fatal(err)
		}
		h.lineage = append(h.lineage, first)
		for h.starts, h.copies = first.Start, 1; h.starts < 9; {
			h.reboot()
			h.lineage = append(h.lineage, ledger.Birth{Start: h.starts, Nonce: h.nonce})
			h.crash()
		}
		h.reboot()
		// It is asked for its vote by host 3, and asks it for one.
		s.never("somebody leads by the vote of an old disk", 20*time.Second, func() bool { return s.leader() != nil })
		s.hosts[1].reboot()
		s.eventually("the two others decide without it", 20*time.Second, func() bool { return s.leader() != nil && s.leader() != h })
		s.hosts[3].do(ensure())
	})
}
