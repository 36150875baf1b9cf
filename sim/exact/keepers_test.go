package exact_test

import (
	"slices"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// enlist gives the agent of a keeper everything that is decided.
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

// follow applies on a keeper what it has not applied yet.
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

// says returns a keeper's answer to the question whether a host was removed.
func (l *ledgerLog) says(k *machine, id netmap.HostID) (vote [2]int) {
	if !k.serves() || k.life.ledger.keep < 0 {
		return vote
	}
	r := l.removed[id]
	if r.index > 0 && slices.ContainsFunc(l.log[:k.life.ledger.keep], func(d decision) bool { return d.index == r.index }) {
		return [2]int{1, 0}
	}
	return [2]int{0, 1}
}

// quorum reports whether a keeper reaches a majority of them.
func (l *ledgerLog) quorum(at *machine) bool {
	n := 0
	for _, k := range l.keepers {
		if k.serves() && k.keeps && l.w.both(at, k) {
			n++
		}
	}
	return at.serves() && at.keeps && 2*n > len(l.keepers)
}

// manage elects a leader and replaces keepers. It runs repeatedly.
func (l *ledgerLog) manage() {
	w := l.w
	w.after(w.seldom(500*time.Millisecond, 1500*time.Millisecond), l.manage)
	if len(l.keepers) == 0 {
		return
	}
	for _, k := range l.keepers {
		if k.serves() && k.keeps && k.life.ledger.keep < 0 && l.leader != nil && w.both(k, l.leader) {
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

// able reports whether a keeper can lead.
func (l *ledgerLog) able(k *machine) bool {
	return k.serves() && k.life.ledger.keep >= 0 && l.quorum(k) && !l.retiring(k)
}

// retiring reports whether a keeper has asked to be replaced, or is fenced.
func (l *ledgerLog) retiring(k *machine) bool {
	return l.vacating(k) || k.life != nil && k.life.fenced
}

func (l *ledgerLog) elect() {
	able := slices.DeleteFunc(slices.Clone(l.keepers), func(k *machine) bool { return !l.able(k) })
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

// change replaces keepers that are gone or have asked for it, and adds keepers until there are enough.
func (l *ledgerLog) change() {
	stay := slices.DeleteFunc(slices.Clone(l.keepers), l.retiring)
	if len(stay) < l.want && l.addKeeper() {
		return
	}
	keeps := func(k *machine) bool { return k.keeps }
	empty := slices.DeleteFunc(slices.Clone(l.keepers), keeps) // they go first: the others are the majority
	for _, k := range append(empty, l.keepers...) {
		if k != l.leader && len(l.keepers) > 1 && (l.vacating(k) || l.lost(k)) {
			l.drop(k)
			return
		}
	}
	if l.removed[l.leader.identity()].index > 0 || l.retiring(l.leader) && slices.ContainsFunc(stay, l.able) {
		l.leader = nil
	}
}

// lost reports whether a keeper has lost its log, or did not run when the leader looked.
func (l *ledgerLog) lost(k *machine) bool {
	return k.identity().IsZero() || l.removed[k.identity()].index > 0 || k.fresh || k.life != nil && k.life.fenced || !k.keeps && !l.state.Cluster().IsZero() ||
		!k.serves() && l.w.chance(10)
}

func (l *ledgerLog) drop(k *machine) {
	l.keepers = slices.DeleteFunc(slices.Clone(l.keepers), func(o *machine) bool { return o == k })
	if k.life != nil && k.life.opened && k.life.ledger.keep >= 0 {
		k.life.ledger.keep = -1
		k.life.ledger.cfg.OnKeeper(false)
	}
	k.keeps = false
	l.w.meet("keeper replaced")
}

// addKeeper makes some member a keeper. It reports whether there is one that can be.
func (l *ledgerLog) addKeeper() bool {
	for _, m := range l.w.machines {
		_, admitted := l.heard[m.identity()]
		if admitted && m.serves() && !slices.Contains(l.keepers, m) && !m.twin && !l.vacating(m) && l.removed[m.identity()].index == 0 && l.w.both(m, l.leader) {
			m.fresh = false
			l.keepers = append(slices.Clone(l.keepers), m)
			l.enlist(m.life)
			return true
		}
	}
	return false
}

// overdue removes a host whose lease ended long ago, as the leader does.
func (l *ledgerLog) overdue() {
	ears := l.leader.life.ledger.ears
	for _, m := range l.w.machines {
		id := m.identity()
		h, ok := ears[id]
		after := lease.Length + lease.Slack + removeAfter
		if !ok || id == l.leader.identity() || l.removed[id].index > 0 || h.index != l.heard[id] || l.leader.running()-h.at < after || l.leader.life.facts.sees(id) {
			continue
		}
		c := state.Command{Kind: state.KindRemove, Cluster: l.state.Cluster(), Host: l.leader.identity(), Remove: &state.Remove{Target: id}}
		c.Start, c.Nonce = l.leader.life.ledger.cfg.Start, l.leader.life.ledger.cfg.Nonce
		l.w.meet("host removed by time")
		l.decide(c)
		return
	}
}
