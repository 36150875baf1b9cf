package gossip

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Figures of pulls.
const (
	firstPause  = 50 * time.Millisecond // after a failure, doubling
	longestWait = 2 * time.Second
	maxTries    = 6
	maxPulling  = 16 // requests for wanted logs at once
	// maxWanted bounds the logs that are wanted at once. Anybody can name logs that do not
	// exist, so half is kept for those that are known here.
	maxWanted = 1024
	// fewWanted logs are each asked of their origin. More are asked together of a host that
	// named some of them.
	fewWanted = 4
	// Requests for wanted logs: a few at once, then so many a second. What becomes wanted in
	// between is asked for together.
	pullBurst = 16
	pullRate  = 20
	// Exchanges with hosts that came alive.
	meetBurst = 4
	meetRate  = 4
)

// wanted is a log that is behind, how far it should reach, and which hosts said so.
type wanted struct {
	head  netmap.Head
	from  []netmap.HostID        // the last few
	asked map[netmap.HostID]bool // in this round
	due   time.Time              // when it is asked for
	tries int                    // since it reached further
	busy  bool                   // a request for it is under way
}

// want has a log pulled until it reaches head. Several calls for one log share the pull. Under
// g.mu.
func (g *Gossip) want(head netmap.Head, from netmap.HostID, wait time.Duration) {
	if head.Origin == g.cfg.Host || g.facts.Cluster().IsZero() || g.facts.Removed(head.Origin) {
		return
	}
	w := g.repair.wanted[head.Origin]
	if w == nil {
		if !g.mayWant(head.Origin) {
			return // the next digest shows what is still missing
		}
		w = &wanted{head: head, due: time.Now()}
		if wait > 0 {
			w.due = w.due.Add(jitter(wait))
		}
		g.repair.wanted[head.Origin] = w
		turn.Poke(g.lacking)
	}
	if !w.head.Covers(head) {
		w.head = head
	}
	if !from.IsZero() && !slices.Contains(w.from, from) {
		w.from = append(w.from[max(0, len(w.from)-2):], from)
	}
}

// mayWant reports whether one more log may be pulled. Under g.mu.
func (g *Gossip) mayWant(origin netmap.ID) bool {
	limit := maxWanted / 2
	if _, known := g.facts.Head(origin); known {
		limit = maxWanted
	}
	return len(g.repair.wanted) < limit
}

// pullWanted asks for wanted logs when they are due.
func (g *Gossip) pullWanted() {
	for g.ctx.Err() == nil {
		g.mu.Lock()
		wait := min(g.meetLater(time.Now()), g.startPulls(time.Now()))
		g.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-g.lacking:
		case <-timer.C:
		case <-g.ctx.Done():
		}
		timer.Stop()
	}
}

// undue is how long pullWanted waits when nothing is wanted: until it is woken.
const undue = time.Hour

// startPulls asks for what is due, and returns when to look again. Under g.mu.
func (g *Gossip) startPulls(now time.Time) time.Duration {
	for g.repair.pulling < maxPulling {
		due, next := g.due(now)
		if len(due) == 0 {
			return next
		}
		if wait := g.repair.pulls.ready(now); wait > 0 {
			return wait
		}
		source, found := g.sourceOf(due[0], len(due) > fewWanted)
		if !found {
			for _, w := range due {
				g.unwant(w)
			}
			return next
		}
		group := due[:0:0]
		for _, w := range due {
			if len(group) < netmap.MaxPulls && w.goesTo(source.ID, w == due[0] || len(due) > fewWanted) {
				group = append(group, w)
			}
		}
		g.repair.pulls.take(now, 1)
		if !g.startPull(source, group) {
			return undue
		}
	}
	return undue // a pull that ends wakes
}

// goesTo reports whether a log is asked of a host in one request with others.
func (w *wanted) goesTo(source netmap.HostID, anyway bool) bool {
	return !w.asked[source] && (anyway || w.head.Origin == source || slices.Contains(w.from, source))
}

// due lists the wanted logs that are due, known ones first and those that were
// tried most, and how long until the next one is. It drops those that lack nothing. Under g.mu.
func (g *Gossip) due(now time.Time) (due []*wanted, next time.Duration) {
	next = undue
	known := map[*wanted]bool{}
	for origin, w := range g.repair.wanted {
		switch {
		case w.busy:
		case len(g.facts.Compare([]netmap.Head{w.head})) == 0:
			delete(g.repair.wanted, origin) // who wants more from now on begins anew
		case w.due.After(now):
			next = min(next, w.due.Sub(now))
		default:
			_, known[w] = g.facts.Head(origin)
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b *wanted) int {
		if known[a] != known[b] {
			if known[a] {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.tries, a.tries)
	})
	return due, next
}

// sourceOf returns which host to ask for a log: its origin (for the ledger's log a keeper), a
// host that said that there is more, else any. Where much is wanted, those that said so come
// first, as they may have the rest. False: no host is there. Under g.mu.
func (g *Gossip) sourceOf(w *wanted, crowded bool) (Member, bool) {
	cluster := g.facts.Cluster()
	for range 2 {
		first, then := g.origins(w, cluster), w.from
		if crowded {
			first, then = then, first
		}
		for _, id := range slices.Concat(shuffled(slices.Clone(first)), shuffled(slices.Clone(then))) {
			m, ok := g.roster.find(id)
			isIn := m.Cluster == cluster || id == w.head.Origin // which may be admitted and not known to be
			if ok && m.Alive && isIn && !w.asked[id] {
				return m, true
			}
		}
		for _, m := range g.roster.pick(cluster, len(w.asked)+1) {
			if !w.asked[m.ID] {
				return m, true
			}
		}
		w.asked = nil // everybody was asked: from the beginning
	}
	return Member{}, false
}

// origins are the hosts that a log comes from. Under g.mu.
func (g *Gossip) origins(w *wanted, cluster netmap.ClusterID) []netmap.HostID {
	if w.head.Origin != cluster {
		return []netmap.HostID{w.head.Origin}
	}
	var keepers []netmap.HostID
	for _, m := range g.roster.alive {
		if m.Keeper {
			keepers = append(keepers, m.ID)
		}
	}
	return keepers
}

func shuffled[T any](a []T) []T {
	rand.Shuffle(len(a), func(i, j int) { a[i], a[j] = a[j], a[i] })
	return a
}

// startPull asks a host for some wanted logs. It returns false after Close. Under g.mu.
func (g *Gossip) startPull(source Member, group []*wanted) bool {
	heads, before := make([]netmap.Head, len(group)), make([]netmap.Head, len(group))
	for i, w := range group {
		heads[i] = w.head
		before[i], _ = g.facts.Head(w.head.Origin)
		if w.asked == nil {
			w.asked = map[netmap.HostID]bool{}
		}
		w.asked[source.ID], w.busy = true, true
	}
	pulls := g.facts.Compare(heads)
	g.repair.pulling++
	return g.run(func() {
		if err := g.fetch(source, pulls); err != nil {
			g.cfg.Log.Debug("gossip: a pull failed", "logs", len(pulls), "peer", source.Addr.String(), "err", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.repair.pulling--
		for i, w := range group {
			after, _ := g.facts.Head(w.head.Origin)
			g.pulled(w, !before[i].Covers(after))
		}
		turn.Poke(g.lacking)
	})
}

// pulled says when to ask for a log again, or gives it up. Under g.mu.
func (g *Gossip) pulled(w *wanted, advanced bool) {
	w.busy, w.due = false, time.Now()
	if advanced {
		w.tries = 0
		return
	}
	w.due = w.due.Add(jitter(min(firstPause<<w.tries, longestWait)))
	if w.tries++; w.tries == maxTries {
		g.unwant(w)
	}
}

// unwant gives a log up, and the batches that wait for it, as nobody has what is before them.
// Under g.mu.
func (g *Gossip) unwant(w *wanted) {
	delete(g.repair.wanted, w.head.Origin)
	g.repair.release(w.head.Origin)
}

// meet has an exchange with a host that came alive. Where many come at once, one of them stands
// for several, since all tell each other. Under g.mu.
func (g *Gossip) meet(m Member) {
	if now := time.Now(); g.repair.meets.ready(now) == 0 {
		g.repair.meets.take(now, 1)
		g.talkTo(m)
		return
	}
	g.repair.unmet = true
	turn.Poke(g.lacking)
}

// meetLater has an exchange with some host when the last that came alive had none, and returns
// when to look again. Under g.mu.
func (g *Gossip) meetLater(now time.Time) time.Duration {
	if !g.repair.unmet {
		return undue
	}
	if wait := g.repair.meets.ready(now); wait > 0 {
		return wait
	}
	g.repair.meets.take(now, 1)
	g.repair.unmet = false
	for _, m := range g.roster.pick(g.facts.Cluster(), 1) {
		g.talkTo(m)
	}
	return undue
}
