package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// How long one attempt to become a member may take, and the pause before the next.
const (
	joinTimeout = 10 * time.Second
	joinPause   = 500 * time.Millisecond
	// leasePoll is how often the boot clock is read: timers stand still while the machine is
	// suspended.
	leasePoll = 30 * time.Second
)

// Join makes this host a member, or tells the ledger about a new start of a member. It tries
// until it succeeds or ctx ends, and then renews the lease. Containers use what this host holds
// already meanwhile.
func (m *Member) Join(ctx context.Context) {
	for !m.try(ctx, m.becomeMember) {
		pause := joinPause
		if m.lease.Fenced() { // until an operator acts
			pause = leasePoll
		}
		if !turn.Sleep(ctx, pause) {
			return
		}
	}
	m.maintain(ctx)
}

// try runs an attempt that needs the ledger, and shows why it failed.
func (m *Member) try(ctx context.Context, do func(context.Context) error) bool {
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := do(limited)
	switch {
	case err == nil:
		m.problem("membership", "")
	case ctx.Err() != nil:
	default:
		m.endIfFenced(ctx, err) // before the problem is shown
		if m.HasLeft() {
			err = errors.New(m.departure())
		}
		m.problem("membership", err.Error())
	}
	return err == nil
}

// becomeMember founds a cluster of one host if WEFT_JOIN is not set. Otherwise it joins a
// cluster, or founds one together with other hosts if WEFT_EXPECT says so, and never alone
// (DESIGN §3).
func (m *Member) becomeMember(ctx context.Context) error {
	if err := m.lease.Proven(); err != nil {
		return err
	}
	cluster, err := m.findCluster(ctx)
	if err != nil {
		return err
	}
	m.cluster.Gossip.SetCluster(cluster) // before decisions may arrive
	generation := m.Generation()
	if err := m.ensureDeclared(ctx); err != nil {
		return err
	}
	sent, err := m.clocks.Sending()
	if err != nil {
		return err
	}
	r, err := m.ledger.Admit(ctx)
	if err != nil {
		return err
	}
	if err := m.compare(ctx, generation, r.Index); err != nil {
		return err
	}
	if err := m.lease.Grant(sent); err != nil {
		return err
	}
	if err := m.enterCluster(cluster); err != nil {
		return err
	}
	return m.cfg.Store.Acknowledge(m.identity.Start)
}

// enterCluster makes this host a member of a cluster, on disk first.
func (m *Member) enterCluster(cluster netmap.ClusterID) error {
	if err := m.cfg.Store.SetCluster(cluster); err != nil {
		return err
	}
	select {
	case <-m.admitted:
	default:
		close(m.admitted)
		m.cfg.Log.Info("member of the cluster", "cluster", cluster, "host", m.self)
	}
	return nil
}

// findCluster returns the cluster on disk, a new one, or that of the peers.
func (m *Member) findCluster(ctx context.Context) (netmap.ClusterID, error) {
	if c := m.cfg.Store.Cluster(); !c.IsZero() {
		return c, nil
	}
	if c := m.ledger.Cluster(); !c.IsZero() { // it was killed while it founded the cluster
		return c, m.resume(ctx, c)
	}
	if len(m.cfg.Join) == 0 {
		if err := m.rangesAreFree(); err != nil {
			return netmap.ClusterID{}, err
		}
		m.cluster.Gossip.SetCluster(m.founds)
		_, err := m.ledger.Found(ctx, m.founds, m.cfg.Ranges)
		return m.founds, err
	}
	if m.expects() {
		return m.foundTogether(ctx)
	}
	return m.clusterOfPeers()
}

func (m *Member) clusterOfPeers() (netmap.ClusterID, error) {
	members := m.cluster.Gossip.Members()
	members = slices.DeleteFunc(members, func(other gossip.Member) bool { return !other.Alive || other.Cluster.IsZero() })
	if len(members) == 0 {
		return netmap.ClusterID{}, fmt.Errorf("no member of a cluster answers at WEFT_JOIN=%v; start one host without WEFT_JOIN, it founds the cluster, and open port %d tcp and udp between the hosts", m.cfg.Join, m.cfg.Port)
	}
	for _, other := range members[1:] {
		if other.Cluster != members[0].Cluster {
			return netmap.ClusterID{}, fmt.Errorf("the peers belong to two clusters: %s (host %s) and %s (host %s); set WEFT_JOIN to hosts of one of them", members[0].Cluster, members[0].Name, other.Cluster, other.Name)
		}
	}
	return members[0].Cluster, nil
}

// awaitMembership waits until this host is a member of a cluster. A host that was ever admitted
// does not wait.
func (m *Member) awaitMembership(ctx context.Context) error {
	if !m.cfg.Store.Cluster().IsZero() {
		return nil
	}
	select {
	case <-m.admitted:
		return nil
	case <-ctx.Done():
		return errors.New(cmp.Or(m.whyNotYet(), "this host is not a member of a cluster yet"))
	}
}
