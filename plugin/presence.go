package plugin

import (
	"context"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/presence"
)

// newPresence keeps the host of an agent on its networks.
func newPresence(a *Agent) *presence.Presence {
	return presence.New(presence.Config{
		Self: a.self, Facts: a.gossip, Own: a.attach, Host: a.cfg.Kernel, NotYet: ErrNoCaller,
		MemberOf: func(n netmap.Network) bool { return a.cfg.Settings.MemberOf.Has(n.Name) },
		Join:     a.AttachEndpoint, Leave: a.DetachEndpoint,
		Synced: a.gossip.Synced, Left: a.member.HasLeft,
		MTUs: func(networks []netmap.Network) (out []int) {
			local := a.local()
			for _, n := range networks {
				out = append(out, a.dataplane.DeviceOf(n, local).PortMTU)
			}
			return out
		},
		Problem: a.problem, Log: a.log,
	})
}

// yield gives up the address that a host has on a network by an endpoint of its own.
func yield(a *Agent) func(ctx context.Context, endpoint string) error {
	return func(ctx context.Context, endpoint string) error {
		_, err := a.DetachEndpoint(ctx, api.DetachRequest{Owner: netmap.OwnerHost, Endpoint: netmap.EndpointID(endpoint)})
		return err
	}
}
