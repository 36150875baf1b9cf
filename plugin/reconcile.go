package plugin

import (
	"context"
	"slices"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/dataplane"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// finishEvery is the pause between attempts of finishDeletions, and finishTimeout limits one.
const (
	finishEvery   = 30 * time.Second
	finishTimeout = 10 * time.Second
)

// wake has the kernel compared with the facts soon. It never blocks.
func (a *Agent) wake() { turn.Poke(a.kick) }

// reconcile makes the kernel equal to what the facts say: when those change that concern it, when this
// host's endpoints or its underlay do, and every dataplane.Every, in case somebody else changed the
// kernel (invariant 8).
func (a *Agent) reconcile(ctx context.Context) {
	concerned := func(c netmap.Changes) bool { return c.Ranges || a.dataplane.Concerned(c) }
	for look := range follow.Facts(ctx, a.gossip, follow.When{Every: dataplane.Every, Wake: a.kick, Of: concerned}) {
		if a.moved.Swap(false) || look.Due {
			a.checkUnderlay()
		}
		a.dataplane.Follow(ctx, look)
		view := look.View()
		a.problem("ranges", rangeProblem(a.cfg.Settings.Ranges, view.Ranges))
		a.ledger.Announced(view.Keepers())
	}
}

// View returns what this host knows about the cluster.
func (a *Agent) View() *netmap.View { return a.gossip.View() }

// Desired returns what this host's kernel should hold now. It reads whether the facts are
// synced before it reads the facts. In the other order, an incomplete view could count as
// complete, and working forwarding entries would be removed (invariant 7).
func (a *Agent) Desired() datapath.State {
	local := a.local()
	return datapath.Desired(a.gossip.View(), a.self, local)
}

// local returns what this host knows about itself without the other hosts.
func (a *Agent) local() datapath.Local {
	a.mu.Lock()
	at := place{Addr: a.fact.Underlay.Addr(), MTU: a.fact.MTU}
	a.mu.Unlock()
	l := datapath.Local{
		Source: at.Addr, UnderlayMTU: at.MTU, MTU: a.cfg.Settings.MTU,
		UDPPort: a.cfg.Settings.VXLANPort, Synced: a.gossip.Synced(),
	}
	for _, r := range a.attach.Networks() {
		twin := slices.ContainsFunc(l.Networks, func(n netmap.Network) bool { return n.ID == r.Network.ID }) // of another owner
		if !r.Deleted && !twin {
			l.Networks = append(l.Networks, r.Network)
		}
	}
	for _, r := range a.attach.Endpoints() {
		if r.Joined {
			l.Ports = append(l.Ports, portOf(r.Endpoint))
		}
	}
	return l
}

func portOf(e netmap.Endpoint) datapath.Port {
	return datapath.Port{Endpoint: e.ID, Network: e.Network, V4: e.V4, V6: e.V6, MAC: e.MAC}
}

// Plug implements attach.Ports.
func (a *Agent) Plug(ctx context.Context, e netmap.Endpoint) (string, error) {
	local := a.local()
	for _, n := range local.Networks {
		if n.ID == e.Network {
			name, err := a.cfg.Kernel.Plug(ctx, a.dataplane.DeviceOf(n, local), portOf(e))
			a.dataplane.Plugged(portOf(e), err)
			return name, err
		}
	}
	return "", netmap.Refuse(netmap.Unknown, "network %d of endpoint %.12s is not one of this host; start its container again", e.Network, e.ID)
}

// Unplug implements attach.Ports.
func (a *Agent) Unplug(ctx context.Context, id netmap.EndpointID) error {
	err := a.cfg.Kernel.Unplug(ctx, id)
	a.dataplane.Unplugged(id)
	return err
}

// Changed implements attach.Ports.
func (a *Agent) Changed() {
	a.wake()
	a.presence.Changed()
}

// finishDeletions leaves networks for the ledger that were removed here while it could not be reached.
func (a *Agent) finishDeletions(ctx context.Context) {
	for turn.Sleep(ctx, finishEvery) {
		try, cancel := context.WithTimeout(ctx, finishTimeout)
		if err := a.attach.FinishDeletions(try); err != nil && ctx.Err() == nil {
			a.log.Warn("the ledger has not been told yet that networks were removed here", "err", err)
		}
		cancel()
	}
}
