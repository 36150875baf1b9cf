package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// JoinNetwork makes a network of the owner part of the cluster's network that has the same
// subnets. Repeating it changes nothing.
func (p Part) JoinNetwork(ctx context.Context, want NetworkRequest) error {
	want.Owner = p.owner
	if err := (NetworkRecord{Owner: p.owner, ID: want.ID}).check(want.ID); err != nil {
		return netmap.Refuse(netmap.BadInput, "attach: %.80q is no id of a network of %s; want one without a slash for Docker, and one that begins with the owner and a slash for others", want.ID, p.owner)
	}
	a := p.all
	release, err := a.holdNetwork(ctx, want.ID, want.Subnets)
	if err != nil {
		return err
	}
	defer release()
	if have, ok := p.network(want.ID); ok {
		return sameNetwork(have, want)
	}
	if err := a.refuseTwin(want); err != nil {
		return err
	}
	network, err := a.cfg.Networks.EnsureNetwork(ctx, want)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return a.keepNetwork(ctx, NetworkRecord{Owner: p.owner, ID: want.ID, Network: network})
}

// ForgetNetwork removes a network that the owner does not have any more. The caller knows that
// from the owner's delete, or from the owner's list if it deleted the network while no agent
// ran. An unknown network is no error. FinishDeletions repeats what fails.
func (p Part) ForgetNetwork(ctx context.Context, id string) error {
	p.all.mu.Lock()
	r, ok := p.all.networks[id]
	p.all.mu.Unlock()
	if !ok || r.Owner != p.owner {
		return nil
	}
	if r, ok = p.all.markNetworkDeleted(id); !ok {
		return nil
	}
	p.all.cfg.Ports.Changed() // the ledger may be long in coming
	return p.all.finishDeletion(ctx, r)
}

// holdNetwork locks one network of an owner and its subnets until release is called. The
// subnets are locked too because an owner can create the network again under another id while
// the ledger is still being told that the first one was removed; the removal must not take the
// membership of the new one away.
func (a *Attachments) holdNetwork(ctx context.Context, id string, subnets []netip.Prefix) (release func(), err error) {
	keys := []string{networkPrefix + id}
	for _, s := range subnets {
		keys = append(keys, subnetPrefix+s.String())
	}
	return a.lock(ctx, keys...)
}

// sameNetwork refuses a repeated call that asks for other subnets than the first one. The
// order of the subnets does not matter: the ledger keeps its own.
func sameNetwork(have NetworkRecord, want NetworkRequest) error {
	if !slices.Equal(sorted(have.Network.Subnets), sorted(want.Subnets)) {
		return netmap.Refuse(netmap.Conflict, "network %s exists with subnets %v, not %v; remove it first", short(want.ID), have.Network.Subnets, want.Subnets)
	}
	return nil
}

func sorted(ps []netip.Prefix) []netip.Prefix {
	return slices.SortedFunc(slices.Values(ps), netip.Prefix.Compare)
}

// refuseTwin refuses a second network of the same owner with the same subnet on this host. Both
// would be the same network of the cluster, and each would find addresses in use by the other.
func (a *Attachments) refuseTwin(want NetworkRequest) error {
	for _, r := range a.Networks() {
		for _, s := range want.Subnets {
			if !r.Deleted && r.Owner == want.Owner && slices.Contains(r.Network.Subnets, s) {
				return netmap.Refuse(netmap.Conflict, "subnet %s is in use on this host by Docker network %s; use that one, or another --subnet; if Docker does not list it, because it ended while it made that network, try again in two minutes", s, short(r.ID))
			}
		}
	}
	return nil
}

// keepNetwork writes the record of a network. Docker sends no DeleteNetwork after a
// CreateNetwork that failed or timed out, so in these cases the network is marked as deleted,
// and FinishDeletions leaves it.
func (a *Attachments) keepNetwork(ctx context.Context, r NetworkRecord) error {
	err := a.saveNetwork(r)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("attach: network %s was decided too late; create it again: %w", short(r.ID), ctx.Err())
	}
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		r.Deleted = true
		a.networks[r.ID] = r
	}
	return err
}

// FinishDeletions removes the ports of deleted endpoints and tells the ledger of deleted
// networks, where that failed before. The error says what still fails; the caller calls it
// again later.
func (a *Attachments) FinishDeletions(ctx context.Context) error {
	var errs []error
	for _, r := range a.Endpoints() {
		if r.Deleted {
			errs = append(errs, a.drop(ctx, r.Endpoint.ID))
		}
	}
	for _, r := range a.Networks() {
		if r.Deleted {
			errs = append(errs, a.finishDeletion(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// finishDeletion removes a network that is marked as deleted, and the endpoints that the owner
// left in it. It writes the mark to disk first, so that the network stays deleted if the agent
// restarts.
func (a *Attachments) finishDeletion(ctx context.Context, r NetworkRecord) error {
	release, err := a.holdNetwork(ctx, r.ID, r.Network.Subnets)
	if err != nil {
		return err
	}
	defer release()
	a.mu.Lock()
	r = a.networks[r.ID]
	a.mu.Unlock()
	if !r.Deleted {
		return nil // another call was faster, or its owner created it anew
	}
	if err := a.saveNetwork(r); err != nil {
		return err
	}
	left := a.dropAll(ctx, r.ID)
	if err := a.cfg.Networks.LeaveNetwork(ctx, r, !a.shared(r.Network.ID)); err != nil {
		return errors.Join(left, fmt.Errorf("attach: network %s is removed here, the cluster will be told again: %w", short(r.ID), err))
	}
	return errors.Join(left, a.forgetNetwork(r.ID))
}

// dropAll removes all endpoints of a network. The id is the owner's.
func (a *Attachments) dropAll(ctx context.Context, id string) error {
	var errs []error
	for _, r := range a.Endpoints() {
		if r.LocalNetwork == id {
			errs = append(errs, a.forget(ctx, r.Endpoint.ID))
		}
	}
	return errors.Join(errs...)
}

// shared reports whether another network of this host is the same network of the cluster: one of
// another owner, or one that was created again under another id before the ledger was told that
// the first one was removed.
func (a *Attachments) shared(id netmap.NetworkID) bool {
	return slices.ContainsFunc(a.Networks(), func(r NetworkRecord) bool {
		return !r.Deleted && r.Network.ID == id
	})
}
