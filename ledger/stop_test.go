package ledger_test

import (
	"sync"
	"testing"

	"github.com/weftnet/weft/ledger"
)

// TestAKeeperThatStopsLeavesNothingBehind: what is being decided then ends too. The
// bubble fails if a goroutine is left.
func TestAKeeperThatStopsLeavesNothingBehind(t *testing.T) {
	for range 10 {
		bubble(t, 1, lan, func(s *sim) {
			s.found()
			h := s.hosts[1]
			h.do(ensure())
			var all sync.WaitGroup
			begun := make(chan struct{}, 40)
			for range cap(begun) {
				all.Go(func() {
					for range 3 {
						_, _ = h.ledger.Do(s.t.Context(), ledger.Command{Kind: ledger.KindRenew})
						begun <- struct{}{}
					}
				})
			}
			<-begun
			h.stop()
			for range 3*cap(begun) - 1 {
				<-begun
			}
			all.Wait()
		})
	}
}
