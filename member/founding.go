package member

import (
	"context"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/netmap"
)

// openFounding prepares to found a cluster together with other hosts (WEFT_EXPECT). It answers
// them while this host is in no cluster.
func (m *Member) openFounding() (err error) {
	m.together, err = founding.Open(founding.Config{
		Self: m.self, Name: m.cfg.Name, Addr: m.cluster.At, Expect: m.cfg.Expect, Ranges: m.cfg.Ranges,
		Seeds: m.cluster.Seeds, Newcomers: m.newcomers, Cluster: m.clusterSoFar,
		Free: m.rangesAreFree, Underlay: m.cluster.Port, Disk: m.cfg.Bucket("founding"), Log: m.cfg.Log,
	})
	return err
}

// clusterSoFar returns the cluster that this host is in or is about to join.
func (m *Member) clusterSoFar() netmap.ClusterID {
	if c := m.cfg.Store.Cluster(); !c.IsZero() {
		return c
	}
	return m.ledger.Cluster()
}

// rangesAreFree refuses ranges of a new cluster that overlap networks that this host has already: containers with such
// addresses and the machines there could not reach each other.
func (m *Member) rangesAreFree() error {
	if m.cfg.Routes == nil {
		return nil
	}
	routes := m.cfg.Routes()
	for _, p := range m.cfg.Ranges {
		if r, is := ipam.Collision(routes, p); is {
			return netmap.Refuse(netmap.Overlaps, "no cluster is founded: the range %s overlaps %s (%s) of this host; set WEFT_RANGE to one that no host's network has, the same on all hosts", p, r.Prefix, r.Name)
		}
	}
	return nil
}

// newcomers returns the other live hosts that are in no cluster.
func (m *Member) newcomers() []founding.Host {
	var out []founding.Host
	for _, other := range m.cluster.Gossip.Members() {
		if other.Alive && other.Cluster.IsZero() {
			out = append(out, founding.Host{ID: other.ID, Name: other.Name, Addr: other.Addr})
		}
	}
	return out
}

// expects reports whether this host founds a cluster together with others.
func (m *Member) expects() bool {
	return m.cfg.Expect != 0 && len(m.cfg.Join) > 0
}

// resume continues after the agent was killed while it founded a cluster, or between that and
// its admission: the ledger of a cluster is on disk, and this host is no member of it.
func (m *Member) resume(ctx context.Context, c netmap.ClusterID) error {
	if m.ledger.Status().Role == "none" {
		return nil
	}
	plan, ok := m.together.Plan(c)
	if !ok {
		plan = founding.Plan{Cluster: c, Ranges: m.cfg.Ranges} // its keepers are in the log
	}
	return m.carryOut(ctx, plan)
}

// foundTogether tries once to found a cluster with the other hosts that are there, or to join
// the one that they have founded.
func (m *Member) foundTogether(ctx context.Context) (netmap.ClusterID, error) {
	c, err := m.clusterOfPeers()
	if err == nil {
		if plan, ok := m.together.Plan(c); ok { // the others have decided it without this host
			return c, m.carryOut(ctx, plan)
		}
		return c, nil
	}
	if m.anyMember() {
		return netmap.ClusterID{}, err // they are of two clusters
	}
	if err := m.rangesAreFree(); err != nil {
		return netmap.ClusterID{}, err
	}
	plan, err := m.together.Try(ctx)
	if err != nil {
		return netmap.ClusterID{}, err
	}
	return plan.Cluster, m.carryOut(ctx, plan)
}

func (m *Member) carryOut(ctx context.Context, plan founding.Plan) error {
	m.cluster.Gossip.SetCluster(plan.Cluster)
	_, err := m.ledger.FoundTogether(ctx, plan)
	return err
}

// anyMember reports whether a live host is in a cluster.
func (m *Member) anyMember() bool {
	for _, other := range m.cluster.Gossip.Members() {
		if other.Alive && !other.Cluster.IsZero() {
			return true
		}
	}
	return false
}
