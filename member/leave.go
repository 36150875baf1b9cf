package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// leaveTimeout is how long an operator waits until other hosts keep the ledger in place of this
// one.
const leaveTimeout = 45 * time.Second

// decideTimeout is the part of it that the decision may take.
const decideTimeout = 5 * time.Second

// leaving is the state of a host that is leaving the cluster.
type leaving struct {
	now  atomic.Bool // an operator asked for it; nothing new is handed out
	busy turn.Turn
}

// Leave takes this host out of the cluster for good. It refuses while containers run, gives up
// the place among the keepers, and then has the ledger remove the identity. It returns a
// sentence for the operator.
func (m *Member) Leave(ctx context.Context, force bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	cluster := m.cfg.Store.Cluster()
	switch {
	case cluster.IsZero():
		return "", netmap.Refuse(netmap.Unknown, "this host is in no cluster; there is nothing to leave")
	case m.HasLeft():
		return m.departure(), nil
	case m.lease.Fenced():
		return "", netmap.Refuse(netmap.Removed, "the cluster does not know this host as a member any more; see weft status")
	}
	end, ok := m.leaving.busy.Try()
	if !ok {
		return "", netmap.Refuse(netmap.Busy, "this host is leaving already; see weft status")
	}
	defer end()
	m.leaving.now.Store(true)
	if err := m.leave(ctx, force); err != nil {
		m.leaving.now.Store(false)
		return "", err
	}
	return m.departure(), nil
}

func (m *Member) leave(ctx context.Context, force bool) error {
	if err := m.vacant(force); err != nil {
		return err
	}
	if err := m.ledger.Vacate(ctx); err != nil {
		return err
	}
	if err := m.vacant(force); err != nil { // a container may have started meanwhile
		return err
	}
	if err := m.lease.Leave(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	_, err := m.Decide(ctx, state.Command{Kind: state.KindLeave})
	if err != nil && !errors.Is(err, &netmap.Refusal{Kind: netmap.Removed}) && !m.HasLeft() {
		var refusal *netmap.Refusal
		if errors.As(err, &refusal) && refusal.Kind != netmap.NoQuorum {
			return errors.Join(err, m.lease.Stay())
		}
		m.lease.RequestRenewal() // if a renewal is accepted it has not left
		return fmt.Errorf("%w; when the keepers are back this may still be decided: look at weft status then", err)
	}
	m.depart()
	return nil
}

// depart ends this host's part in the cluster. The other hosts drop its facts at once.
func (m *Member) depart() {
	m.revoke(lease.Fence{Host: m.self, Why: m.departure(), Left: true})
	m.problem("membership", m.departure())
	if err := m.cluster.Gossip.Leave(); err != nil {
		m.cfg.Log.Warn("the other hosts cannot be told that this host has left; they find out by themselves", "err", err)
	}
}

// departure says what the operator can do with a host that has left.
func (m *Member) departure() string {
	return fmt.Sprintf("host %s has left cluster %s: its addresses are free, and it hands out none any more. To take it in again as a new host, run weft host new-identity on it; "+
		"to take Weft off it, remove its networks in Docker, disable the plugin and run weft cleanup", m.cfg.Name, m.cfg.Store.Cluster())
}

// HasLeft reports whether this identity left at an operator's request.
func (m *Member) HasLeft() bool { return m.lease.HasLeft() }

// vacant refuses while a container would lose its address.
func (m *Member) vacant(force bool) error {
	if force {
		return nil
	}
	var held []string
	for _, r := range m.own.Attachments.Endpoints() {
		if r.Deleted || r.Owner == netmap.OwnerHost { // what the host has itself goes with it
			continue
		}
		e := r.Endpoint
		e.Name = cmp.Or(m.cfg.NameOf(e.ID), e.Name)
		held = append(held, fmt.Sprintf("%s (%s)", e.Label(), e.AddrText()))
	}
	if len(held) == 0 {
		return nil
	}
	if n := len(held) - 8; n > 0 {
		held = append(held[:8], fmt.Sprintf("%d others", n))
	}
	return netmap.Refuse(netmap.Held, "host %s still has containers on Weft's networks: %s; stop them first, or leave with --force: they run on without the network, and others get their addresses", m.cfg.Name, strings.Join(held, ", "))
}
