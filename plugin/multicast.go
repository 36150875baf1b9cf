package plugin

import (
	"context"

	"github.com/weftnet/weft/attach"
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
		a.log.Warn("a container has lost its interface: it is made again", "container", a.names.Container(m.Endpoint), "endpoint", m.Endpoint, "interface", name)
		return putInside(ctx, a, m.Endpoint, m.Sandbox, ns, name)
	}
}
