package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
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

// belong makes this host a member, for ever trying, shows a new start of a member
// to the ledger, and then renews the lease. Nothing that this host owns already
// waits for the first two.
func (a *Agent) belong(ctx context.Context) {
	for !a.try(ctx, a.becomeMember) {
		pause := joinPause
		if a.lease.Fenced() { // only an operator changes that
			pause = leasePoll
		}
		if !turn.Sleep(ctx, pause) {
			return
		}
	}
	a.remain(ctx)
}

// remain keeps the lease, and learns from the facts when it is over.
func (a *Agent) remain(ctx context.Context) {
	poll := time.NewTicker(leasePoll)
	defer poll.Stop()
	changed, unsubscribe := a.gossip.Subscribe()
	defer unsubscribe()
	alone := a.alone()
	for {
		due, asked := false, false
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			due = true
		case <-changed:
		case <-a.askAgain():
		case <-a.lease.Wanted():
			asked = true
		}
		// What came at once is taken at once: which of them select saw means nothing.
		due, asked = due || took(poll.C), asked || took(a.lease.Wanted())
		if asked && !turn.Sleep(ctx, joinPause) { // for each request that waits there was a try just now
			return
		}
		_ = a.heedFacts(ctx) // a problem tells it
		was := alone
		if alone = a.alone(); was && !alone { // it may have been removed meanwhile
			a.lease.RequestRenewal()
		}
		a.follow(ctx)
		if !due && !asked {
			continue
		}
		a.keepLease(ctx)
	}
}

// keepLease renews it if it is time to; a host on its way out does not.
func (a *Agent) keepLease(ctx context.Context) {
	if err := a.lease.Restamp(); err != nil {
		a.log.Warn("lease", "err", err)
	}
	rivalled := a.rivalled()
	if (a.lease.Due() || rivalled > 0 || a.unconfirmed()) && !a.leaving.now.Load() && a.try(ctx, a.renew) && rivalled > 0 {
		a.outgrow(rivalled)
	}
	a.tellLease()
}

// alone reports whether no other host is seen.
func (a *Agent) alone() bool {
	return !slices.ContainsFunc(a.gossip.Members(), func(m gossip.Member) bool { return m.Alive })
}

// follow shows a recovered ledger what this host holds.
func (a *Agent) follow(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := a.heedGeneration(limited)
	switch {
	case err == nil:
		a.problem("recovery", "")
	case ctx.Err() == nil:
		a.heedFence(ctx, err)
		a.problem("recovery", "the ledger was recovered and has not seen yet what this host holds: "+err.Error())
	}
}

// took reports whether something was waiting in a channel, and takes it.
func took[T any](c <-chan T) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tellLease shows a lease that has run out.
func (a *Agent) tellLease() {
	_, _, err := a.lease.State()
	if err == nil || a.lease.Fenced() { // that is told already
		a.problem("lease", "")
		return
	}
	a.problem("lease", "no new address is handed out: "+err.Error())
}

// try does what needs the ledger's word, and keeps what stands in the way.
func (a *Agent) try(ctx context.Context, do func(context.Context) error) bool {
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := do(limited)
	switch {
	case err == nil:
		a.problem("membership", "")
	case ctx.Err() != nil:
	default:
		a.heedFence(ctx, err) // before anybody hears why
		if a.hasLeft() {
			err = errors.New(a.departure())
		}
		a.problem("membership", err.Error())
	}
	return err == nil
}

// heedFence ends the lease if the ledger refuses this identity. One that was removed
// from the cluster is given up, once the keepers that this host knew before confirm it:
// anybody may have answered.
func (a *Agent) heedFence(ctx context.Context, err error) {
	var refusal *netmap.Refusal
	if !errors.As(err, &refusal) || refusal.Kind != netmap.Fenced && refusal.Kind != netmap.Removed {
		return
	}
	if _, renounced := a.lease.Renounced(); renounced || a.hasLeft() {
		return
	}
	if refusal.Kind == netmap.Removed {
		_ = a.heedRemoval(ctx) // a problem tells it
	}
	if _, renounced := a.lease.Renounced(); !renounced && !a.hasLeft() { // until a renewal is accepted
		a.revoke(lease.Fence{Host: a.self, Why: refusal.Text})
	}
}

// renew has the ledger note that this host is there. The lease counts from before
// the question was sent.
func (a *Agent) renew(ctx context.Context) error {
	sent, err := a.clocks.Sending()
	if err != nil {
		return err
	}
	r, err := a.ledger.Do(ctx, ledger.Command{Kind: ledger.KindRenew})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return err
	}
	a.notRemoved()
	return a.lease.Grant(sent)
}

// mayHandOut says why this host may hand out no new address, or nil
// (invariant 4); last, that it may all the same hand out what its containers had
// before. What the facts tell of a removal counts before the ledger's word.
func (a *Agent) mayHandOut(ctx context.Context) (last bool, err error) {
	if err := a.heedFacts(ctx); err != nil {
		return false, err
	}
	if a.leaving.now.Load() && !a.hasLeft() {
		return false, netmap.Refuse(netmap.Held, "host %s is leaving the cluster (weft host leave) and hands out nothing new; start the container on another host", a.fact.Name)
	}
	may, err := a.lease.Allowed(ctx)
	return may == lease.WhatWasHere, a.nameKeepers(err)
}

// nameKeepers adds to what no keeper could answer which of them are missing.
func (a *Agent) nameKeepers(err error) error {
	if !errors.Is(err, &netmap.Refusal{Kind: netmap.NoQuorum}) {
		return err
	}
	trouble := cmp.Or(a.ledger.Status().Problem, a.unseenKeepers())
	if trouble == "" {
		return err
	}
	return netmap.Refuse(netmap.NoQuorum, "%v; %s", err, trouble)
}

// unseenKeepers names the keepers by the facts that are not seen, empty if there are
// none. Just after its start a host knows no others.
func (a *Agent) unseenKeepers() string {
	var unseen []string
	view := a.gossip.View()
	for _, id := range view.Keepers() {
		if h, _ := view.Host(id); id != a.self && !a.alive(id) {
			unseen = append(unseen, fmt.Sprintf("%s (%s)", view.HostName(id), h.Fact.Underlay))
		}
	}
	if len(unseen) == 0 {
		return ""
	}
	return "these keepers are not seen: " + strings.Join(unseen, ", ")
}

// heedFacts asks the keepers if the facts say that this host was removed: facts can be
// forged. The error says why it hands out nothing meanwhile.
func (a *Agent) heedFacts(ctx context.Context) error {
	if !a.saidRemoved() {
		return nil
	}
	err := a.heedRemoval(ctx)
	_, renounced := a.lease.Renounced()
	switch {
	case a.hasLeft():
		a.problem("membership", a.departure())
	case renounced:
		a.problem("membership", err.Error())
	default:
		return err
	}
	return nil // the lease says why
}

func removed(name string) *netmap.Refusal {
	return netmap.Refuse(netmap.Removed, "host %s was removed from the cluster; it becomes a new host, which asks for the addresses of its running containers again; see weft status there", name)
}

// becomeMember founds alone without WEFT_JOIN; with it, it joins, or founds
// together with others if WEFT_EXPECT says so, and never alone (DESIGN §3).
func (a *Agent) becomeMember(ctx context.Context) error {
	if err := a.lease.Proven(); err != nil {
		return err
	}
	cluster, err := a.findCluster(ctx)
	if err != nil {
		return err
	}
	a.gossip.SetCluster(cluster) // before the ledger's word may come
	generation := a.generation()
	if err := a.heedGeneration(ctx); err != nil {
		return err
	}
	sent, err := a.clocks.Sending()
	if err != nil {
		return err
	}
	r, err := a.ledger.Admit(ctx)
	if err != nil {
		return err
	}
	if err := a.compare(ctx, generation, r.Index); err != nil {
		return err
	}
	if err := a.lease.Grant(sent); err != nil {
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
	if c := a.ledger.Cluster(); !c.IsZero() { // this host was founding it, then killed
		return c, a.resume(ctx, c)
	}
	if len(a.cfg.Settings.Join) == 0 {
		a.gossip.SetCluster(a.founding)
		_, err := a.ledger.Found(ctx, a.founding, a.cfg.Settings.Ranges)
		return a.founding, err
	}
	if a.expects() {
		return a.foundTogether(ctx)
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
