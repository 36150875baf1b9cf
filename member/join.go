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

// How long one try to become a member may take, and the pause before the next.
const (
	joinTimeout = 10 * time.Second
	joinPause   = 500 * time.Millisecond
	// leasePoll is how often the boot clock is looked at: timers stand still while the
	// machine is suspended.
	leasePoll = 30 * time.Second
)

// Join makes this host a member, for ever trying, shows a new start of a member
// to the ledger, and then renews the lease. Nothing that this host owns already
// waits for the first two.
func (m *Member) Join(ctx context.Context) {
	for !m.try(ctx, m.becomeMember) {
		pause := joinPause
		if m.lease.Fenced() { // only an operator changes that
			pause = leasePoll
		}
		if !turn.Sleep(ctx, pause) {
			return
		}
	}
	m.maintain(ctx)
}

// try does what needs the ledger's word, and keeps what stands in the way.
func (m *Member) try(ctx context.Context, do func(context.Context) error) bool {
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := do(limited)
	switch {
	case err == nil:
		m.problem("membership", "")
	case ctx.Err() != nil:
	default:
		m.observeRefusal(ctx, err) // before anybody hears why
		if m.hasLeft() {
			err = errors.New(m.departure())
		}
		m.problem("membership", err.Error())
	}
	return err == nil
}

// becomeMember founds alone without WEFT_JOIN; with it, it joins, or founds
// together with others if WEFT_EXPECT says so, and never alone (DESIGN §3).
func (m *Member) becomeMember(ctx context.Context) error {
	if err := m.lease.Proven(); err != nil {
		return err
	}
	cluster, err := m.findCluster(ctx)
	if err != nil {
		return err
	}
	m.cluster.Gossip.SetCluster(cluster) // before the ledger's word may come
	generation := m.Generation()
	if err := m.observeGeneration(ctx); err != nil {
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
	if err := m.settleIn(cluster); err != nil {
		return err
	}
	return m.cfg.Store.Acknowledge(m.identity.Start)
}

// settleIn ties this host to its cluster, on disk first.
func (m *Member) settleIn(cluster netmap.ClusterID) error {
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

// findCluster is the cluster on disk, a new one, or that of the peers.
func (m *Member) findCluster(ctx context.Context) (netmap.ClusterID, error) {
	if c := m.cfg.Store.Cluster(); !c.IsZero() {
		return c, nil
	}
	if c := m.ledger.Cluster(); !c.IsZero() { // this host was founding it, then killed
		return c, m.resume(ctx, c)
	}
	if len(m.cfg.Join) == 0 {
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

// awaitMembership is passed at once by a host that was ever admitted.
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
