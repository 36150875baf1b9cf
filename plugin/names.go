package plugin

import (
	"context"

	"github.com/weftnet/weft/consul"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/dns/containers"
	"github.com/weftnet/weft/dns/orders"
	"github.com/weftnet/weft/dns/resolver"
	"github.com/weftnet/weft/netmap"
)

// followNames learns from Docker how this host's containers are called, until ctx ends.
func (a *Agent) followNames(ctx context.Context) {
	containers.Follow(ctx, containers.Config{Docker: a.cfg.Docker, Names: a.names, Called: a.called, Told: a.consul.Told, Problem: a.problem, Nameless: func() bool {
		for _, r := range a.attach.Of(netmap.OwnerDocker).Endpoints() {
			if r.Joined && a.names.Container(r.Endpoint.ID) == "" {
				return true
			}
		}
		return false
	}})
}

func (a *Agent) openResolver() {
	all := a.cfg.Settings
	a.consul = consul.New(consul.Config{URL: all.Consul, State: all.HostPath(all.State), Self: a.self, Facts: a.gossip, Endpoint: a.attach.Endpoint, Disk: a.store.Bucket(consul.Bucket), Problem: a.problem, Log: a.log})
	s := all.DNS
	cfg := resolver.Config{
		Names:     dns.Config{Self: a.self, Domain: s.Domain, TTL: s.TTL, PreferLocal: s.PreferLocal, Health: s.Health, Marathon: s.Marathon},
		Facts:     a.gossip,
		Endpoints: a.attach.Endpoints, Containers: a.names, Zones: s.Zones, Listen: s.Listen, Problem: a.problem, Log: a.log,
	}
	if s.On && a.cfg.Sandboxes != nil {
		cfg.Host = &resolver.Host{Open: a.cfg.Sandboxes.Open, Watch: func(ctx context.Context, _ func()) { <-ctx.Done() }} // the agent tells it
	}
	a.resolver = resolver.New(cfg)
	a.Orders = orders.New(orders.Config{Names: a.resolver.Names(), View: a.gossip.View, Decide: a.member.Decide, AskDocker: a.resolver.AskDocker, Since: a.history.Since})
}
