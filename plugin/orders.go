package plugin

import (
	"context"
	"time"

	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/dns/orders"
	"github.com/weftnet/weft/follow"
)

// askedNames answers operators who ask for names.
type askedNames struct {
	*orders.Orders
	names *dns.Names
	facts follow.Source
}

func (a *Agent) openNames() *askedNames {
	n := &askedNames{names: dns.New(dns.Config{Self: a.self, Alive: a.member.Alive, Marathon: true}), facts: a.gossip}
	n.Orders = orders.New(orders.Config{Names: n.names, View: a.gossip.View, Decide: a.member.Decide})
	return n
}

// follow keeps the names equal to the facts until ctx ends.
func (n *askedNames) follow(ctx context.Context) {
	for look := range follow.Facts(ctx, n.facts, follow.When{Every: time.Hour}) {
		n.names.Apply(look.Changes())
	}
}
