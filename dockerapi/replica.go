package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weftnet/weft/netmap"
)

// ReplicaSpec is what a network of the cluster looks like in a Docker.
type ReplicaSpec struct {
	Network  netmap.NetworkID // 0: it is no replica, but made as a user makes a network
	Name     string
	Driver   string // for -d and --ipam-driver, one of Drivers
	Internal bool
	Shown    netmap.DockerNetwork // what else Docker is to show
}

// CreateReplica creates the network and answers Docker's id of it. It fails with
// ErrNameTaken if the name is in use, also when a user took it at the same
// moment: Docker before API 1.44 would then keep both.
func (d *Docker) CreateReplica(ctx context.Context, spec ReplicaSpec) (string, error) {
	if others, err := d.named(ctx, spec.Name, ""); err != nil || len(others) > 0 {
		return "", taken(spec.Name, others, err)
	}
	id, err := d.create(ctx, spec)
	if err != nil {
		return "", err
	}
	others, err := d.named(ctx, spec.Name, id)
	if err != nil || len(others) == 0 {
		return id, err
	}
	return "", errors.Join(taken(spec.Name, others, nil), d.RemoveNetwork(ctx, id))
}

func (d *Docker) create(ctx context.Context, spec ReplicaSpec) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	made, err := d.api().NetworkCreate(ctx, spec.Name, createOptions(spec))
	switch {
	case errdefs.IsConflict(err):
		return "", fmt.Errorf("dockerapi: cannot create network %s: %w: %w", spec.Name, ErrNameTaken, err)
	case err != nil:
		return "", fmt.Errorf("dockerapi: cannot create network %s: %w", spec.Name, err)
	}
	return made.ID, nil
}

func createOptions(spec ReplicaSpec) client.NetworkCreateOptions {
	shown := spec.Shown
	ipam := &network.IPAM{Driver: spec.Driver, Options: shown.IPAMOptions}
	v4 := false
	for _, p := range shown.Pools {
		v4 = v4 || p.Subnet.Addr().Is4()
		ipam.Config = append(ipam.Config, network.IPAMConfig{
			Subnet: p.Subnet, IPRange: p.Range, Gateway: p.Gateway, AuxAddress: p.Aux,
		})
	}
	marked := map[string]string{}
	maps.Copy(marked, shown.Options)
	if spec.Network != 0 {
		marked[ReplicaOption] = strconv.FormatUint(uint64(spec.Network), 10)
	}
	options := client.NetworkCreateOptions{
		Driver: spec.Driver, IPAM: ipam, EnableIPv6: &shown.IPv6, Attachable: shown.Attachable,
		Internal: spec.Internal, Options: marked, Labels: shown.Labels,
	}
	if shown.IPv6 && !v4 {
		options.EnableIPv4 = &v4 // from API 1.48 on; an engine before has IPv4 on every network
	}
	return options
}

// named lists the ids of networks with exactly this name, other than except.
func (d *Docker) named(ctx context.Context, name, except string) ([]string, error) {
	list, err := d.list(ctx, client.Filters{}.Add("name", name)) // any part of the name
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range list {
		if n.Name == name && n.ID != except {
			out = append(out, n.ID)
		}
	}
	return out, nil
}

func taken(name string, others []string, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("dockerapi: cannot create network %s: network %s of this Docker has that name: %w", name, others[0], ErrNameTaken)
}

// RemoveNetwork removes a network by Docker's id. One that does not exist is
// removed already; one with running containers stays, with ErrInUse.
func (d *Docker) RemoveNetwork(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err := d.api().NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	switch {
	case err == nil, notFound(err):
		return nil
	case errdefs.IsPermissionDenied(err), errdefs.IsConflict(err):
		return fmt.Errorf("dockerapi: network %s stays: %w: %w", id, ErrInUse, err)
	default:
		return fmt.Errorf("dockerapi: cannot remove network %s: %w", id, err)
	}
}
