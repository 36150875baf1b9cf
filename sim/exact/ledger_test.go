package exact_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// ledgerLog is the one linear log, and the keepers through which hosts reach it.
type ledgerLog struct {
	w           *world
	state       *state.State
	truth       *netmap.Map // what is decided
	log         []decision
	heard       map[netmap.HostID]uint64 // index of the last renewal
	removed     map[netmap.HostID]removal
	keepers     []*machine
	leader      *machine // nil: none is elected
	want        int      // keepers
	plan        founding.Plan
	replies     map[string]string
	renewed     map[netmap.HostID]time.Duration     // when the last renewal was decided, by true time
	incarnation map[netmap.HostID]state.Incarnation // that is admitted
	checked     uint64
	vacate      map[*machine]time.Duration // when a keeper asked to go
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
	left   bool // it asked for it
}

// hearing is when a keeper last applied a renewal of a host, by its own clock.
type hearing struct {
	index uint64
	at    time.Duration
}

// take numbers a request and sends it.
func (l *ledgerLog) take(q *question) {
	a := q.life.ledger
	a.last++
	a.open = append(a.open, a.last)
	q.cmd.Number(a.last, a.open)
	l.send(q)
}

// found makes a founder one of the first keepers. They elect a leader once a majority of them has
// started.
func (l *ledgerLog) found(m *machine, p founding.Plan) {
	if l.plan.Cluster.IsZero() {
		l.plan = p
		for _, o := range l.w.machines {
			if !o.twin && slices.ContainsFunc(p.Keepers, func(k founding.Keeper) bool { return k.ID == o.identity() }) {
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

// send sends a copy of a request now, and another one later if there is no answer by then. Copies
// may be lost, late or doubled.
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
		case !q.cmd.Cluster.IsZero() && q.cmd.Kind != state.KindFound && w.chance(w.style.foreign):
			w.after(w.latency(from, from), func() { w.foreign.take(q) })
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

// deliver lets the leader decide, if it still is the leader, and sends the answer.
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

func (l *ledgerLog) answer(q *question, r state.Reply) {
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
	if renewal := q.cmd.Kind == state.KindAdmit || q.cmd.Kind == state.KindRenew; renewal || r.Refusal != nil {
		q.life.fenced = r.Refusal != nil && (r.Refusal.Kind == netmap.Fenced || r.Refusal.Kind == netmap.Removed) || q.life.fenced && !renewal
	}
	q.done <- r
}

// decide does the leader's part: it completes a command with what it has seen, and applies it.
func (l *ledgerLog) decide(cmd state.Command) state.Reply {
	if cmd.Kind == state.KindRemove {
		seen := *cmd.Remove
		cmd.Remove = &seen
		if h, ok := l.leader.life.ledger.ears[seen.Target]; ok {
			seen.Since, seen.Unheard = h.index, (l.leader.running() - h.at).Milliseconds()
		}
	}
	words, err := state.EncodeCommand(cmd)
	if err == nil {
		cmd, err = state.DecodeCommand(words)
	}
	if err != nil {
		l.w.wrong("(9) a command cannot be encoded: %v", err)
	}
	index := l.state.Applied() + 1
	r, changes := l.state.Apply(index, cmd)
	d := decision{index: index, changes: changes, founded: !l.state.Cluster().IsZero()}
	if (cmd.Kind == state.KindAdmit || cmd.Kind == state.KindRenew) && r.Refusal == nil && r.Index == index {
		l.heard[cmd.Host], d.heard = index, cmd.Host
		l.renewed[cmd.Host] = l.w.clock()
		if cmd.Start >= l.incarnation[cmd.Host].Start {
			l.incarnation[cmd.Host] = state.Incarnation{Start: cmd.Start, Nonce: cmd.Nonce}
		}
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

// learn notes what was decided, for the checks.
func (l *ledgerLog) learn(cmd state.Command, r state.Reply, changes []netmap.Change) {
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
	if cmd.Kind == state.KindLeave && r.Refusal == nil {
		l.removed[cmd.Host] = removal{index: r.Index, left: true}
		l.w.meet("host left")
	}
	if cmd.Kind == state.KindRemove && r.Refusal == nil && l.removed[cmd.Remove.Target].index == 0 {
		l.removed[cmd.Remove.Target] = removal{index: r.Index, byWord: cmd.Remove.IsOff}
		l.w.meet(map[bool]string{true: "host removed by an operator's word", false: "host removed after its lease"}[cmd.Remove.IsOff])
	}
}
