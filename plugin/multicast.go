package plugin

import (
	"context"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/endpoints"
	"github.com/weftnet/weft/multicast"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// newRoutes returns what knows the interfaces of this host's containers, and leads their multicasts over them.
func newRoutes(a *Agent) *multicast.Routes {
	routes := multicast.Config{Members: func() []multicast.Member { return inside(a.attach) }, Route: a.cfg.InContainer, Restore: restore(a), Gone: func(ctx context.Context, id netmap.EndpointID) { a.Lost(ctx, id) }, Problem: a.problem}
	if a.cfg.Sandboxes != nil {
		routes.Open = a.cfg.Sandboxes.Open
	}
	return multicast.New(routes)
}

// inside lists the endpoints in sandboxes.
func inside(attached *attach.Attachments) (out []multicast.Member) {
	has := map[netmap.NetworkID]bool{}
	for _, n := range attached.Networks() {
		has[n.Network.ID] = n.Network.Multicast
	}
	for _, e := range attached.Endpoints() {
		if p := e.Endpoint; e.Joined && e.Sandbox != "" {
			out = append(out, multicast.Member{Endpoint: p.ID, Sandbox: e.Sandbox, MAC: portOf(p).HardwareAddr(), Groups: p.V4.IsValid() && has[p.Network]})
		}
	}
	return out
}

// restore makes a port again whose interface a container has lost.
func restore(a *Agent) func(context.Context, multicast.Member, *netns.Namespace, string) error {
	return func(ctx context.Context, m multicast.Member, ns *netns.Namespace, name string) error {
		a.log.Warn("a container has lost its interface: it is made again", "endpoint", m.Endpoint, "interface", name)
		return putInside(ctx, a, m.Endpoint, m.Sandbox, ns, name)
	}
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
