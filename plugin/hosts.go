package plugin

import (
	"context"
	"fmt"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// decideTimeout is how long an operator waits for a decision at most.
const decideTimeout = 5 * time.Second

// RemoveHost removes a host from the cluster for good. Removing it twice, or on several hosts
// at once, is one decision. It implements api.Agent.
func (a *Agent) RemoveHost(ctx context.Context, r api.Removal) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	if r.Host == "" {
		return "", netmap.Refuse(netmap.BadInput, "the request does not say which host to remove; give its name or id")
	}
	id, err := a.gossip.View().FindHost(r.Host)
	if err != nil {
		return "", err
	}
	reply, err := a.member.Decide(ctx, state.Command{Kind: state.KindRemove, Remove: &state.Remove{Target: id, IsOff: r.IsOff}})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("host %s (%s) is removed from the cluster: its blocks of addresses are free, and it hands out none any more", reply.Host.Name, id.Short()), nil
}

// AddRange gives the cluster more address space for networks without --subnet. It implements
// api.Agent.
func (a *Agent) AddRange(ctx context.Context, r api.Range) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	if !r.Prefix.IsValid() {
		return "", netmap.Refuse(netmap.BadInput, "the request does not say which range to add; want a prefix such as 10.48.0.0/12")
	}
	if route, is := ipam.Collision(a.cfg.Kernel.Routes(), r.Prefix); is {
		return "", netmap.Refuse(netmap.Overlaps, "range %s overlaps %s (%s) of this host; choose another", r.Prefix, route.Prefix, route.Name)
	}
	if _, err := a.member.Decide(ctx, state.Command{Kind: state.KindAddRange, AddRange: &state.AddRange{Range: r.Prefix}}); err != nil {
		return "", err
	}
	return fmt.Sprintf("range %s is added: networks without --subnet come from it when the others are full", r.Prefix), nil
}

// NewIdentity implements api.Agent.
func (a *Agent) NewIdentity(_ context.Context, r api.IdentityReset) (string, error) {
	return a.member.NewIdentity(r.Force, r.DryRun)
}

// Leave implements api.Agent.
func (a *Agent) Leave(ctx context.Context, r api.Departure) (string, error) {
	defer a.presence.Changed()
	return a.member.Leave(ctx, r.Force)
}

// RecoverLedger implements api.Agent.
func (a *Agent) RecoverLedger(ctx context.Context, r api.Recovery) (string, error) {
	return a.member.RecoverLedger(ctx, r.Off, r.DryRun)
}
