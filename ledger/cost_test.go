package ledger_test

import (
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
)

// TestADecisionIsOneWrite on every keeper, and none of a host that asks.
func TestADecisionIsOneWrite(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		cost := func(keepers int, asks *simHost) {
			const decisions = 100
			written := func() (n int) {
				for i := 1; i <= keepers; i++ {
					n += s.hosts[i].ledger.DiskWrites()
				}
				return n
			}
			before := written()
			for range decisions {
				asks.do(state.Command{Kind: state.KindRenew})
			}
			s.eventually("all keepers have it", time.Second, func() bool { return written()-before >= decisions*keepers })
			if got := written() - before; got != decisions*keepers {
				s.t.Errorf("%d decisions by %d keepers are %d writes", decisions, keepers, got)
			}
		}
		s.found()
		s.hosts[1].do(ensure())
		cost(1, s.hosts[1])
		s.grow(4)
		s.agree()
		s.hosts[4].do(ensure())
		cost(3, s.hosts[4])
	})
}
