package replicate

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// gatewayGrace is how long docker_gwbridge may be missing before it is created again. A user
// who moves it removes it first.
const gatewayGrace = lookEvery

// gatewayKeeper remembers whether Docker listed docker_gwbridge at earlier looks.
type gatewayKeeper struct {
	seen bool      // it has been there since the agent started
	gone time.Time // when it was found missing after that; zero: it is there
}

// due notes whether the network is there, and reports whether to create it now.
func (k *gatewayKeeper) due(now time.Time, present bool) bool {
	switch {
	case present:
		k.seen, k.gone = true, time.Time{}
		return false
	case k.seen && k.gone.IsZero():
		k.gone = now
		return false
	}
	return !k.seen || now.Sub(k.gone) >= gatewayGrace
}

// keepGateway creates docker_gwbridge before a user creates a network, so that a --subnet that
// overlaps it is refused. Otherwise Docker would put docker_gwbridge on that subnet when the
// first container starts, and no container could start. Where that has happened, for instance
// to a docker_gwbridge that was created while no agent ran, keepGateway shows a problem.
func (r *Replicator) keepGateway(ctx context.Context, networks []dockerapi.Network) {
	i := slices.IndexFunc(networks, func(n dockerapi.Network) bool { return n.Name == dockerapi.GatewayNetwork })
	if i >= 0 {
		r.gateway.due(time.Now(), true)
		r.cfg.Problem("gateway", r.gatewayOverlap(networks[i]))
		return
	}
	if !r.gateway.due(time.Now(), false) {
		return
	}
	var avoid []netip.Prefix
	for _, s := range r.cfg.Facts.View().Subnets {
		avoid = append(avoid, s.Prefix)
	}
	for _, p := range r.cfg.Routes() {
		if p.Bits() > 0 {
			avoid = append(avoid, p)
		}
	}
	if err := r.cfg.Docker.CreateGateway(ctx, avoid); err != nil {
		r.cfg.Problem("gateway", fmt.Sprintf("no container can start on a network that is not --internal: %v", err))
		return
	}
	r.gateway.due(time.Now(), true)
	r.cfg.Problem("gateway", "")
	r.cfg.Log.Info("created docker_gwbridge, which the first container needs")
}

// gatewayOverlap describes the network whose subnet docker_gwbridge has on this host; empty:
// there is none.
func (r *Replicator) gatewayOverlap(gateway dockerapi.Network) string {
	for _, n := range r.cfg.Facts.View().Networks {
		if n.Retired || n.Internal || !r.cfg.Replicate && !r.has(n.ID) {
			continue
		}
		for _, p := range gateway.Shown.Pools {
			if s := slices.IndexFunc(n.Subnets, p.Subnet.Overlaps); s >= 0 {
				return fmt.Sprintf("no container can start on network %s here: docker_gwbridge, Docker's network for egress and published ports, has %s on this host, which overlaps subnet %s; stop the containers that have an address there (docker network inspect docker_gwbridge) and remove it (docker network rm docker_gwbridge): within a minute it comes back elsewhere", cmp.Or(n.Name, strconv.FormatUint(uint64(n.ID), 10)), p.Subnet, n.Subnets[s])
			}
		}
	}
	return ""
}

// has reports whether a network of the cluster is in this host's Docker.
func (r *Replicator) has(id netmap.NetworkID) bool {
	return slices.ContainsFunc(r.cfg.Driver.Networks(), func(n attach.NetworkRecord) bool { return !n.Deleted && n.Network.ID == id })
}
