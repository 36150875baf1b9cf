package exact_test

import (
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

// spread sends what is new in a log to all other hosts. Each copy may be lost or late.
func (f *facts) spread(origin netmap.ID) {
	w, from := f.life.m.w, f.life.m
	if from.life != f.life {
		return
	}
	head, _ := f.m.Head(origin)
	since := f.sent
	if origin != f.cfg.Host {
		since = head.Seq - min(head.Seq, 1+uint64(w.dice.IntN(3)))
	} else {
		f.sent = head.Seq
	}
	b, ok := f.m.Since(origin, head.Life, since)
	if !ok {
		b, ok = f.m.Snapshot(origin)
	}
	if !ok {
		return // nothing was said yet
	}
	words := netmap.AppendBatch(nil, b)
	for _, to := range w.machines {
		if to == from || !w.path(from, to) || w.chance(w.style.loss) {
			continue
		}
		w.after(w.latency(from, to), func() { to.receive(from, f.m.Cluster(), words) })
	}
}

// receive takes a datagram in.
func (m *machine) receive(from *machine, cluster netmap.ClusterID, words []byte) {
	if !m.serves() || m.life.facts.m.Cluster() != cluster || cluster.IsZero() {
		return
	}
	b, err := netmap.DecodeBatch(words)
	if err != nil {
		m.w.wrong("(9) facts: %v", err)
		return
	}
	if gap := m.life.facts.apply(b); gap {
		m.w.meet("gap in facts")
		l := m.life
		m.w.after(m.w.between(time.Millisecond, 50*time.Millisecond), func() { l.facts.exchange(from) })
	}
}

func (f *facts) apply(b netmap.Batch) (gap bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.Origin == f.cfg.Host && b.Life >= f.cfg.Start {
		f.heardOfMyself(b)
		return false // of a twin: nobody else writes our log
	}
	effect, err := f.m.Apply(b)
	if err != nil {
		f.life.m.w.wrong("(9) facts: %v", err)
	}
	if effect.Changed || effect.Advanced {
		f.notify(f.concerned(effect)...)
	}
	return effect.Gap != nil
}

// talk runs repeatedly: an exchange with somebody.
func (f *facts) talk() {
	w, self := f.life.m.w, f.life.m
	if self.life != f.life {
		return
	}
	w.after(w.seldom(1500*time.Millisecond, 3*time.Second), f.talk)
	var others []*machine
	for _, m := range w.machines {
		if m != self {
			others = append(others, m)
		}
	}
	if len(others) > 0 {
		f.exchange(others[w.dice.IntN(len(others))])
	}
}

// fetch asks the keepers for what was decided.
func (f *facts) fetch() {
	w := f.life.m.w
	for _, k := range w.ledger.keepers {
		if k != f.life.m && w.both(f.life.m, k) && !w.chance(w.style.loss) {
			f.exchange(k)
			return
		}
	}
}

// exchange compares copies with another host and repairs both.
func (f *facts) exchange(with *machine) {
	w, self := f.life.m.w, f.life.m
	if self.life != f.life {
		return
	}
	if !with.serves() || !w.both(self, with) || f.gone || with.life.facts.gone {
		f.miss(with)
		return
	}
	o := with.life.facts
	f.meetTwin(o)
	f.see(o)
	o.see(f)
	if f.m.Cluster().IsZero() || f.m.Cluster() != o.m.Cluster() {
		return
	}
	f.pull(o)
	o.pull(f)
}

// miss notes that a host did not answer. After the second time it counts as dead.
func (f *facts) miss(with *machine) {
	f.failed[with]++
	f.mu.Lock()
	defer f.mu.Unlock()
	if one, ok := f.members[with]; ok && one.Alive && f.failed[with] > 1 {
		one.Alive = false
		f.members[with] = one
		f.life.m.w.meet("host taken for dead")
		f.notify(f.memberSubs)
	}
}

func (f *facts) see(o *facts) {
	f.failed[o.life.m] = 0
	f.mu.Lock()
	defer f.mu.Unlock()
	next := gossip.Member{
		ID: o.cfg.Host, Name: o.cfg.Name, Addr: o.cfg.Advertise, Start: o.cfg.Start, Nonce: o.cfg.Nonce, Cluster: o.m.Cluster(), Keeper: o.keeper, Alive: true,
	}
	if f.members[o.life.m] != next {
		f.members[o.life.m] = next
		f.notify(f.memberSubs)
	}
}

// pull copies the facts that another copy has and this one lacks.
func (f *facts) pull(o *facts) {
	for _, p := range append(f.m.Compare(o.m.Heads()), f.m.Diverged(o.m.Heads())...) {
		if b, _, ok := o.m.Answer(p, 1<<20); ok {
			f.apply(b)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.synced {
		f.synced = true
		f.notify(f.memberSubs)
	}
}

// heardOfMyself tells the agent of a start of its identity that is not its own. Under mu.
func (f *facts) heardOfMyself(b netmap.Batch) {
	w := f.life.m.w
	mine, _ := f.m.Head(f.cfg.Host)
	if last, told := f.twins[b.Life]; mine.Covers(netmap.Head{Life: b.Life, Seq: b.Seq}) || told && w.now()-last < 5*time.Minute {
		return
	}
	f.twins[b.Life] = w.now()
	w.after(w.between(time.Millisecond, 50*time.Millisecond), func() {
		if f.life.m.life == f.life {
			f.cfg.OnClone(gossip.Clone{Host: f.cfg.Host, A: gossip.Member{ID: f.cfg.Host, Start: b.Life}, B: gossip.Member{ID: f.cfg.Host, Start: f.cfg.Start, Nonce: f.cfg.Nonce}})
		}
	})
}

// meetTwin tells both agents that they use one identity.
func (f *facts) meetTwin(o *facts) {
	w := f.life.m.w
	if f.cfg.Host != o.cfg.Host || f.cfg.Nonce == o.cfg.Nonce {
		return
	}
	if last, told := f.twins[o.cfg.Nonce]; told && w.now()-last < 5*time.Minute {
		return
	}
	f.twins[o.cfg.Nonce] = w.now()
	w.meet("clone noticed")
	a := gossip.Member{ID: f.cfg.Host, Addr: f.cfg.Advertise, Start: f.cfg.Start, Nonce: f.cfg.Nonce}
	b := gossip.Member{ID: o.cfg.Host, Addr: o.cfg.Advertise, Start: o.cfg.Start, Nonce: o.cfg.Nonce}
	f.cfg.OnClone(gossip.Clone{Host: f.cfg.Host, A: a, B: b})
	o.cfg.OnClone(gossip.Clone{Host: f.cfg.Host, A: b, B: a})
}
