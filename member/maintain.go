package member

import (
	"context"
	"slices"

	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// maintain renews the lease, declares holdings to a recovered ledger, and finds out whether
// this host was removed, until ctx ends.
func (m *Member) maintain(ctx context.Context) {
	alone := m.alone()
	for look := range follow.Facts(ctx, m.cluster.Gossip, follow.When{Every: leasePoll, Wake: m.lease.Wanted(), Of: membership}) {
		if look.Woken && !turn.Sleep(ctx, joinPause) { // each request that waits has just made an attempt itself
			return
		}
		_ = m.checkRemoved(ctx) // it shows a problem
		was := alone
		if alone = m.alone(); was && !alone { // it may have been removed while it was alone
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

// membership is what of the facts decides whether this host is a member.
func membership(c netmap.Changes) bool { return len(c.Hosts) > 0 || c.Ledger }

// keepLease renews the lease if it is due. A host that is leaving does not.
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

// alone reports whether no other host is alive.
func (m *Member) alone() bool {
	return !slices.ContainsFunc(m.cluster.Gossip.Members(), func(other gossip.Member) bool { return other.Alive })
}

// declare tells a recovered ledger what this host holds.
func (m *Member) declare(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := m.ensureDeclared(limited)
	switch {
	case err == nil:
		m.problem("recovery", "")
	case ctx.Err() == nil:
		m.endIfFenced(ctx, err)
		m.problem("recovery", "the ledger was recovered and has not seen yet what this host holds: "+err.Error())
	}
}

// tellLease shows a lease that has expired.
func (m *Member) tellLease() {
	_, _, err := m.lease.State()
	if err == nil || m.lease.Fenced() { // a fence is shown by its own problem
		m.problem("lease", "")
		return
	}
	m.problem("lease", "no new address is handed out: "+err.Error())
}

// renew renews the lease with the ledger. The lease counts from before the request was sent.
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
