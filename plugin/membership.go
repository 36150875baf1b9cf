package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// How long one try to become a member may take, and the pause before the next.
const (
	joinTimeout = 10 * time.Second
	joinPause   = 500 * time.Millisecond
)

// join makes this host a member, for ever trying, and shows a new start of a
// member to the ledger. Nothing that this host owns already waits for it.
func (a *Agent) join(ctx context.Context) {
	for {
		try, cancel := context.WithTimeout(ctx, joinTimeout)
		err := a.becomeMember(try)
		cancel()
		if err == nil {
			a.problem("membership", "")
			return
		}
		if ctx.Err() == nil {
			a.problem("membership", err.Error())
		}
		if !rest(ctx, joinPause) {
			return
		}
	}
}

// becomeMember founds alone without WEFT_JOIN; with it, it joins and never
// founds (DESIGN §3).
func (a *Agent) becomeMember(ctx context.Context) error {
	cluster, err := a.findCluster(ctx)
	if err != nil {
		return err
	}
	a.gossip.SetCluster(cluster) // before the ledger's word may come
	if _, err := a.ledger.Admit(ctx); err != nil {
		return err
	}
	if err := a.settleIn(cluster); err != nil {
		return err
	}
	return a.store.Acknowledge(a.identity.Start)
}

// settleIn ties this host to its cluster, on disk first.
func (a *Agent) settleIn(cluster netmap.ClusterID) error {
	if err := a.store.SetCluster(cluster); err != nil {
		return err
	}
	select {
	case <-a.member:
	default:
		close(a.member)
		a.log.Info("member of the cluster", "cluster", cluster, "host", a.self)
	}
	return nil
}

// findCluster is the cluster on disk, a new one, or that of the peers.
func (a *Agent) findCluster(ctx context.Context) (netmap.ClusterID, error) {
	if c := a.store.Cluster(); !c.IsZero() {
		return c, nil
	}
	if c := a.ledger.Cluster(); !c.IsZero() { // founded, then killed
		return c, nil
	}
	if len(a.cfg.Settings.Join) == 0 {
		a.gossip.SetCluster(a.founding)
		_, err := a.ledger.Found(ctx, a.founding, a.cfg.Settings.Ranges)
		return a.founding, err
	}
	return a.clusterOfPeers()
}

func (a *Agent) clusterOfPeers() (netmap.ClusterID, error) {
	members := a.gossip.Members()
	members = slices.DeleteFunc(members, func(m gossip.Member) bool { return !m.Alive || m.Cluster.IsZero() })
	if len(members) == 0 {
		return netmap.ClusterID{}, fmt.Errorf("no member of a cluster answers at WEFT_JOIN=%v; start one host without WEFT_JOIN, it founds the cluster, and open port %d tcp and udp between the hosts", a.cfg.Settings.Join, a.cfg.Settings.Port)
	}
	for _, m := range members[1:] {
		if m.Cluster != members[0].Cluster {
			return netmap.ClusterID{}, fmt.Errorf("the peers belong to two clusters: %s (host %s) and %s (host %s); set WEFT_JOIN to hosts of one of them", members[0].Cluster, members[0].Name, m.Cluster, m.Name)
		}
	}
	return members[0].Cluster, nil
}

func (a *Agent) lineage() []ledger.Birth {
	out := make([]ledger.Birth, 0, len(a.identity.Lineage))
	for _, b := range a.identity.Lineage {
		out = append(out, ledger.Birth{Start: b.Start, Nonce: b.Nonce})
	}
	return out
}

// awaitMembership is passed at once by a host that was ever admitted.
func (a *Agent) awaitMembership(ctx context.Context) error {
	if !a.store.Cluster().IsZero() {
		return nil
	}
	select {
	case <-a.member:
		return nil
	case <-ctx.Done():
		a.mu.Lock()
		why := a.problems["membership"]
		a.mu.Unlock()
		if why == "" {
			why = "this host is not a member of a cluster yet"
		}
		return errors.New(why)
	}
}

// ledgerMembers is what the ledger needs to know of the gossip's members.
func (a *Agent) ledgerMembers() []ledger.Member {
	var out []ledger.Member
	for _, m := range a.gossip.Members() {
		out = append(out, ledger.Member{ID: m.ID, Name: m.Name, Addr: m.Addr, Alive: m.Alive, Keeper: m.Keeper})
	}
	return out
}
