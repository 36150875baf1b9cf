package gossip

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// The requests that hosts ask each other.
const (
	callPull  = "gossip.pull"
	callHeads = "gossip.heads"
)

// Figures of pulls.
const (
	callWait    = 3 * time.Second
	firstPause  = 50 * time.Millisecond // after a failure, doubling
	longestWait = 2 * time.Second
	maxTries    = 6
	pageBytes   = 256 << 10
	maxPages    = 1024 // of one log
	// maxWanted bounds the logs that are pulled at once, each by a goroutine. Anybody can
	// name logs that do not exist, so half is kept for those that are known here.
	maxWanted = 1024
)

// wanted is a log that is behind, how far it should reach, and which hosts said so.
type wanted struct {
	head  netmap.Head
	from  []netmap.HostID        // the last few
	asked map[netmap.HostID]bool // in this round
}

// want starts to pull a log until it reaches head. Several calls for one log share the
// pull. Under g.mu.
func (g *Gossip) want(head netmap.Head, from netmap.HostID, wait time.Duration) {
	if head.Origin == g.cfg.Host || g.facts.Cluster().IsZero() || g.facts.Removed(head.Origin) {
		return
	}
	w := g.repair.wanted[head.Origin]
	if w == nil {
		if !g.mayWant(head.Origin) {
			return // the next digest shows what is still missing
		}
		w = &wanted{head: head}
		if !g.run(func() { g.pullUntil(w, wait) }) {
			return
		}
		g.repair.wanted[head.Origin] = w
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

// pullUntil asks one host after another until the log reaches as far as wanted.
func (g *Gossip) pullUntil(w *wanted, wait time.Duration) {
	defer g.unwant(w)
	for try := 0; try < maxTries; try++ {
		if wait > 0 && !turn.Sleep(g.ctx, jitter(wait)) {
			return
		}
		source, pull, ok := g.nextSource(w)
		if !ok {
			return
		}
		select {
		case g.slots <- struct{}{}:
		case <-g.ctx.Done():
			return
		}
		advanced, err := g.fetch(source, pull)
		<-g.slots
		if err != nil {
			g.cfg.Log.Debug("gossip: a pull failed", "host", pull.Origin.String(), "peer", source.Addr.String(), "err", err)
		}
		if wait = min(firstPause<<try, longestWait); advanced {
			wait, try = 0, -1
		}
	}
}

func (g *Gossip) unwant(w *wanted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.repair.wanted[w.head.Origin] == w {
		delete(g.repair.wanted, w.head.Origin)
		g.repair.release(w.head.Origin) // nobody has what is before it
	}
}

// nextSource returns which host to ask for what: first the origin itself (for the
// ledger's log a keeper), then the hosts that said that there is more, then any host. It
// returns false when nothing is missing or no host is there.
func (g *Gossip) nextSource(w *wanted) (Member, netmap.Pull, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pulls := g.facts.Compare([]netmap.Head{w.head})
	live := g.roster.live(g.facts.Cluster())
	if len(pulls) == 0 || len(live) == 0 {
		delete(g.repair.wanted, w.head.Origin) // at once: who wants more from now on begins anew
		return Member{}, netmap.Pull{}, false
	}
	rank := func(m Member) int {
		switch {
		case w.asked[m.ID]:
			return 3
		case m.ID == w.head.Origin, m.Keeper && w.head.Origin == g.facts.Cluster():
			return 0
		case slices.Contains(w.from, m.ID):
			return 1
		}
		return 2
	}
	next := slices.MinFunc(some(live, len(live)), func(a, b Member) int { return rank(a) - rank(b) })
	if w.asked[next.ID] || w.asked == nil { // everybody was: from the beginning
		w.asked = map[netmap.HostID]bool{}
	}
	w.asked[next.ID] = true
	return next, pulls[0], true
}

// fetch pulls one log from one host, page by page, and reports whether it reaches
// further now.
func (g *Gossip) fetch(from Member, p netmap.Pull) (advanced bool, err error) {
	var whole netmap.Batch
	for range maxPages {
		b, more, err := g.ask(from, p)
		if err != nil {
			return advanced, err
		}
		if b.Whole && p.After != (netmap.Key{}) {
			joined, ok := whole.Join(b)
			if !ok { // the origin started anew in between
				p.After = netmap.Key{}
				continue
			}
			b = joined
		}
		if b.Whole && more {
			whole, p.After = b, b.LastKey()
			continue
		}
		before := g.headOf(p.Origin)
		if err := g.takeIn(b, false); err != nil {
			return advanced, err
		}
		advanced = advanced || !before.Covers(g.headOf(p.Origin))
		if !more || b.Whole {
			return advanced, nil
		}
		p.From = b.Seq
	}
	return advanced, fmt.Errorf("gossip: %s has more than %d pages of %s", from.Addr, maxPages, p.Origin.Short())
}

func (g *Gossip) headOf(origin netmap.ID) netmap.Head {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, _ := g.facts.Head(origin)
	return h
}

// ask sends one pull and reads its answer: more (0 or 1) and a batch.
func (g *Gossip) ask(from Member, p netmap.Pull) (b netmap.Batch, more bool, err error) {
	g.stats.pulls.Add(1)
	cluster := g.own().Cluster
	answer, err := g.call(from, callPull, netmap.AppendPull(cluster[:], p))
	if err != nil {
		return b, false, err
	}
	if len(answer) < 1 || answer[0] > 1 {
		return b, false, fmt.Errorf("gossip: an answer of %d bytes from %s: %w", len(answer), from.Addr, netmap.ErrMalformed)
	}
	if b, err = netmap.DecodeBatch(answer[1:]); err == nil && b.Origin != p.Origin {
		err = fmt.Errorf("gossip: %s answers with facts of another host: %w", from.Addr, netmap.ErrMalformed)
	}
	return b, answer[0] == 1, err
}

func (g *Gossip) call(to Member, name string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(g.ctx, callWait)
	defer cancel()
	answer, err := g.cfg.Underlay.Call(ctx, to.Addr, name, body)
	g.stats.pulledBytes.Add(uint64(len(answer)))
	return answer, err
}

// serve begins to answer requests of other hosts.
func (g *Gossip) serve() {
	g.cfg.Handle(callPull, g.admitted(func(body []byte) ([]byte, error) {
		p, err := netmap.DecodePull(body)
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		b, more, ok := g.facts.Answer(p, pageBytes)
		if !ok {
			return nil, fmt.Errorf("gossip: nothing is known here of %s", p.Origin)
		}
		head := []byte{0}
		if more {
			head[0] = 1
		}
		return netmap.AppendBatch(head, b), nil
	}))
	g.cfg.Handle(callHeads, g.admitted(func(body []byte) ([]byte, error) {
		digest, err := netmap.DecodeDigest(body)
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		return netmap.AppendHeads(nil, g.facts.HeadsUnlike(digest)), nil
	}))
}

// admitted refuses requests of other clusters. A request begins with the asker's cluster.
func (g *Gossip) admitted(answer func([]byte) ([]byte, error)) Handler {
	return func(_ context.Context, from netip.AddrPort, body []byte) ([]byte, error) {
		own := g.own()
		if len(body) < 16 {
			g.stats.malformed.Add(1)
			return nil, fmt.Errorf("gossip: a request of %d bytes: %w", len(body), netmap.ErrMalformed)
		}
		if theirs := netmap.ClusterID(body[:16]); theirs != own.Cluster || theirs.IsZero() {
			g.stats.foreign.Add(1)
			return nil, netmap.Refuse(netmap.Foreign, "host %s is of cluster %s, the request of cluster %s; see weft status on both", own.Name, own.Cluster, theirs)
		}
		out, err := answer(body[16:])
		if err != nil {
			g.stats.malformed.Add(1)
			g.limited.Warn("request "+from.Addr().String(), "gossip: a request was refused", "peer", from.String(), "err", err)
		}
		return out, err
	}
}

// talkTo begins a full exchange with a host, one at a time with each and a few at
// once. Under g.mu.
func (g *Gossip) talkTo(m Member) {
	if g.repair.talks[m.ID] || len(g.repair.talks) >= maxExchanges || !m.Alive {
		return
	}
	g.repair.talks[m.ID] = g.run(func() {
		if err := g.exchange(m); err != nil {
			g.cfg.Log.Debug("gossip: an exchange failed", "peer", m.Addr.String(), "err", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.repair.talks, m.ID)
	})
}

// exchange pulls everything that another host has and this one lacks.
func (g *Gossip) exchange(m Member) error {
	g.mu.Lock()
	cluster, digest := g.facts.Cluster(), g.facts.Digest()
	g.mu.Unlock()
	answer, err := g.call(m, callHeads, netmap.AppendDigest(cluster[:], digest))
	if err != nil {
		return err
	}
	heads, err := netmap.DecodeHeads(answer)
	if err != nil {
		g.stats.malformed.Add(1)
		return fmt.Errorf("gossip: heads from %s: %w", m.Addr, err)
	}
	return g.fetchAll(m, g.missing(m, heads))
}

func (g *Gossip) missing(m Member, heads []netmap.Head) []netmap.Pull {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range heads {
		if h.Origin == g.cfg.Host {
			g.heardOfMyself(h)
		}
	}
	for _, p := range g.facts.Diverged(heads) {
		if p.Origin == m.ID {
			g.verify(p.Origin)
		}
	}
	return slices.DeleteFunc(g.facts.Compare(heads), func(p netmap.Pull) bool { return p.Origin == g.cfg.Host })
}

// fetchAll pulls many logs from one host, a few at once.
func (g *Gossip) fetchAll(m Member, pulls []netmap.Pull) error {
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for _, p := range pulls {
		select {
		case g.slots <- struct{}{}:
		case <-g.ctx.Done():
			return g.ctx.Err()
		}
		all.Go(func() {
			defer func() { <-g.slots }()
			if _, err := g.fetch(m, p); err != nil {
				failed.Store(&err)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// syncEvery is how often a host that is not synced looks for somebody to ask.
const syncEvery = 100 * time.Millisecond

// synchronise asks live hosts for everything until one answered, at the start
// and again after SetCluster.
func (g *Gossip) synchronise() {
	for turn.Sleep(g.ctx, syncEvery) {
		g.mu.Lock()
		cluster, done := g.facts.Cluster(), g.synced
		live := some(g.roster.live(cluster), 1)
		g.mu.Unlock()
		if done || cluster.IsZero() || len(live) == 0 {
			continue
		}
		if err := g.exchange(live[0]); err != nil {
			continue
		}
		g.mu.Lock()
		if g.facts.Cluster() == cluster {
			g.synced = true
			g.notify()
		}
		g.mu.Unlock()
	}
}
