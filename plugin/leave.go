package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// leaveTimeout is what an operator waits until others keep the ledger in the place of
// this host.
const leaveTimeout = 45 * time.Second

// leaving is a host on its way out.
type leaving struct {
	now  atomic.Bool // an operator asked for it: nothing new is handed out
	busy turn.Turn
}

// Leave takes this host out of the cluster for good, in order: containers first, then
// the keeper's seat, then one decision that takes its identity. It implements
// api.Agent.
func (a *Agent) Leave(ctx context.Context, r api.Departure) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	cluster := a.store.Cluster()
	switch {
	case cluster.IsZero():
		return "", netmap.Refuse(netmap.Unknown, "this host is in no cluster; there is nothing to leave")
	case a.hasLeft():
		return a.departure(), nil
	case a.lease.Fenced():
		return "", netmap.Refuse(netmap.Removed, "the cluster does not know this host as a member any more; see weft status")
	}
	end, ok := a.leaving.busy.Try()
	if !ok {
		return "", netmap.Refuse(netmap.Busy, "this host is leaving already; see weft status")
	}
	defer end()
	a.leaving.now.Store(true)
	if err := a.leave(ctx, r.Force); err != nil {
		a.leaving.now.Store(false)
		return "", err
	}
	return a.departure(), nil
}

func (a *Agent) leave(ctx context.Context, force bool) error {
	if err := a.vacant(force); err != nil {
		return err
	}
	if err := a.ledger.Vacate(ctx); err != nil {
		return err
	}
	if err := a.vacant(force); err != nil { // since then one may have been started that was on its way
		return err
	}
	if err := a.lease.Leave(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	_, err := a.decide(ctx, ledger.Command{Kind: ledger.KindLeave})
	if err != nil && !errors.Is(err, &netmap.Refusal{Kind: netmap.Removed}) && !a.hasLeft() {
		var refusal *netmap.Refusal
		if errors.As(err, &refusal) && refusal.Kind != netmap.NoQuorum {
			return errors.Join(err, a.lease.Stay())
		}
		a.lease.RequestRenewal() // a renewal that is accepted says that it has not left
		return fmt.Errorf("%w; when the keepers are back this may still be decided: look at weft status then", err)
	}
	a.depart()
	return nil
}

// depart ends what this host does as a member. What it told the others goes at once.
func (a *Agent) depart() {
	a.revoke(lease.Fence{Host: a.self, Why: a.departure(), Left: true})
	a.problem("membership", a.departure())
	if err := a.gossip.Leave(); err != nil {
		a.log.Warn("the other hosts notice by themselves that this host has left", "err", err)
	}
}

// departure says what a host that left can do.
func (a *Agent) departure() string {
	return fmt.Sprintf("host %s has left cluster %s: its addresses are free, and it hands out none any more. To take it in again as a new host, run weft host new-identity on it; "+
		"to take Weft off it, remove its networks in Docker, disable the plugin and run weft cleanup", a.fact.Name, a.store.Cluster())
}

// hasLeft reports whether this identity left by an operator's word.
func (a *Agent) hasLeft() bool { return a.lease.HasLeft() }

// vacant refuses while a container would lose its address.
func (a *Agent) vacant(force bool) error {
	if force {
		return nil
	}
	var held []string
	a.mu.Lock()
	for _, r := range a.attach.Endpoints() {
		if r.Deleted {
			continue
		}
		e := r.Endpoint
		e.Name = cmp.Or(a.names[e.ID], e.Name)
		held = append(held, fmt.Sprintf("%s (%s)", endpointName(e), addressText(e)))
	}
	a.mu.Unlock()
	if len(held) == 0 {
		return nil
	}
	if n := len(held) - 8; n > 0 {
		held = append(held[:8], fmt.Sprintf("%d others", n))
	}
	return netmap.Refuse(netmap.Held, "host %s still has containers on Weft's networks: %s; stop them first, or leave with --force: they run on without the network, and others get their addresses", a.fact.Name, strings.Join(held, ", "))
}
