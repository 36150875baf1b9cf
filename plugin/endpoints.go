package plugin

import (
	"context"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/endpoints"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// others is for endpoints that are not Docker's.
func others(a *Agent) endpoints.Config {
	cfg := endpoints.Config{
		Attach: a.attach, IPAM: a.ipam, Nameserver: a.resolver.Nameserver, Log: a.log,
		Network: func(name string) (netmap.Network, error) { return findNetwork(a.gossip.View(), name) },
		MTU:     func(n netmap.Network) int { return a.dataplane.DeviceOf(n, a.local()).PortMTU },
		Enter: func(ctx context.Context, id netmap.EndpointID, sandbox string, ns *netns.Namespace, name string) error {
			defer a.routes.Changed()
			return putInside(ctx, a, id, sandbox, ns, name)
		},
	}
	if a.cfg.Sandboxes != nil {
		cfg.Open = a.cfg.Sandboxes.Open
	}
	return cfg
}

// putInside makes the interface of an endpoint in its sandbox, unless it has left that meanwhile.
func putInside(ctx context.Context, a *Agent, id netmap.EndpointID, sandbox string, ns *netns.Namespace, name string) error {
	return a.attach.WhileJoined(ctx, id, func(r attach.EndpointRecord) error {
		in, local := linux.Inside{NS: ns, Name: name}, a.local()
		i := slices.IndexFunc(local.Networks, func(n netmap.Network) bool { return n.ID == r.Endpoint.Network })
		if i < 0 || r.Sandbox != sandbox {
			return nil // it has left
		}
		n := local.Networks[i]
		for _, subnet := range n.Subnets {
			for _, addr := range []netip.Addr{r.Endpoint.V4, r.Endpoint.V6} {
				if subnet.Contains(addr) {
					in.Addrs = append(in.Addrs, netip.PrefixFrom(addr, subnet.Bits()))
				}
			}
		}
		return a.cfg.Kernel.Restore(ctx, a.dataplane.DeviceOf(n, local), portOf(r.Endpoint), in)
	})
}
