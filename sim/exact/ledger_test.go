package exact_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
)

// ledgerLog is the one linear log, and the keepers through which hosts reach it.
type ledgerLog struct {
	w       *world
	state   *ledger.State
	truth   *netmap.Map // what is decided
	log     []decision
	heard   map[netmap.HostID]uint64 // index of the last renewal
	removed map[netmap.HostID]removal
	keepers []*machine
	leader  *machine // nil: none is elected
	want    int      // keepers
	plan    ledger.Plan
	replies map[string]string
	renewed map[netmap.HostID]time.Duration // when the last renewal was decided, by true time
	birth   map[netmap.HostID]ledger.Birth  // that is admitted
	checked uint64
}

type decision struct {
	index   uint64
	changes []netmap.Change
	founded bool          // else nobody is told, as by ledger.Ledger
	heard   netmap.HostID // whose renewal it is
}

// removal is how a host was removed.
type removal struct {
	index  uint64
	byWord bool // an operator said that it is off
}

// hearing is what a keeper noticed of a host, by its own clock.
type hearing struct {
	index uint64
	at    time.Duration
}

// asker is one agent's way to the ledger. It implements plugin.Ledger.
type asker struct {
	plugin.Ledger // what is not used here
	life          *life
	cfg           ledger.Config
	admit         chan struct{}
	admitted      bool
	cluster       netmap.ClusterID

	// By the world alone:
	last uint64
	open []uint64
	keep int // decisions that this keeper applied, -1: it is none
	ears map[netmap.HostID]hearing
}

// question is one request on its way.
type question struct {
	life *life
	cmd  ledger.Command
	open bool
	done chan ledger.Reply
}

// doLimit is that of ledger.Do.
const doLimit = 4500 * time.Millisecond

var errNobody = netmap.Refuse(netmap.NoQuorum, "nothing can be decided now: a majority of the keepers did not answer")

// Do implements plugin.Ledger with the promises of ledger.Do.
func (a *asker) Do(ctx context.Context, cmd ledger.Command) (ledger.Reply, error) {
	if ctx.Err() != nil {
		return ledger.Reply{}, errNobody
	}
	select {
	case a.admit <- struct{}{}:
	case <-ctx.Done():
		return ledger.Reply{}, errNobody
	}
	admitted := a.admitted
	if !admitted {
		if _, err := a.Admit(ctx); err != nil {
			<-a.admit
			return ledger.Reply{}, err
		}
	}
	<-a.admit
	return a.ask(ctx, cmd)
}

// Admit implements plugin.Ledger.
func (a *asker) Admit(ctx context.Context) (ledger.Reply, error) {
	r, err := a.ask(ctx, ledger.Command{Kind: ledger.KindAdmit, Admit: &ledger.Admit{Name: a.cfg.Name, Addr: a.cfg.Addr, Lineage: a.cfg.Lineage}})
	if err == nil {
		a.admitted = true
	}
	return r, err
}

// Found implements plugin.Ledger.
func (a *asker) Found(ctx context.Context, cluster netmap.ClusterID, ranges []netip.Prefix) (ledger.Reply, error) {
	return a.FoundTogether(ctx, ledger.Plan{Cluster: cluster, Ranges: ranges, Keepers: []ledger.Peer{{ID: a.cfg.Self}}})
}

// FoundTogether implements plugin.Ledger.
func (a *asker) FoundTogether(ctx context.Context, p ledger.Plan) (ledger.Reply, error) {
	w, m := a.life.m.w, a.life.m
	a.cluster = p.Cluster
	began := make(chan struct{})
	w.arrive(m.n, "0 founds "+p.Cluster.String(), func() {
		w.ledger.found(m, p)
		close(began)
	})
	<-began
	if _, err := a.ask(ctx, ledger.Command{Kind: ledger.KindFound, Found: &ledger.Found{Cluster: p.Cluster, Ranges: p.Ranges}}); err != nil {
		return ledger.Reply{}, err
	}
	return a.Admit(ctx)
}

// Cluster implements plugin.Ledger.
func (a *asker) Cluster() netmap.ClusterID { return a.cluster }

// Status implements plugin.Ledger.
func (a *asker) Status() ledger.Status {
	role := "none"
	if a.life.m.keeps {
		role = "follower"
	}
	return ledger.Status{Cluster: a.cluster, Role: role}
}

// Close implements plugin.Ledger.
func (a *asker) Close() error { return nil }

func (a *asker) ask(ctx context.Context, cmd ledger.Command) (ledger.Reply, error) {
	if ctx.Err() != nil {
		return ledger.Reply{}, errNobody
	}
	if _, ok := ctx.Deadline(); !ok {
		limited, cancel := context.WithTimeout(ctx, doLimit)
		defer cancel()
		ctx = limited
	}
	w := a.life.m.w
	cmd.Host, cmd.Start, cmd.Nonce, cmd.Cluster = a.cfg.Self, a.cfg.Start, a.cfg.Nonce, a.cluster
	q := &question{life: a.life, cmd: cmd, open: true, done: make(chan ledger.Reply, 1)}
	words, err := json.Marshal(cmd)
	if err != nil {
		return ledger.Reply{}, err
	}
	w.arrive(a.life.m.n, "ledger "+string(words), func() { w.ledger.take(q) })
	select {
	case r := <-q.done:
		if a.cluster.IsZero() && r.Refusal == nil {
			a.cluster = r.Cluster
		}
		return r, r.Err()
	case <-ctx.Done():
		w.arrive(a.life.m.n, fmt.Sprintf("ledger: gives up %s", words), func() { a.close(q) })
		return ledger.Reply{}, errNobody
	case <-a.life.off:
		return ledger.Reply{}, errNobody
	}
}

// take numbers a question and sends it off.
func (l *ledgerLog) take(q *question) {
	a := q.life.ledger
	a.last++
	a.open = append(a.open, a.last)
	q.cmd.Request, q.cmd.Settled = a.last, slices.Min(a.open)
	l.send(q)
}

func (a *asker) close(q *question) {
	q.open = false
	a.open = slices.DeleteFunc(a.open, func(r uint64) bool { return r == q.cmd.Request })
}

// found makes a founder one of the first keepers. They lead once a majority of them
// has begun.
func (l *ledgerLog) found(m *machine, p ledger.Plan) {
	if l.plan.Cluster.IsZero() {
		l.plan = p
		for _, o := range l.w.machines {
			if slices.ContainsFunc(p.Keepers, func(k ledger.Peer) bool { return k.ID == o.identity() }) {
				l.keepers = append(l.keepers, o)
			}
		}
		l.w.meet(fmt.Sprintf("founded by %d", len(l.keepers)))
	}
	if l.plan.Cluster != p.Cluster {
		l.w.wrong("(5) %s founds cluster %s, and cluster %s was founded", m, p.Cluster.Short(), l.plan.Cluster.Short())
	}
	if !m.keeps && slices.Contains(l.keepers, m) && m.life != nil {
		m.keeps = true
		l.enlist(m.life)
	}
}

// send sends a copy now and, while nobody has answered, another one later. What is
// sent may be lost, late or doubled.
func (l *ledgerLog) send(q *question) {
	w := l.w
	from := q.life.m
	if !q.open || from.life != q.life {
		return
	}
	copies := 1
	if w.chance(w.style.double) {
		copies = 2
		w.meet("request doubled")
	}
	for range copies {
		to := l.leader
		switch {
		case to == nil || !w.path(from, to):
			w.meet("request to no leader")
		case to != from && w.chance(w.style.loss):
			w.meet("request lost")
		default:
			w.after(w.latency(from, to), func() { l.deliver(q, to) })
		}
	}
	w.after(w.between(400*time.Millisecond, 1300*time.Millisecond), func() { l.send(q) })
}

// deliver has the leader decide, if it still is one, and send the answer.
func (l *ledgerLog) deliver(q *question, at *machine) {
	w := l.w
	if l.leader != at || !l.quorum(at) {
		return
	}
	if !q.open {
		w.meet("request decided after it was given up")
	}
	r := l.decide(q.cmd)
	if at != q.life.m && w.chance(w.style.loss) || !w.path(at, q.life.m) {
		w.meet("answer lost")
		return
	}
	w.after(w.latency(at, q.life.m), func() { l.answer(q, r) })
}

func (l *ledgerLog) answer(q *question, r ledger.Reply) {
	if !q.open || q.life.m.life != q.life {
		l.w.meet("answer nobody waits for")
		return
	}
	if r.Refusal != nil {
		l.w.meet("refused: " + string(q.cmd.Kind) + " " + string(r.Refusal.Kind))
	}
	l.w.note("%s hears %s: %v, decision %d", q.life.m, q.cmd.Kind, r.Refusal, r.Index)
	q.life.ledger.close(q)
	q.life.told = max(q.life.told, r.Index)
	if renewal := q.cmd.Kind == ledger.KindAdmit || q.cmd.Kind == ledger.KindRenew; renewal || r.Refusal != nil {
		q.life.fenced = r.Refusal != nil && (r.Refusal.Kind == netmap.Fenced || r.Refusal.Kind == netmap.Removed) || q.life.fenced && !renewal
	}
	q.done <- r
}

// decide is the leader's work: it fills in what it saw and has the state apply.
func (l *ledgerLog) decide(cmd ledger.Command) ledger.Reply {
	if cmd.Kind == ledger.KindRemove {
		seen := *cmd.Remove
		cmd.Remove = &seen
		if h, ok := l.leader.life.ledger.ears[seen.Target]; ok {
			seen.Since, seen.Unheard = h.index, (l.leader.running() - h.at).Milliseconds()
		}
	}
	words, err := ledger.EncodeCommand(cmd)
	if err == nil {
		cmd, err = ledger.DecodeCommand(words)
	}
	if err != nil {
		l.w.wrong("(9) a command cannot be encoded: %v", err)
	}
	index := l.state.Applied() + 1
	r, changes := l.state.Apply(index, cmd)
	d := decision{index: index, changes: changes, founded: !l.state.Cluster().IsZero()}
	if (cmd.Kind == ledger.KindAdmit || cmd.Kind == ledger.KindRenew) && r.Refusal == nil && r.Index == index {
		l.heard[cmd.Host], d.heard = index, cmd.Host
		l.renewed[cmd.Host] = l.w.clock()
		l.birth[cmd.Host] = ledger.Birth{Start: cmd.Start, Nonce: cmd.Nonce}
	}
	l.log = append(l.log, d)
	l.learn(cmd, r, changes)
	l.w.note("decision %d: %s of %s: %v", index, cmd.Kind, cmd.Host.Short(), r.Refusal)
	l.w.checkReply(cmd, r)
	for _, k := range l.keepers {
		l.w.after(l.w.latency(l.leader, k), func() { l.follow(k) })
	}
	return r
}

// learn keeps the truth.
func (l *ledgerLog) learn(cmd ledger.Command, r ledger.Reply, changes []netmap.Change) {
	if l.truth.Cluster().IsZero() && !l.state.Cluster().IsZero() {
		l.truth.SetCluster(l.state.Cluster())
	}
	if !l.state.Cluster().IsZero() {
		records, err := netmap.RecordsOf(l.state.Applied(), changes)
		head, _ := l.truth.Head(l.state.Cluster())
		b := netmap.Batch{Origin: l.state.Cluster(), Life: 1, Prev: head.Seq, Seq: l.state.Applied(), Records: records}
		if effect, applied := l.truth.Apply(b); err != nil || applied != nil || effect.Gap != nil {
			l.w.wrong("(9) decision %d: %v %v %v", l.state.Applied(), err, applied, effect.Gap)
		}
	}
	if c := r.Claim; c != nil && r.Refusal == nil { // asked for again by who has it
		if h, ok := l.w.held[c.Addr.String()]; ok && h.m.identity() == c.Owner {
			h.identity = c.Owner
			l.w.held[c.Addr.String()] = h
		}
	}
	if cmd.Kind == ledger.KindRemove && r.Refusal == nil && l.removed[cmd.Remove.Target].index == 0 {
		if l.removed == nil {
			l.removed = map[netmap.HostID]removal{}
		}
		l.removed[cmd.Remove.Target] = removal{r.Index, cmd.Remove.IsOff}
		l.w.meet(map[bool]string{true: "host removed by an operator's word", false: "host removed after its lease"}[cmd.Remove.IsOff])
	}
}

// enlist has the agent of a keeper know everything that is decided.
func (l *ledgerLog) enlist(n *life) {
	a := n.ledger
	a.keep, a.ears = len(l.log), map[netmap.HostID]hearing{}
	for id, index := range l.heard {
		a.ears[id] = hearing{index, n.m.running()}
	}
	n.m.keeps = true
	if !l.state.Cluster().IsZero() {
		a.cfg.OnChange(ledger.Decision{Cluster: l.state.Cluster(), Generation: l.state.Generation(), Index: l.state.Applied(), Changes: l.state.Changes(), Whole: true, Leader: l.leader == n.m})
	}
	a.cfg.OnKeeper(true)
}

// follow has a keeper apply what it has not yet.
func (l *ledgerLog) follow(k *machine) {
	if k.life == nil || !k.life.opened || k.life.ledger.keep < 0 || l.leader == nil || !l.w.path(l.leader, k) {
		return
	}
	a := k.life.ledger
	for ; a.keep < len(l.log); a.keep++ {
		d := l.log[a.keep]
		if !d.heard.IsZero() {
			a.ears[d.heard] = hearing{d.index, k.running()}
		}
		if !d.founded {
			continue
		}
		a.cfg.OnChange(ledger.Decision{Cluster: l.state.Cluster(), Generation: l.state.Generation(), Index: d.index, Changes: d.changes, Leader: l.leader == k})
	}
}

// quorum says whether a keeper reaches a majority of them.
func (l *ledgerLog) quorum(at *machine) bool {
	n := 0
	for _, k := range l.keepers {
		if k.serves() && k.keeps && l.w.both(at, k) {
			n++
		}
	}
	return at.serves() && at.keeps && 2*n > len(l.keepers)
}

// manage elects, and finds keepers. It comes again and again.
func (l *ledgerLog) manage() {
	w := l.w
	w.after(w.between(500*time.Millisecond, 1500*time.Millisecond), l.manage)
	if len(l.keepers) == 0 {
		return
	}
	for _, k := range l.keepers {
		if k.serves() && k.life.ledger.keep < 0 && l.leader != nil && w.both(k, l.leader) {
			l.enlist(k.life)
		}
	}
	if l.leader != nil && !l.quorum(l.leader) {
		l.leader = nil
		w.meet("leader lost")
	}
	if l.leader == nil {
		l.elect()
		return
	}
	for _, k := range l.keepers {
		l.follow(k)
	}
	l.overdue()
	l.change()
}

func (l *ledgerLog) elect() {
	var able []*machine
	for _, k := range l.keepers {
		if k.serves() && k.life.ledger.keep >= 0 && l.quorum(k) {
			able = append(able, k)
		}
	}
	if len(able) == 0 { // all started anew: the log is on their disks
		for _, k := range l.keepers {
			if l.quorum(k) {
				l.leader = k
				l.enlist(k.life)
				return
			}
		}
		return
	}
	l.leader = able[l.w.dice.IntN(len(able))]
	l.w.note("%s leads the ledger", l.leader)
	l.follow(l.leader)
}

// change replaces keepers that are gone and adds some until there are enough.
func (l *ledgerLog) change() {
	for _, k := range l.keepers {
		gone := k.identity().IsZero() || l.removed[k.identity()].index > 0 || k.fresh || !k.keeps && !l.state.Cluster().IsZero() || !k.serves() && l.w.chance(10)
		if gone && k != l.leader && len(l.keepers) > 1 {
			l.keepers = slices.DeleteFunc(slices.Clone(l.keepers), func(o *machine) bool { return o == k })
			if k.life != nil && k.life.opened && k.life.ledger.keep >= 0 {
				k.life.ledger.keep = -1
				k.life.ledger.cfg.OnKeeper(false)
			}
			k.keeps = false
			l.w.meet("keeper replaced")
			return
		}
	}
	if l.removed[l.leader.identity()].index > 0 {
		l.leader = nil
		return
	}
	for _, m := range l.w.machines {
		_, admitted := l.heard[m.identity()]
		if len(l.keepers) < l.want && admitted && m.serves() && !slices.Contains(l.keepers, m) && !m.twin && l.removed[m.identity()].index == 0 && l.w.both(m, l.leader) {
			m.fresh = false
			l.keepers = append(slices.Clone(l.keepers), m)
			l.enlist(m.life)
			return
		}
	}
}

// overdue removes hosts by time, as the leader does.
func (l *ledgerLog) overdue() {
	ears := l.leader.life.ledger.ears
	for _, m := range l.w.machines {
		id := m.identity()
		h, ok := ears[id]
		after := ledger.Lease + ledger.LeaseSlack + removeAfter
		if !ok || id == l.leader.identity() || l.removed[id].index > 0 || h.index != l.heard[id] || l.leader.running()-h.at < after || l.leader.life.facts.sees(id) {
			continue
		}
		c := ledger.Command{Kind: ledger.KindRemove, Cluster: l.state.Cluster(), Host: l.leader.identity(), Remove: &ledger.Remove{Target: id}}
		c.Start, c.Nonce = l.leader.life.ledger.cfg.Start, l.leader.life.ledger.cfg.Nonce
		l.w.meet("host removed by time")
		l.decide(c)
		return
	}
}
