package dockerapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weftnet/weft/netmap"
)

// ReplicaOption marks a network that an agent created; its value is the cluster's
// NetworkID in decimal. It is an option because Docker tells the driver of these, and
// since programs such as Compose compare the labels of a network with what they expect.
const ReplicaOption = "weft.replica"

// Network is one network of the local Docker.
type Network struct {
	ID       string // Docker's, 64 hex digits, another one on every host
	Name     string
	Driver   string // as Docker prints it, with the tag for a managed plugin
	Ours     bool   // Driver is one of Drivers
	Swarm    bool   // of swarm scope: created on a manager of Docker's swarm
	Replica  netmap.NetworkID
	Internal bool
	Shown    netmap.DockerNetwork // what else Docker shows, with the mark of a replica
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
		Replica:  replicaOf(n.Options),
		Internal: n.Internal,
		Shown: netmap.DockerNetwork{
			Labels: n.Labels, Options: n.Options, IPAMOptions: n.IPAM.Options, Attachable: n.Attachable, IPv6: n.EnableIPv6,
		},
	}
	for _, p := range n.IPAM.Config {
		if p.Subnet.IsValid() {
			out.Shown.Pools = append(out.Shown.Pools, netmap.DockerPool{Subnet: p.Subnet.Masked(), Range: p.IPRange.Masked(), Gateway: p.Gateway, Aux: p.AuxAddress})
		}
	}
	return out
}

// replicaOf returns the network that the option names. If the value is no number, a user
// wrote it, and the network is not a replica.
func replicaOf(options map[string]string) netmap.NetworkID {
	id, err := strconv.ParseUint(options[ReplicaOption], 10, 64)
	if err != nil {
		return 0
	}
	return netmap.NetworkID(id)
}
