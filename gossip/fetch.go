package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// The requests that hosts ask each other.
const (
	callPull  = "gossip.pull"
	callHeads = "gossip.heads"
)

// Figures of requests.
const (
	callWait  = 3 * time.Second
	pageBytes = 256 << 10
	maxPages  = 1024 // of one fetch
	// From so many logs on, a host that lacks them asks others as well as the one that told it.
	spreadFrom = 64
	spreadOver = 8
)

// serve begins to answer requests of other hosts.
func (g *Gossip) serve() {
	g.cfg.Handle(callPull, g.admitted(func(body []byte) ([]byte, error) {
		pulls, err := netmap.DecodePulls(body)
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.facts.AppendAnswer(nil, pulls, pageBytes), nil
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

func (g *Gossip) call(to Member, name string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(g.ctx, callWait)
	defer cancel()
	answer, err := g.cfg.Underlay.Call(ctx, to.Addr, name, body)
	g.stats.pulledBytes.Add(uint64(len(answer)))
	return answer, err
}

// ask sends one request for several logs.
func (g *Gossip) ask(from Member, pulls []netmap.Pull) (parts []netmap.Part, full bool, err error) {
	g.stats.pulls.Add(1)
	cluster := g.own().Cluster
	answer, err := g.call(from, callPull, netmap.AppendPulls(cluster[:], pulls))
	if err != nil {
		return nil, false, err
	}
	return netmap.DecodeAnswer(answer)
}

// fetch pulls logs from one host, as far as it has them.
func (g *Gossip) fetch(from Member, pulls []netmap.Pull) error {
	select {
	case g.slots <- struct{}{}:
	case <-g.ctx.Done():
		return g.ctx.Err()
	}
	defer func() { <-g.slots }()
	f := fetching{g: g, from: from, left: pulls}
	var failed error
	for range maxPages {
		if len(f.left) == 0 {
			return failed
		}
		err := f.page()
		if errors.Is(err, errNoAnswer) {
			return err
		}
		failed = errors.Join(failed, err)
	}
	return fmt.Errorf("gossip: %s has more than %d pages of %s", from.Addr, maxPages, f.left[0].Origin.Short())
}

// errNoAnswer ends a fetch. Other errors are about one log.
var errNoAnswer = errors.New("no answer that can be used")

// fetching is the state of a fetch.
type fetching struct {
	g     *Gossip
	from  Member
	left  []netmap.Pull
	whole netmap.Batch // the pages of a snapshot so far
}

// page asks for what is left, and takes one answer in.
func (f *fetching) page() error {
	asked := f.left[:min(len(f.left), netmap.MaxPulls)]
	parts, full, err := f.g.ask(f.from, asked)
	if err == nil && full && len(parts) == 0 {
		err = fmt.Errorf("%s has room for nothing: %w", f.from.Addr, netmap.ErrMalformed)
	}
	if err != nil {
		return fmt.Errorf("gossip: %w: %w", errNoAnswer, err)
	}
	var again, rest []netmap.Pull
	if rest = slices.Clone(asked); !full {
		rest = rest[:0]
	}
	for _, part := range parts {
		i := slices.IndexFunc(asked, func(p netmap.Pull) bool { return p.Origin == part.Batch.Origin })
		if i < 0 {
			return fmt.Errorf("gossip: %w: %s answers with facts of another host: %w", errNoAnswer, f.from.Addr, netmap.ErrMalformed)
		}
		rest = slices.DeleteFunc(rest, func(p netmap.Pull) bool { return p.Origin == part.Batch.Origin })
		p := asked[i]
		more, failed := f.take(&p, part)
		if more {
			again = append(again, p)
		}
		err = errors.Join(err, failed)
	}
	f.left = slices.Concat(again, rest, f.left[len(asked):])
	return err
}

// take takes in what an answer has of one log. It reports whether p is to be asked again.
func (f *fetching) take(p *netmap.Pull, part netmap.Part) (more bool, err error) {
	f.g.mu.Lock()
	b, ok := f.g.facts.Expand(part, p.Sum)
	f.g.mu.Unlock()
	p.Sum = 0
	if !ok { // the copy changed meanwhile
		return true, nil
	}
	if b.Whole && p.After != (netmap.Key{}) {
		if b, ok = f.whole.Join(b); !ok { // the origin started anew in between
			p.After = netmap.Key{}
			return true, nil
		}
	}
	if b.Whole && part.More {
		f.whole, p.After = b, b.LastKey()
		return true, nil
	}
	if err := f.g.takeIn(b, false); err != nil {
		return false, err
	}
	p.From = b.Seq
	return part.More, nil
}

// talkTo begins a full exchange with a host, one at a time with each and a few at
// once. Under g.mu.
func (g *Gossip) talkTo(m Member) {
	if g.repair.talks[m.ID] || len(g.repair.talks) >= maxExchanges || !m.Alive {
		return
	}
	g.repair.talks[m.ID] = g.run(func() {
		if _, err := g.exchange(m); err != nil {
			g.cfg.Log.Debug("gossip: an exchange failed", "peer", m.Addr.String(), "err", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.repair.talks, m.ID)
	})
}

// exchange pulls everything that another host has and this one lacks. It returns how many logs
// those were.
func (g *Gossip) exchange(m Member) (lacked int, err error) {
	g.mu.Lock()
	cluster, digest := g.facts.Cluster(), g.facts.Digest()
	g.mu.Unlock()
	answer, err := g.call(m, callHeads, netmap.AppendDigest(cluster[:], digest))
	if err != nil {
		return 0, err
	}
	heads, err := netmap.DecodeHeads(answer)
	if err != nil {
		g.stats.malformed.Add(1)
		return 0, fmt.Errorf("gossip: heads from %s: %w", m.Addr, err)
	}
	pulls := g.missing(m, heads)
	if len(pulls) >= spreadFrom {
		g.fetchSpread(m, pulls)
	}
	return len(pulls), g.fetch(m, g.lacks(heads))
}

// missing lists what to pull from a host with these heads, and looks for signs that a copy
// differs or that somebody else uses this host's id.
func (g *Gossip) missing(m Member, heads []netmap.Head) []netmap.Pull {
	g.mu.Lock()
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
	g.mu.Unlock()
	return g.lacks(heads)
}

func (g *Gossip) lacks(heads []netmap.Head) []netmap.Pull {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(g.facts.Compare(heads), func(p netmap.Pull) bool { return p.Origin == g.cfg.Host })
}

// fetchSpread pulls many logs from a host and from others beside it, each a share, so that no
// host serves everything to all newcomers. What the others do not have is still missing then.
func (g *Gossip) fetchSpread(m Member, pulls []netmap.Pull) {
	g.mu.Lock()
	sources := g.roster.pick(g.facts.Cluster(), min(spreadOver, len(pulls)/spreadFrom)-1)
	g.mu.Unlock()
	sources = append(slices.DeleteFunc(sources, func(o Member) bool { return o.ID == m.ID }), m)
	var all sync.WaitGroup
	share := (len(pulls) + len(sources) - 1) / len(sources)
	for i, source := range sources {
		part := pulls[min(i*share, len(pulls)):min((i+1)*share, len(pulls))]
		all.Go(func() {
			if err := g.fetch(source, part); err != nil {
				g.cfg.Log.Debug("gossip: a pull failed", "logs", len(part), "peer", source.Addr.String(), "err", err)
			}
		})
	}
	all.Wait()
}

// Pauses of synchronise.
const (
	syncEvery  = 100 * time.Millisecond // after an exchange that failed
	roundFirst = 100 * time.Millisecond // before a further round, doubling once one brings nothing
	lastRounds = 4                      // that bring nothing, one after the other
)

// synchronise asks live hosts for everything until one answered, at the start and again after
// SetCluster, and goes on in rounds. It sleeps while there is nobody to ask.
func (g *Gossip) synchronise() {
	for g.wait(g.unsynced) {
		again, done := true, false
		for again {
			if again, done = g.askForAll(); again && !turn.Sleep(g.ctx, syncEvery) {
				return
			}
		}
		if done {
			g.rounds()
		}
	}
}

// askForAll has an exchange if this host is not synced. It reports whether that failed, or
// whether it is synced now and was not before.
func (g *Gossip) askForAll() (failed, done bool) {
	g.mu.Lock()
	cluster, before := g.facts.Cluster(), g.synced
	live := g.roster.pick(cluster, 1)
	g.mu.Unlock()
	if before || cluster.IsZero() || len(live) == 0 {
		return false, false
	}
	if _, err := g.exchange(live[0]); err != nil {
		return true, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.facts.Cluster() != cluster {
		return true, false
	}
	g.synced = true
	g.notify()
	return false, true
}

// rounds asks further hosts for everything until that brings nothing. Where many hosts started
// together, each of them knows few of the others' logs at first, and twice as many after each round.
func (g *Gossip) rounds() {
	pause := roundFirst
	for quiet := 0; quiet < lastRounds && turn.Sleep(g.ctx, jitter(pause)); {
		_, some := g.liveOnes(1)
		for _, m := range some {
			if lacked, err := g.exchange(m); err == nil && lacked > 0 {
				quiet, pause = -1, roundFirst
			}
		}
		if quiet++; quiet > 0 {
			pause *= 2
		}
	}
}
