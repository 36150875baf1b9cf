package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// GatewayNetwork is the bridge network that Docker gives every container whose own
// networks have no gateway, for egress and published ports. Docker creates it when the
// first such container starts.
const GatewayNetwork = "docker_gwbridge"

// gatewayOptions are those with which Docker creates it (libnetwork's createGWNetwork).
func gatewayOptions() map[string]string {
	return map[string]string{
		"com.docker.network.bridge.name":                 GatewayNetwork,
		"com.docker.network.bridge.enable_icc":           "false",
		"com.docker.network.bridge.enable_ip_masquerade": "true",
	}
}

// CreateGateway creates docker_gwbridge as Docker does, before a container needs it. If
// Docker chooses a subnet that is to be avoided, it gets a free /16 of 172.16.0.0/12, where
// Docker puts its networks by default; if none is free it keeps the subnet that Docker
// chose. It is no error if Docker has created the network meanwhile.
func (d *Docker) CreateGateway(ctx context.Context, avoid []netip.Prefix) error {
	id, err := d.createGateway(ctx, netip.Prefix{})
	if err != nil || id == "" {
		return err
	}
	made, err := d.inspect(ctx, id)
	if err != nil {
		return err
	}
	free := vacant(avoid)
	if !free.IsValid() || !slices.ContainsFunc(made.IPAM.Config, func(c network.IPAMConfig) bool { return overlaps(c.Subnet, avoid) }) {
		return nil
	}
	if err := d.RemoveNetwork(ctx, id); err != nil && !errors.Is(err, ErrInUse) {
		return err
	}
	_, err = d.createGateway(ctx, free)
	return err
}

// createGateway returns an empty id if there is such a network already.
func (d *Docker) createGateway(ctx context.Context, subnet netip.Prefix) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	options := client.NetworkCreateOptions{Driver: "bridge", Options: gatewayOptions()}
	if subnet.IsValid() {
		options.IPAM = &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: subnet}}}
	}
	made, err := d.api().NetworkCreate(ctx, GatewayNetwork, options)
	if err == nil {
		return made.ID, nil
	}
	if others, listErr := d.named(ctx, GatewayNetwork, ""); errdefs.IsConflict(err) || listErr == nil && len(others) > 0 {
		return "", nil
	}
	return "", fmt.Errorf("dockerapi: cannot create network %s: %w", GatewayNetwork, err)
}

// vacant returns the first /16 of 172.16.0.0/12 that overlaps none of these, or zero.
func vacant(avoid []netip.Prefix) netip.Prefix {
	for second := byte(17); second < 32; second++ {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second}), 16); !overlaps(p, avoid) {
			return p
		}
	}
	return netip.Prefix{}
}

func overlaps(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, p.Overlaps)
}
