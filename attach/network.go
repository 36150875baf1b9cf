package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// JoinNetwork makes a network of the owner a part of the cluster's network that has its
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

// ForgetNetwork removes a network that the owner does not have any more: because it
// says so, or because it removed it while no agent answered. An unknown one is no
// error. What fails is tried again by FinishDeletions.
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
	return p.all.finishDeletion(ctx, r)
}

// holdNetwork makes calls about one network of an owner, or about any of its subnets
// under another id, take turns: a network that comes back while the ledger
// is told that it went must not lose its part in it.
func (a *Attachments) holdNetwork(ctx context.Context, id string, subnets []netip.Prefix) (release func(), err error) {
	keys := []string{networkPrefix + id}
	for _, s := range subnets {
		keys = append(keys, subnetPrefix+s.String())
	}
	return a.lock(ctx, keys...)
}

// sameNetwork refuses a repeated call that wants something else. The order of
// subnets is the caller's; the ledger has one of its own.
func sameNetwork(have NetworkRecord, want NetworkRequest) error {
	if !slices.Equal(sorted(have.Network.Subnets), sorted(want.Subnets)) {
		return netmap.Refuse(netmap.Conflict, "network %s exists with subnets %v, not %v; remove it first", short(want.ID), have.Network.Subnets, want.Subnets)
	}
	return nil
}

func sorted(ps []netip.Prefix) []netip.Prefix {
	return slices.SortedFunc(slices.Values(ps), netip.Prefix.Compare)
}

// refuseTwin keeps two networks of one owner on one host from being the same network: a
// user would find the addresses of one in use by the other.
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

// keepNetwork writes a network down. When a CreateNetwork fails, Docker sends no
// DeleteNetwork; so what the disk refused, or what came too late to be believed,
// is marked as deleted, and FinishDeletions gives it up again.
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

// FinishDeletions finishes what could not be finished at the time: it removes ports of
// deleted endpoints, and tells the ledger of removed networks that it has not
// heard of yet. The error says what is left; call it again later.
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

// finishDeletion gives up a network that is marked as deleted. It is marked on disk first, so that a restart
// does not take it for its owner's; endpoints that the owner left in it go with it.
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

// dropAll removes the endpoints of a network of an owner.
func (a *Attachments) dropAll(ctx context.Context, id string) error {
	var errs []error
	for _, r := range a.Endpoints() {
		if r.LocalNetwork == id {
			errs = append(errs, a.forget(ctx, r.Endpoint.ID))
		}
	}
	return errors.Join(errs...)
}

// shared reports whether another network of this host is the same one: another owner's, or
// one that came back under another id before the ledger heard that it was removed.
func (a *Attachments) shared(id netmap.NetworkID) bool {
	return slices.ContainsFunc(a.Networks(), func(r NetworkRecord) bool {
		return !r.Deleted && r.Network.ID == id
	})
}
