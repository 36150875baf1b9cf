package ledger_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/ledger/state"
)

// TestLogsAreCutUnderLoad: while five hosts keep claiming addresses and giving them
// back, the log is cut by snapshots, one keeper is away for longer than the log
// reaches back, and another is killed; at the end all agree, and nothing that was
// answered is lost or doubled.
func TestLogsAreCutUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("some thousand decisions")
	}
	bubble(t, 5, lan, func(s *sim) {
		s.found()
		s.grow(5)
		for n := 1; n <= 5; n++ {
			s.hosts[n].do(ensure())
		}
		lagging, killed := s.hosts[4], s.hosts[5]
		lagging.crash()
		held := make([]netip.Addr, 6)
		stop := make(chan struct{})
		var work sync.WaitGroup
		for n := 1; n <= 3; n++ {
			work.Go(func() { s.hosts[n].churn(n, &held[n], stop) })
		}
		time.Sleep(90 * time.Second)
		killed.crash()
		killed.reboot()
		time.Sleep(4 * time.Minute) // raft looks every two to four minutes whether the log is to be cut
		lagging.reboot()
		s.eventually("the one that lagged caught up under load", time.Minute, func() bool {
			l := s.leader()
			return l != nil && lagging.ledger.Status().Applied+64 > l.ledger.Status().Applied
		})
		close(stop)
		work.Wait()
		s.agree()
		if n := s.leader().ledger.Status().Applied; n < 5600 {
			s.t.Errorf("only %d decisions: the log was not cut", n)
		}
		for n := 1; n <= 3; n++ {
			for _, h := range []*simHost{lagging, killed, s.leader()} {
				past, err := h.ledger.History(s.t.Context(), state.Query{Space: netip.PrefixFrom(held[n], 32), Limit: 1})
				if err != nil || len(past.Events) != 1 || past.Events[0].Host != hostID(n) || past.Events[0].What != state.EventGranted {
					s.t.Errorf("host-%d holds %s; host-%d says %+v, %v", n, held[n], h.n, past, err)
				}
			}
		}
		s.t.Logf("%d decisions", s.leader().ledger.Status().Applied)
	})
}

// churn claims one address after the other and gives the last one back.
func (h *simHost) churn(n int, held *netip.Addr, stop <-chan struct{}) {
	var epoch uint64
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		next := netip.MustParseAddr(fmt.Sprintf("10.40.%d.%d", n, 1+i%200))
		ctx, cancel := context.WithTimeout(h.sim.t.Context(), 10*time.Second)
		r, err := h.ledger.Do(ctx, state.Command{Kind: state.KindClaim, Claim: &state.Claim{Subnet: subnet, Addr: next}})
		if err == nil && held.IsValid() {
			_, err = h.ledger.Do(ctx, state.Command{Kind: state.KindUnclaim, Unclaim: &state.Unclaim{Addr: *held, Epoch: epoch}})
		}
		cancel()
		if err != nil {
			h.sim.t.Errorf("host-%d: %v", n, err)
			return
		}
		*held, epoch = next, r.Claim.Epoch
		time.Sleep(300 * time.Millisecond)
	}
}
