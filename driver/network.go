package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weftnet/weft/rpc"
)

// createNetwork makes a Docker network a part of the cluster's network that has
// its subnets. Docker gives no name here; it is learned beside the protocol.
func (d *Driver) createNetwork(ctx context.Context, req createNetworkRequest) (rpc.Empty, error) {
	if req.NetworkID == "" {
		return rpc.Empty{}, bad("NetworkID is empty")
	}
	want, err := parseNetwork(req)
	if err != nil {
		return rpc.Empty{}, err
	}
	if have, ok := d.network(req.NetworkID); ok {
		if !slices.Equal(have.Network.Subnets, want.Subnets) {
			return rpc.Empty{}, bad("network %s exists with subnets %v, not %v", short(req.NetworkID), have.Network.Subnets, want.Subnets)
		}
		return rpc.Empty{}, nil
	}
	if err := d.refuseTwin(want); err != nil {
		return rpc.Empty{}, err
	}
	network, err := d.cfg.Networks.EnsureNetwork(ctx, want)
	if err != nil {
		return rpc.Empty{}, fmt.Errorf("driver: %w", err)
	}
	return rpc.Empty{}, d.saveNetwork(NetworkRecord{Docker: req.NetworkID, Network: network})
}

// refuseTwin keeps two Docker networks of one host from being the same network:
// the removal of one would take the subnet from the other.
func (d *Driver) refuseTwin(want NetworkRequest) error {
	for _, r := range d.Networks() {
		for _, s := range want.Subnets {
			if !r.Leaving && slices.Contains(r.Network.Subnets, s) {
				return bad("subnet %s is in use on this host by Docker network %s; use that one, or another --subnet", s, short(r.Docker))
			}
		}
	}
	return nil
}

// deleteNetwork forgets a network. Docker ignores errors here, so a ledger that
// cannot be reached is asked again later, by Settle.
func (d *Driver) deleteNetwork(ctx context.Context, req networkRequest) (rpc.Empty, error) {
	r, ok := d.network(req.NetworkID)
	if !ok {
		return rpc.Empty{}, nil
	}
	r.Leaving = true
	if err := d.saveNetwork(r); err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, d.settle(ctx, r)
}

// Settle tells the ledger of removed networks that it has not heard of yet. The
// error is that of the last one that failed; call it again later.
func (d *Driver) Settle(ctx context.Context) error {
	var errs []error
	for _, r := range d.Networks() {
		if r.Leaving {
			errs = append(errs, d.settle(ctx, r))
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) settle(ctx context.Context, r NetworkRecord) error {
	if err := d.cfg.Networks.LeaveNetwork(ctx, r, !d.shared(r)); err != nil {
		return fmt.Errorf("driver: network %s is removed here, the cluster will be told again: %w", short(r.Docker), err)
	}
	return d.forgetNetwork(r.Docker)
}

// shared reports whether a network came back under another Docker id before the
// ledger heard that it was removed.
func (d *Driver) shared(gone NetworkRecord) bool {
	return slices.ContainsFunc(d.Networks(), func(r NetworkRecord) bool {
		return !r.Leaving && r.Network.ID == gone.Network.ID
	})
}
