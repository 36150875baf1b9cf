package plugin

import (
	"context"
	"time"

	"github.com/weftnet/weft/follow"
)

// followNames keeps the names equal to the facts until ctx ends.
func (a *Agent) followNames(ctx context.Context) {
	for look := range follow.Facts(ctx, a.gossip, follow.When{Every: time.Hour}) {
		a.called.Apply(look.Changes())
	}
}
