package member

import (
	"context"
	"slices"

	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/turn"
)

// maintain keeps the lease, and learns from the facts when it is over.
func (m *Member) maintain(ctx context.Context) {
	alone := m.alone()
	for look := range follow.Facts(ctx, m.cluster.Gossip, follow.When{Every: leasePoll, Wake: m.lease.Wanted()}) {
		if look.Woken && !turn.Sleep(ctx, joinPause) { // for each request that waits there was a try just now
			return
		}
		_ = m.observeFacts(ctx) // a problem tells it
		was := alone
		if alone = m.alone(); was && !alone { // it may have been removed meanwhile
			m.lease.RequestRenewal()
		}
		m.declare(ctx)
		if look.Due || look.Woken {
			m.keepLease(ctx)
		}
		if m.saidRemoved() {
			look.Again(askAgainAfter)
		}
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

// declare tells a recovered ledger what this host holds.
func (m *Member) declare(ctx context.Context) {
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
