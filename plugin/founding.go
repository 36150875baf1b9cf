package plugin

import (
	"context"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// openFounding lets this host take part in founding a cluster together with others
// (WEFT_EXPECT). It answers them as long as this host is in no cluster.
func (a *Agent) openFounding() (err error) {
	a.together, err = ledger.OpenFounding(ledger.FoundingConfig{
		Self: a.self, Name: a.fact.Name, Addr: a.fact.Underlay, Expect: a.cfg.Settings.Expect, Ranges: a.cfg.Settings.Ranges,
		Seeds: a.peers.Seeds, Newcomers: a.newcomers, Cluster: a.clusterSoFar,
		Underlay: a.port, Disk: a.store.Bucket("founding"), Log: a.log,
	})
	return err
}

// clusterSoFar is the cluster that this host is in or is about to be in.
func (a *Agent) clusterSoFar() netmap.ClusterID {
	if c := a.store.Cluster(); !c.IsZero() {
		return c
	}
	return a.ledger.Cluster()
}

// newcomers are the other live hosts that are in no cluster.
func (a *Agent) newcomers() []ledger.Member {
	var out []ledger.Member
	for _, m := range a.gossip.Members() {
		if m.Alive && m.Cluster.IsZero() {
			out = append(out, ledger.Member{ID: m.ID, Name: m.Name, Addr: m.Addr, Alive: true})
		}
	}
	return out
}

// expects reports whether this host waits for others to found a cluster with.
func (a *Agent) expects() bool {
	return a.cfg.Settings.Expect > 0 && len(a.cfg.Settings.Join) > 0
}

// resume goes on with a founding that this host was killed in, or with becoming a
// member: a keeper of a cluster that it is no member of began the cluster's ledger.
func (a *Agent) resume(ctx context.Context, c netmap.ClusterID) error {
	if a.ledger.Status().Role == "none" {
		return nil
	}
	plan, ok := a.together.Plan(c)
	if !ok {
		plan = ledger.Plan{Cluster: c, Ranges: a.cfg.Settings.Ranges} // its keepers are in the log
	}
	return a.carryOut(ctx, plan)
}

// foundTogether makes one attempt to found a cluster with the others that are here,
// or joins the one that they have founded.
func (a *Agent) foundTogether(ctx context.Context) (netmap.ClusterID, error) {
	c, err := a.clusterOfPeers()
	if err == nil {
		if plan, ok := a.together.Plan(c); ok { // it was chosen, and this host did not hear of it
			return c, a.carryOut(ctx, plan)
		}
		return c, nil
	}
	if a.anyMember() {
		return netmap.ClusterID{}, err // of two clusters: that is no founding
	}
	plan, err := a.together.Try(ctx)
	if err != nil {
		return netmap.ClusterID{}, err
	}
	return plan.Cluster, a.carryOut(ctx, plan)
}

func (a *Agent) carryOut(ctx context.Context, plan ledger.Plan) error {
	a.gossip.SetCluster(plan.Cluster)
	_, err := a.ledger.FoundTogether(ctx, plan)
	return err
}

// anyMember reports whether a live host is in some cluster.
func (a *Agent) anyMember() bool {
	for _, m := range a.gossip.Members() {
		if m.Alive && !m.Cluster.IsZero() {
			return true
		}
	}
	return false
}
