package gossip

import (
	"context"
	"fmt"
	"time"

	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// View returns all facts as they are now. It waits for nobody.
func (g *Gossip) View() *netmap.View { return g.view.Load() }

// Removed reports whether the ledger removed a host for good.
func (g *Gossip) Removed(host netmap.HostID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.facts.Removed(host)
}

// subscribers are the channels to wake at changes of something.
type subscribers map[chan struct{}]struct{}

// notify wakes all of them.
func (s subscribers) notify() {
	for c := range s {
		turn.Poke(c)
	}
}

// Subscribe returns a channel that holds a token while the facts in View may have changed, and
// one that holds a token while Members or Synced may have. Both hold one at the beginning. The
// function ends the subscription.
//
// View.Decided changes without a token when the ledger's log grows by an entry that decides
// nothing, as each renewal of a lease does: see WaitDecided.
func (g *Gossip) Subscribe() (facts, members <-chan struct{}, cancel func()) {
	facts, endFacts := g.subscribe(g.factSubs)
	members, endMembers := g.subscribe(g.subs)
	return facts, members, func() {
		endFacts()
		endMembers()
	}
}

func (g *Gossip) subscribe(to subscribers) (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	g.mu.Lock()
	defer g.mu.Unlock()
	to[c] = struct{}{}
	return c, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(to, c)
	}
}

// notify tells that Members or Synced may have changed. Under g.mu.
func (g *Gossip) notify() { g.subs.notify() }

// Synced reports whether everything that some live host of the cluster knew was
// taken in once, or whether no peer was ever configured or known. A newcomer is
// not synced before SetCluster unless it stands alone.
func (g *Gossip) Synced() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.synced
}

// Members lists the other hosts that were seen and are not removed, dead ones
// too, sorted by id.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	view := g.facts.View()
	hosts := g.roster.hosts()
	for i := range hosts {
		if h, ok := view.Host(hosts[i].ID); ok && h.Fact.Name != "" {
			hosts[i].Name = h.Fact.Name
		}
	}
	return hosts
}

// Twin is another agent under this host's own id that was seen alive: an earlier start
// of this one whose end nobody has noticed, or another machine.
func (g *Gossip) Twin() (Member, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.roster.twin()
}

// Refused lists the hosts that were kept out, sorted by address: those of other
// clusters and of other protocol versions.
func (g *Gossip) Refused() []Refused {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse.expire(time.Now())
	return g.refuse.list()
}

// Announce changes the facts of this host: set has nouns of netmap under their keys, del
// the keys to withdraw. A fact that has not changed is not sent again.
//
// The first Announce of a start lists everything: facts of earlier starts that it lacks
// are withdrawn everywhere. A fact that it repeats stays in place meanwhile.
func (g *Gossip) Announce(set map[netmap.Key]any, del []netmap.Key) error {
	changes := changesOf(set, del)
	g.mu.Lock()
	defer g.mu.Unlock()
	effect, err := g.facts.Append(g.cfg.Host, g.cfg.Start, changes)
	if err != nil {
		return fmt.Errorf("gossip: cannot announce: %w", err)
	}
	g.afterChange(g.cfg.Host, effect)
	if effect.Advanced {
		turn.Poke(g.unsent)
	}
	return nil
}

// changesOf puts what is announced into one order.
func changesOf(set map[netmap.Key]any, del []netmap.Key) []netmap.Change {
	changes := make([]netmap.Change, 0, len(set)+len(del))
	for key, value := range set {
		changes = append(changes, netmap.Change{Key: key, Value: value})
	}
	for _, key := range del {
		if _, both := set[key]; !both {
			changes = append(changes, netmap.Change{Key: key})
		}
	}
	sortChanges(changes)
	return changes
}

// Decisions is one step of the ledger, as a keeper saw it applied.
type Decisions struct {
	Cluster    netmap.ClusterID
	Generation uint64 // of the ledger, from 1; greater after a forced recovery
	Index      uint64 // of the raft entry
	Whole      bool   // Changes are everything that is decided at Index
	Lead       bool   // this host leads the ledger: it tells the others
	Changes    []netmap.Change
}

// PublishDecisions adds the changes that a keeper's ledger applied. The caller calls it in
// order of Index and without gaps; the first call of a start is whole or has the first
// entry of the log. Changes that are known already, from the disk or from other hosts,
// have no effect. A host that does not know its cluster yet keeps them until SetCluster,
// as the ledger does not repeat them.
func (g *Gossip) PublishDecisions(d Decisions) error {
	records, err := netmap.RecordsOf(d.Index, d.Changes)
	if err != nil {
		return fmt.Errorf("gossip: cannot publish decision %d: %w", d.Index, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	cluster := d.Cluster
	if own := g.facts.Cluster(); cluster.IsZero() || !own.IsZero() && own != cluster {
		return fmt.Errorf("gossip: decision %d is of cluster %s, and this host is in %s", d.Index, cluster, own)
	}
	b := netmap.Batch{Origin: cluster, Life: d.Generation, Prev: g.out.published, Seq: d.Index, Whole: d.Whole, Records: records}
	if d.Whole {
		b.Prev = 0
	}
	g.out.published = d.Index
	g.out.setLead(d.Lead, g.facts)
	if head, _ := g.facts.Head(cluster); b.Prev > b.Seq && head.Covers(netmap.Head{Life: b.Life, Seq: b.Seq}) {
		return nil // a keeper that began anew repeats what it was told before
	}
	effect, err := g.facts.Apply(b)
	if err != nil {
		return fmt.Errorf("gossip: cannot publish decision %d: %w", d.Index, err)
	}
	if effect.Gap != nil {
		g.want(netmap.Head{Origin: cluster, Life: d.Generation, Seq: d.Index}, netmap.HostID{}, 0)
		return fmt.Errorf("gossip: decision %d was published without what came before it (known to %d)", d.Index, effect.Gap.From)
	}
	g.afterChange(cluster, effect)
	if d.Lead {
		turn.Poke(g.unsent)
	}
	return nil
}

// waitStep is how often WaitDecided asks again for what did not come.
const waitStep = time.Second

// WaitDecided waits until the decisions up to a raft index are known, and asks a keeper
// for them at once.
func (g *Gossip) WaitDecided(ctx context.Context, index uint64) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(g.ctx, stop)()
	known := g.decided(index, true)
	if known >= index {
		return nil
	}
	for look := range follow.Facts(waiting, decisions{g}, follow.When{Every: waitStep}) {
		if known = g.decided(index, look.Due); known >= index {
			return nil
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("gossip: closed before decision %d was known", index)
	}
	return fmt.Errorf("gossip: decision %d is not known here yet (known to %d): %w", index, known, ctx.Err())
}

// decisions is a source that changes whenever the ledger's log grows.
type decisions struct{ *Gossip }

func (d decisions) Subscribe() (facts, rest <-chan struct{}, cancel func()) {
	grown, cancel := d.subscribe(d.decidedSubs)
	return nil, grown, cancel
}

// decided returns the newest decision that is known here. If that is older than index, ask
// has a keeper asked for it.
func (g *Gossip) decided(index uint64, ask bool) (known uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	head, _ := g.facts.Head(g.facts.Cluster())
	if ask && head.Seq < index && !head.Origin.IsZero() {
		g.want(netmap.Head{Origin: head.Origin, Life: max(1, head.Life), Seq: index}, netmap.HostID{}, 0)
	}
	return head.Seq
}

// afterChange updates what depends on the facts of an origin. Under g.mu.
func (g *Gossip) afterChange(origin netmap.ID, effect netmap.Effect) {
	if effect.Advanced || effect.Changed {
		g.noteUnsaved(origin, effect)
		g.repair.touch(origin, time.Now())
		g.view.Store(g.facts.View())
		if effect.Changed {
			g.factSubs.notify()
		}
		if origin == g.facts.Cluster() {
			g.decidedSubs.notify()
		}
	}
}

// takeIn applies a batch from another host. A batch that arrives before its predecessor
// is held, and the predecessor is pulled unless it arrives by itself.
func (g *Gossip) takeIn(b netmap.Batch, hold bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.Origin == g.cfg.Host {
		g.hintOfMyself(netmap.Head{Origin: b.Origin, Life: b.Life, Seq: b.Seq})
		return nil
	}
	effect, err := g.facts.Apply(b)
	if err != nil {
		return err
	}
	g.afterChange(b.Origin, effect)
	if effect.Gap != nil {
		g.stats.gaps.Add(1)
		if hold {
			g.repair.hold(b)
		}
		g.want(netmap.Head{Origin: b.Origin, Life: b.Life, Seq: b.Seq}, netmap.HostID{}, patience)
	}
	if effect.Advanced {
		g.takeHeld(b.Origin)
	}
	return nil
}

// takeHeld tries again what was held of an origin. Under g.mu.
func (g *Gossip) takeHeld(origin netmap.ID) {
	for _, b := range g.repair.release(origin) {
		effect, err := g.facts.Apply(b)
		if err != nil {
			continue // it was checked when it was decoded
		}
		g.afterChange(origin, effect)
		if effect.Gap != nil {
			g.repair.hold(b)
		}
	}
}

// hintOfMyself has a datagram say that somebody else uses this host's id. Another host
// is asked over a connection what it knows: datagrams can be forged. Under g.mu.
func (g *Gossip) hintOfMyself(h netmap.Head) {
	mine, _ := g.facts.Head(g.cfg.Host)
	if mine.Life = g.cfg.Start; mine.Covers(h) {
		return
	}
	for _, m := range g.roster.pick(g.facts.Cluster(), 1) {
		g.talkTo(m)
	}
}

// heardOfMyself looks for signs that somebody else uses this host's id: a later
// start, or facts of this start that this agent never said. Under g.mu.
func (g *Gossip) heardOfMyself(h netmap.Head) {
	mine, _ := g.facts.Head(g.cfg.Host)
	mine.Life = g.cfg.Start
	if mine.Covers(h) {
		return
	}
	other := Member{ID: h.Origin, Start: h.Life}
	if seen, ok := g.roster.twin(); ok {
		other = seen
		other.Start = max(seen.Start, h.Life)
	}
	if g.roster.unreported(other, g.roster.self, time.Now()) {
		g.reportClone(Clone{Host: h.Origin, A: other, B: g.roster.self})
	}
}
