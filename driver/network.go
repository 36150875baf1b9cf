package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// createNetwork makes a Docker network a part of the cluster's network that has
// its subnets. Docker gives no name here; it is learned beside the protocol.
func (d *Driver) createNetwork(ctx context.Context, req createNetworkRequest) (rpc.Empty, error) {
	if swarmID.MatchString(req.NetworkID) {
		return rpc.Empty{}, d.refuseSwarm(req.NetworkID)
	}
	want, err := parseNetwork(req)
	if err != nil {
		return rpc.Empty{}, err
	}
	release, err := d.holdNetwork(ctx, want.Docker, want.Subnets)
	if err != nil {
		return rpc.Empty{}, err
	}
	defer release()
	if have, ok := d.network(want.Docker); ok {
		return rpc.Empty{}, sameNetwork(have, want)
	}
	if err := d.refuseTwin(want); err != nil {
		return rpc.Empty{}, err
	}
	network, err := d.cfg.Networks.EnsureNetwork(ctx, want)
	if err != nil {
		return rpc.Empty{}, fmt.Errorf("driver: %w", err)
	}
	return rpc.Empty{}, d.keepNetwork(ctx, NetworkRecord{Docker: want.Docker, Network: network})
}

// refuseSwarm refuses a network of swarm scope. Docker asks nobody when such a network is
// created: this is the error of each task on it. The name is known on managers only.
func (d *Driver) refuseSwarm(id string) error {
	name := cmp.Or(d.cfg.Networks.RefusedSwarm(id), id)
	return bad("network %s: Weft does not support --scope swarm yet; remove the network, and create it without --scope swarm for containers of docker run and docker compose, where it spans all hosts of the Weft cluster; services of a swarm need Docker's own driver, -d overlay", name)
}

// holdNetwork makes calls about one Docker network, or about any of its subnets
// under another Docker id, take turns: a network that comes back while the ledger
// is told that it went must not lose its part in it.
func (d *Driver) holdNetwork(ctx context.Context, docker string, subnets []netip.Prefix) (release func(), err error) {
	keys := []string{networkPrefix + docker}
	for _, s := range subnets {
		keys = append(keys, subnetPrefix+s.String())
	}
	release, err = d.locks.lock(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	return release, nil
}

// sameNetwork refuses a repeated call that wants something else. The order of
// subnets is the caller's; the ledger has one of its own.
func sameNetwork(have NetworkRecord, want NetworkRequest) error {
	if !slices.Equal(sorted(have.Network.Subnets), sorted(want.Subnets)) {
		return bad("network %s exists with subnets %v, not %v; remove it first", short(want.Docker), have.Network.Subnets, want.Subnets)
	}
	return nil
}

func sorted(ps []netip.Prefix) []netip.Prefix {
	return slices.SortedFunc(slices.Values(ps), netip.Prefix.Compare)
}

// refuseTwin keeps two Docker networks of one host from being the same network:
// the removal of one would take the subnet from the other.
func (d *Driver) refuseTwin(want NetworkRequest) error {
	for _, r := range d.Networks() {
		for _, s := range want.Subnets {
			if !r.Deleted && slices.Contains(r.Network.Subnets, s) {
				return bad("subnet %s is in use on this host by Docker network %s; use that one, or another --subnet; if Docker does not list it, because it ended while it made that network, try again in two minutes", s, short(r.Docker))
			}
		}
	}
	return nil
}

// keepNetwork writes a network down. When a CreateNetwork fails, Docker sends no
// DeleteNetwork; so what the disk refused, or what came too late to be believed,
// is marked as deleted, and Settle gives it up again.
func (d *Driver) keepNetwork(ctx context.Context, r NetworkRecord) error {
	err := d.saveNetwork(r)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("driver: network %s was decided too late; create it again: %w", short(r.Docker), ctx.Err())
	}
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		r.Deleted = true
		d.networks[r.Docker] = r
	}
	return err
}

// deleteNetwork forgets a network. Docker ignores errors here, so a ledger that
// cannot be reached is asked again later, by Settle.
func (d *Driver) deleteNetwork(ctx context.Context, req api.DeleteNetworkRequest) (rpc.Empty, error) {
	d.cfg.Networks.Deleted(req.NetworkID)
	return rpc.Empty{}, d.ForgetNetwork(ctx, req.NetworkID)
}

// ForgetNetwork removes a network that Docker does not have any more: because it
// says so, or because it removed it while no agent answered. An unknown one is no
// error. What fails is tried again by Settle.
func (d *Driver) ForgetNetwork(ctx context.Context, docker string) error {
	r, ok := d.markNetworkDeleted(docker)
	if !ok {
		return nil
	}
	return d.settle(ctx, r)
}

// Settle finishes what could not be finished at the time: it removes ports of
// deleted endpoints, and tells the ledger of removed networks that it has not
// heard of yet. The error says what is left; call it again later.
func (d *Driver) Settle(ctx context.Context) error {
	var errs []error
	for _, r := range d.Endpoints() {
		if r.Deleted {
			errs = append(errs, d.drop(ctx, r.Endpoint.ID))
		}
	}
	for _, r := range d.Networks() {
		if r.Deleted {
			errs = append(errs, d.settle(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// settle gives up a network that is marked as deleted. It is marked on disk first, so that a restart
// does not take it for Docker's; endpoints that Docker left in it go with it.
func (d *Driver) settle(ctx context.Context, r NetworkRecord) error {
	release, err := d.holdNetwork(ctx, r.Docker, r.Network.Subnets)
	if err != nil {
		return err
	}
	defer release()
	d.mu.Lock()
	r = d.networks[r.Docker]
	d.mu.Unlock()
	if !r.Deleted {
		return nil // another call was faster, or Docker created it anew
	}
	if err := d.saveNetwork(r); err != nil {
		return err
	}
	left := d.dropAll(ctx, r.Docker)
	if err := d.cfg.Networks.LeaveNetwork(ctx, r, !d.shared(r.Network.ID)); err != nil {
		return errors.Join(left, fmt.Errorf("driver: network %s is removed here, the cluster will be told again: %w", short(r.Docker), err))
	}
	return errors.Join(left, d.forgetNetwork(r.Docker))
}

// dropAll removes the endpoints of a Docker network.
func (d *Driver) dropAll(ctx context.Context, docker string) error {
	var errs []error
	for _, r := range d.Endpoints() {
		if r.Docker == docker {
			errs = append(errs, d.ForgetEndpoint(ctx, r.Endpoint.ID))
		}
	}
	return errors.Join(errs...)
}

// shared reports whether a network came back under another Docker id before the
// ledger heard that it was removed.
func (d *Driver) shared(id netmap.NetworkID) bool {
	return slices.ContainsFunc(d.Networks(), func(r NetworkRecord) bool {
		return !r.Deleted && r.Network.ID == id
	})
}
