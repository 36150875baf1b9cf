package member

import (
	"context"
	"slices"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/turn"
)

// maintain keeps the lease, and learns from the facts when it is over.
func (m *Member) maintain(ctx context.Context) {
	poll := time.NewTicker(leasePoll)
	defer poll.Stop()
	changed, unsubscribe := m.cluster.Gossip.Subscribe()
	defer unsubscribe()
	alone := m.alone()
	for {
		due, asked := false, false
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			due = true
		case <-changed:
		case <-m.askAgain():
		case <-m.lease.Wanted():
			asked = true
		}
		// What came at once is taken at once: which of them select saw means nothing.
		due, asked = due || took(poll.C), asked || took(m.lease.Wanted())
		if asked && !turn.Sleep(ctx, joinPause) { // for each request that waits there was a try just now
			return
		}
		_ = m.observeFacts(ctx) // a problem tells it
		was := alone
		if alone = m.alone(); was && !alone { // it may have been removed meanwhile
			m.lease.RequestRenewal()
		}
		m.follow(ctx)
		if !due && !asked {
			continue
		}
		m.keepLease(ctx)
	}
}

// keepLease renews it if it is time to; a host on its way out does not.
func (m *Member) keepLease(ctx context.Context) {
	if err := m.lease.Restamp(); err != nil {
		m.cfg.Log.Warn("lease", "err", err)
	}
	newer := m.newer()
	if (m.lease.Due() || newer > 0 || m.unconfirmed()) && !m.leaving.now.Load() && m.try(ctx, m.renew) && newer > 0 {
		m.skipTo(newer)
	}
	m.tellLease()
}

// alone reports whether no other host is seen.
func (m *Member) alone() bool {
	return !slices.ContainsFunc(m.cluster.Gossip.Members(), func(other gossip.Member) bool { return other.Alive })
}

// follow shows a recovered ledger what this host holds.
func (m *Member) follow(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := m.observeGeneration(limited)
	switch {
	case err == nil:
		m.problem("recovery", "")
	case ctx.Err() == nil:
		m.observeRefusal(ctx, err)
		m.problem("recovery", "the ledger was recovered and has not seen yet what this host holds: "+err.Error())
	}
}

// took reports whether something was waiting in a channel, and takes it.
func took[T any](c <-chan T) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tellLease shows a lease that has run out.
func (m *Member) tellLease() {
	_, _, err := m.lease.State()
	if err == nil || m.lease.Fenced() { // that is told already
		m.problem("lease", "")
		return
	}
	m.problem("lease", "no new address is handed out: "+err.Error())
}

// renew has the ledger note that this host is there. The lease counts from before
// the question was sent.
func (m *Member) renew(ctx context.Context) error {
	sent, err := m.clocks.Sending()
	if err != nil {
		return err
	}
	r, err := m.ledger.Do(ctx, state.Command{Kind: state.KindRenew})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return err
	}
	m.notRemoved()
	return m.lease.Grant(sent)
}
