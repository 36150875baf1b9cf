package driver

import (
	"cmp"
	"context"

	api "github.com/docker/go-plugins-helpers/network"

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
	return rpc.Empty{}, d.attach.JoinNetwork(ctx, want)
}

// refuseSwarm refuses a network of swarm scope. Docker asks nobody when such a network is
// created: this is the error of each task on it. The name is known on managers only.
func (d *Driver) refuseSwarm(id string) error {
	name := cmp.Or(d.docker.RefusedSwarm(id), id)
	return bad("network %s: Weft does not support --scope swarm yet; remove the network, and create it without --scope swarm for containers of docker run and docker compose, where it spans all hosts of the Weft cluster; services of a swarm need Docker's own driver, -d overlay", name)
}

// deleteNetwork forgets a network. Docker ignores errors here, so a ledger that
// cannot be reached is asked again later, by attach.Attachments.FinishDeletions.
func (d *Driver) deleteNetwork(ctx context.Context, req api.DeleteNetworkRequest) (rpc.Empty, error) {
	d.docker.Deleted(req.NetworkID)
	return rpc.Empty{}, d.attach.ForgetNetwork(ctx, req.NetworkID)
}
