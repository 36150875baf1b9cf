package ledger_test

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
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
						_, _ = h.ledger.Do(s.t.Context(), state.Command{Kind: state.KindRenew})
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

// TestAKeeperWhoseDiskFailsLeavesNothingBehind: what waits for a decision then is told
// so. The bubble fails if a goroutine is left.
func TestAKeeperWhoseDiskFailsLeavesNothingBehind(t *testing.T) {
	for range 5 {
		bubble(t, 1, lan, func(s *sim) {
			s.found()
			h := s.hosts[1]
			h.do(ensure())
			var all sync.WaitGroup
			decided := make(chan struct{}, 1)
			for range 40 {
				all.Go(func() {
					for s.problem(h) == "" {
						ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
						_, _ = h.ledger.Do(ctx, state.Command{Kind: state.KindRenew})
						cancel()
						select {
						case decided <- struct{}{}:
						default:
						}
					}
				})
			}
			for range 50 {
				<-decided
			}
			h.ledger.FailDisk(syscall.EIO)
			all.Wait()
		})
	}
}
