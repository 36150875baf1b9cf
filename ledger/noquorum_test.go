package ledger_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
)

// TestTheOnlyKeeperIsNamed by the hosts that ask it in vain, with what helps: another
// thing where it is off than where it starts.
func TestTheOnlyKeeperIsNamed(t *testing.T) {
	bubble(t, 2, lan, func(s *sim) {
		s.found()
		s.grow(2)
		keeper, other := s.hosts[1], s.hosts[2]
		says := func(want, not string) {
			s.t.Helper()
			start := time.Now()
			_, err := other.ledger.Do(s.t.Context(), state.Command{Kind: state.KindRenew})
			if err == nil || time.Since(start) > 5*time.Second {
				s.t.Fatalf("%v after %s", err, time.Since(start))
			}
			for _, part := range []string{"the only keeper of the ledger, host-1 (192.0.2.1:7950) ", want} {
				if !strings.Contains(err.Error(), part) {
					s.t.Errorf("%q is not in %q", part, err)
				}
			}
			if strings.Contains(err.Error(), not) {
				s.t.Errorf("%q is in %q", not, err)
			}
		}
		keeper.crash()
		says("does not answer; start that host or repair the network to it; if it is gone for good, see weft ledger recover", "try again")
		known := make(chan struct{})
		keeper.copied = func(ctx context.Context) bool {
			select {
			case <-known:
			case <-ctx.Done():
			}
			return false
		}
		keeper.reboot()
		says("is starting and asks first whether another machine runs in its place; try again", "start that host")
		if _, err := keeper.ledger.Do(s.t.Context(), state.Command{Kind: state.KindRenew}); err == nil || !strings.Contains(err.Error(), "this host kept the ledger, and is starting") {
			s.t.Errorf("the keeper itself says %v", err)
		}
		close(known)
		other.do(ensure())
	})
}
