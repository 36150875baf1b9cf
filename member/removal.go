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
	askRemovedWait   = 3 * time.Second // of the five that Docker waits
	askRemovedAtOnce = 500 * time.Millisecond
	askAgainAfter    = time.Second // a keeper that lagged behind may confirm it then
)

// asked is what the keepers said last to whether this host was removed. Safe for
// concurrent use.
type askedKeepers struct {
	mu     sync.Mutex
	denied time.Time
	// open: somebody said that this host was removed, and the keepers neither confirmed nor
	// denied it.
	open bool
}

// observeRefusal ends the lease if the ledger refuses this identity. One that was removed
// from the cluster is given up, once the keepers that this host knew before confirm it:
// anybody may have answered.
func (m *Member) observeRefusal(ctx context.Context, err error) {
	var refusal *netmap.Refusal
	if !errors.As(err, &refusal) || refusal.Kind != netmap.Fenced && refusal.Kind != netmap.Removed {
		return
	}
	if _, reset := m.lease.IdentityReset(); reset || m.hasLeft() {
		return
	}
	if refusal.Kind == netmap.Removed {
		_ = m.observeRemoval(ctx) // a problem tells it
	}
	if _, reset := m.lease.IdentityReset(); !reset && !m.hasLeft() { // until a renewal is accepted
		m.revoke(lease.Fence{Host: m.self, Why: refusal.Text})
	}
}

// observeFacts asks the keepers if the facts say that this host was removed: facts can be
// forged. The error says why it hands out nothing meanwhile.
func (m *Member) observeFacts(ctx context.Context) error {
	if !m.saidRemoved() {
		return nil
	}
	err := m.observeRemoval(ctx)
	_, reset := m.lease.IdentityReset()
	switch {
	case m.hasLeft():
		m.problem("membership", m.departure())
	case reset:
		m.problem("membership", err.Error())
	default:
		return err
	}
	return nil // the lease says why
}

func removed(name string) *netmap.Refusal {
	return netmap.Refuse(netmap.Removed, "host %s was removed from the cluster; it becomes a new host, which asks for the addresses of its running containers again; see weft status there", name)
}

// askRemoved asks the keepers that this host knew before whether it was removed. What they
// deny is not asked again at once, however often it is said.
func (m *Member) askRemoved(ctx context.Context) (ledger.Verdict, error) {
	r := &m.asked
	r.mu.Lock()
	fresh := !r.denied.IsZero() && time.Since(r.denied) < askAgainAfter
	r.mu.Unlock()
	if fresh {
		return ledger.Denied, nil
	}
	wait := askRemovedWait
	if ctx.Err() != nil { // the caller waits for nothing but this
		wait = askRemovedAtOnce
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	verdict, err := m.ledger.AskRemoved(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open = verdict == ledger.Unknown; verdict == ledger.Denied {
		r.denied = time.Now()
	}
	return verdict, err
}

// saidRemoved reports whether the facts say that this host was removed, and it has not
// given up its identity yet.
func (m *Member) saidRemoved() bool {
	_, reset := m.lease.IdentityReset()
	return m.cluster.Gossip.Removed(m.self) && !reset && !m.hasLeft()
}

// notRemoved takes in that the ledger goes on with this host.
func (m *Member) notRemoved() {
	m.asked.mu.Lock()
	m.asked.open = false
	m.asked.mu.Unlock()
	m.problem("removal", "")
}

// unconfirmed reports whether a removal is to be asked about again.
func (m *Member) unconfirmed() bool {
	m.asked.mu.Lock()
	defer m.asked.mu.Unlock()
	return m.asked.open
}

// observeRemoval gives up this identity if the keepers confirm that it was removed, on
// whoever's word that was asked. The error says why it hands out nothing meanwhile.
func (m *Member) observeRemoval(ctx context.Context) error {
	verdict, err := m.askRemoved(ctx)
	if _, reset := m.lease.IdentityReset(); reset { // meanwhile, on another question
		return removed(m.cfg.Name)
	}
	if m.hasLeft() { // meanwhile, in order
		return netmap.Refuse(netmap.Removed, "%s", m.departure())
	}
	switch verdict {
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
