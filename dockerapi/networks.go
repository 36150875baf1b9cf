package dockerapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weftnet/weft/netmap"
)

// ReplicaLabel marks a network that an agent created; its value is the cluster's
// NetworkID in decimal.
const ReplicaLabel = "weft.replica"

// Network is one network of the local Docker.
type Network struct {
	ID         string // Docker's, 64 hex digits, another one on every host
	Name       string
	Driver     string // as Docker prints it, with the tag for a managed plugin
	Ours       bool   // Driver is one of Drivers
	Swarm      bool   // of swarm scope: created on a manager of Docker's swarm
	Replica    netmap.NetworkID
	Pools      []Pool // in Docker's order, IPv4 first
	Internal   bool
	IPv6       bool
	Attachable bool
	Options    map[string]string // docker network create -o
	Labels     map[string]string
}

// Pool is one subnet of a network, as Docker knows it. Only Subnet is always set.
type Pool struct {
	Subnet  netip.Prefix
	Range   netip.Prefix // --ip-range
	Gateway netip.Addr
	Aux     map[string]netip.Addr // --aux-address
}

// Networks lists all networks of the local Docker, sorted by name, then id. Those
// of other drivers are listed because they hold names and subnets.
func (d *Docker) Networks(ctx context.Context) ([]Network, error) {
	drivers, err := d.Drivers(ctx)
	if err != nil {
		return nil, err
	}
	list, err := d.list(ctx, client.Filters{})
	if err != nil {
		return nil, err
	}
	out := make([]Network, 0, len(list))
	for _, n := range list {
		out = append(out, fromDocker(n, drivers))
	}
	slices.SortFunc(out, func(a, b Network) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (d *Docker) list(ctx context.Context, filters client.Filters) ([]network.Network, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := d.api().NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		return nil, fmt.Errorf("dockerapi: cannot list networks: %w", err)
	}
	out := make([]network.Network, 0, len(list.Items))
	for _, n := range list.Items {
		out = append(out, n.Network)
	}
	return out, nil
}

func fromDocker(n network.Network, drivers []string) Network {
	out := Network{
		ID: n.ID, Name: n.Name, Driver: n.Driver,
		Ours:     slices.Contains(drivers, n.Driver),
		Swarm:    n.Scope == "swarm",
		Replica:  replicaOf(n.Labels),
		Internal: n.Internal, IPv6: n.EnableIPv6, Attachable: n.Attachable,
		Options: n.Options, Labels: n.Labels,
	}
	for _, p := range n.IPAM.Config {
		if p.Subnet.IsValid() {
			out.Pools = append(out.Pools, Pool{Subnet: p.Subnet, Range: p.IPRange, Gateway: p.Gateway, Aux: p.AuxAddress})
		}
	}
	return out
}

// replicaOf is the network that the label names. A label that is no number was
// written by somebody else, and the network is none of our replicas.
func replicaOf(labels map[string]string) netmap.NetworkID {
	id, err := strconv.ParseUint(labels[ReplicaLabel], 10, 64)
	if err != nil {
		return 0
	}
	return netmap.NetworkID(id)
}
