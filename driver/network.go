package driver

import (
	"cmp"
	"context"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/rpc"
)

// createNetwork makes a Docker network part of the cluster's network that has the same subnets.
// The request does not have the network's name; the agent reads it from Docker's API.
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

// refuseSwarm refuses a network of swarm scope. Docker does not call the driver when such a
// network is created, so the user sees this as the error of each task on it. Only managers know
// the network's name; other hosts show its id.
func (d *Driver) refuseSwarm(id string) error {
	name := cmp.Or(d.docker.RefusedSwarm(id), id)
	return bad("network %s: Weft does not support --scope swarm yet; remove the network, and create it without --scope swarm for containers of docker run and docker compose, where it spans all hosts of the Weft cluster; services of a swarm need Docker's own driver, -d overlay", name)
}

// deleteNetwork removes a network. Docker ignores an error here, so if the ledger cannot be
// reached, attach.Attachments.FinishDeletions tells it later.
func (d *Driver) deleteNetwork(ctx context.Context, req api.DeleteNetworkRequest) (rpc.Empty, error) {
	d.docker.Deleted(req.NetworkID)
	return rpc.Empty{}, d.attach.ForgetNetwork(ctx, req.NetworkID)
}
