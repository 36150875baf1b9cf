package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

const (
	askRemovedWait   = 3 * time.Second // Docker waits five
	askRemovedAtOnce = 500 * time.Millisecond
	askAgainAfter    = time.Second // a keeper that lags behind may have caught up by then
)

// askedKeepers is what the keepers answered last to whether this host was removed. Safe for
// concurrent use.
type askedKeepers struct {
	mu     sync.Mutex
	denied time.Time
	// open: a host said that this one was removed, and the keepers neither confirmed nor denied
	// it.
	open bool
}

// endIfFenced ends the lease if err says that the ledger refuses this identity. If it says that
// the identity was removed, the keepers that this host trusts must confirm that, since any host
// may have answered.
func (m *Member) endIfFenced(ctx context.Context, err error) {
	var refusal *netmap.Refusal
	if !errors.As(err, &refusal) || refusal.Kind != netmap.Fenced && refusal.Kind != netmap.Removed {
		return
	}
	if _, reset := m.lease.IdentityReset(); reset || m.HasLeft() {
		return
	}
	if refusal.Kind == netmap.Removed {
		_ = m.confirmRemoved(ctx) // it shows a problem
	}
	if _, reset := m.lease.IdentityReset(); !reset && !m.HasLeft() { // until a renewal is accepted
		m.revoke(lease.Fence{Host: m.self, Why: refusal.Text})
	}
}

// checkRemoved asks the keepers if the facts say that this host was removed, since facts can be
// forged. The error says why this host hands out nothing meanwhile.
func (m *Member) checkRemoved(ctx context.Context) error {
	if !m.saidRemoved() {
		return nil
	}
	err := m.confirmRemoved(ctx)
	_, reset := m.lease.IdentityReset()
	switch {
	case m.HasLeft():
		m.problem("membership", m.departure())
	case reset:
		m.problem("membership", err.Error())
	default:
		return err
	}
	return nil // the lease has the reason
}

func removed(name string) *netmap.Refusal {
	return netmap.Refuse(netmap.Removed, "host %s was removed from the cluster; it becomes a new host, which asks for the addresses of its running containers again; see weft status there", name)
}

// askRemoved asks the keepers that this host trusts whether it was removed. After they denied
// it, it does not ask them again within askAgainAfter.
func (m *Member) askRemoved(ctx context.Context) (ledger.Answer, error) {
	r := &m.asked
	r.mu.Lock()
	fresh := !r.denied.IsZero() && time.Since(r.denied) < askAgainAfter
	r.mu.Unlock()
	if fresh {
		return ledger.Denied, nil
	}
	wait := askRemovedWait
	if ctx.Err() != nil { // a caller waits for this alone
		wait = askRemovedAtOnce
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	answer, err := m.ledger.AskRemoved(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open = answer == ledger.Unknown; answer == ledger.Denied {
		r.denied = time.Now()
	}
	return answer, err
}

// saidRemoved reports whether the facts say that this host was removed, and it has not given up
// its identity yet.
func (m *Member) saidRemoved() bool {
	_, reset := m.lease.IdentityReset()
	return m.cluster.Gossip.Removed(m.self) && !reset && !m.HasLeft()
}

// notRemoved notes that the ledger accepts this host.
func (m *Member) notRemoved() {
	m.asked.mu.Lock()
	m.asked.open = false
	m.asked.mu.Unlock()
	m.problem("removal", "")
}

// unconfirmed reports whether the keepers have yet to confirm or deny a removal.
func (m *Member) unconfirmed() bool {
	m.asked.mu.Lock()
	defer m.asked.mu.Unlock()
	return m.asked.open
}

// confirmRemoved gives up this identity if the keepers confirm that it was removed, whoever
// said so first. The error says why this host hands out nothing meanwhile.
func (m *Member) confirmRemoved(ctx context.Context) error {
	answer, err := m.askRemoved(ctx)
	if _, reset := m.lease.IdentityReset(); reset { // by a concurrent call
		return removed(m.cfg.Name)
	}
	if m.HasLeft() { // by Leave, meanwhile
		return netmap.Refuse(netmap.Removed, "%s", m.departure())
	}
	switch answer {
	case ledger.Denied:
		m.problem("removal", "")
		return nil
	case ledger.Unknown:
		text := fmt.Sprintf("somebody says that host %s was removed from the cluster, and the keepers that it knows do not confirm that (%v): it keeps its identity and its disk, and hands out nothing new. "+
			"Repair the network to the keepers, and the host goes on by itself; or if weft status on another host lists it as removed, make it a new one here: weft host new-identity --force", m.cfg.Name, err)
		m.problem("removal", text)
		return netmap.Refuse(netmap.NoQuorum, "%s", text)
	}
	m.problem("removal", "")
	refusal := removed(m.cfg.Name)
	if m.lease.Leaving() {
		m.revoke(lease.Fence{Host: m.self, Why: m.departure(), Left: true})
	} else {
		m.revoke(lease.Fence{Host: m.self, Why: refusal.Text, IdentityReset: true})
	}
	return refusal
}
