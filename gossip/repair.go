package gossip

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Figures of the repair.
const (
	patience     = 20 * time.Millisecond // a datagram that was overtaken may still come
	maxHeld      = 16                    // batches held per origin until what is before them came
	maxHeldInAll = 2048                  // batches held of all origins
	headsEvery   = time.Second
	headsTo      = 3
	headsRecent  = 10 * time.Second // what this host sends, its log or the ledger's, is told about each second after a change
	headsOthers  = 3 * time.Second  // logs that others send: by then each host has heard of a change nine times
	digestEvery  = 5 * time.Second
	verifyEvery  = 30 * time.Second // a copy that differs is fetched anew at most this often
	maxExchanges = 4                // full exchanges at once
)

// repairs keeps which logs are known to lack something, and which hosts are asked for it.
type repairs struct {
	held     map[netmap.ID][]netmap.Batch
	holding  int // batches in held
	wanted   map[netmap.ID]*wanted
	touched  map[netmap.ID]time.Time
	verified map[netmap.ID]time.Time
	talks    map[netmap.HostID]bool // exchanges under way
	pulling  int                    // requests for wanted logs under way
	pulls    pace                   // of them
	meets    pace                   // exchanges with hosts that came alive
	unmet    bool                   // some came alive and had none
}

func newRepairs() repairs {
	return repairs{
		held: map[netmap.ID][]netmap.Batch{}, wanted: map[netmap.ID]*wanted{}, touched: map[netmap.ID]time.Time{},
		verified: map[netmap.ID]time.Time{}, talks: map[netmap.HostID]bool{},
		pulls: pace{rate: pullRate, burst: pullBurst}, meets: pace{rate: meetRate, burst: meetBurst},
	}
}

// hold keeps a batch that came too early. A batch that does not fit is dropped, as it is
// pulled anyway.
func (r *repairs) hold(b netmap.Batch) {
	list := r.held[b.Origin]
	if len(list) < maxHeld && r.holding < maxHeldInAll {
		r.held[b.Origin] = append(list, b)
		r.holding++
	}
}

// release returns the batches that were held of an origin, the earliest first.
func (r *repairs) release(origin netmap.ID) []netmap.Batch {
	list := r.held[origin]
	r.holding -= len(list)
	delete(r.held, origin)
	slices.SortStableFunc(list, func(a, b netmap.Batch) int {
		if a.Prev < b.Prev {
			return -1
		}
		return 1
	})
	return list
}

func (r *repairs) touch(origin netmap.ID, now time.Time) { r.touched[origin] = now }

// news lists the heads of logs that changed lately: this host's own and the ledger's first, then
// the others in random order. The ledger's is as others' logs, unless this host leads the ledger.
func (r *repairs) news(facts *netmap.Map, self netmap.HostID, lead bool, now time.Time) []netmap.Head {
	var out []netmap.Head
	for _, id := range []netmap.ID{self, facts.Cluster()} {
		recent := headsRecent
		if id != self && !lead {
			recent = headsOthers
		}
		if h, ok := facts.Head(id); ok && now.Sub(r.touched[id]) <= recent {
			out = append(out, h)
		}
	}
	first := len(out)
	for id, at := range r.touched {
		if now.Sub(at) > headsRecent {
			delete(r.touched, id)
		} else if h, ok := facts.Head(id); ok && now.Sub(at) <= headsOthers && id != self && id != facts.Cluster() {
			out = append(out, h)
		}
	}
	shuffled(out[first:])
	return out[:min(len(out), maxHeads)]
}

// jitter varies an interval, so that hosts that started together do not act at the same time.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

// tellHeads sends the heads of logs that changed lately to a few other hosts every second, so
// that they notice the loss of a log's last datagram. What is older, digests show.
func (g *Gossip) tellHeads() {
	for turn.Sleep(g.ctx, jitter(headsEvery)) {
		g.mu.Lock()
		cluster := g.facts.Cluster()
		heads := g.repair.news(g.facts, g.cfg.Host, g.out.lead, time.Now())
		targets := g.roster.pick(cluster, headsTo)
		g.mu.Unlock()
		if !cluster.IsZero() && len(heads) > 0 {
			g.sendAll(targets, g.headsPacket(cluster, heads))
		}
	}
}

// tellDigest sends one other host a digest of everything every five seconds.
func (g *Gossip) tellDigest() {
	for turn.Sleep(g.ctx, jitter(digestEvery)) {
		g.mu.Lock()
		targets := g.roster.pick(g.facts.Cluster(), 1)
		g.mu.Unlock()
		for _, m := range targets {
			g.showDigest(m, true)
		}
	}
}

func (g *Gossip) showDigest(to Member, answer bool) {
	g.mu.Lock()
	note := digestNote{Cluster: g.facts.Cluster(), From: g.cfg.Host, Answer: answer, Digest: g.facts.Digest()}
	g.mu.Unlock()
	if !note.Cluster.IsZero() {
		g.send(to, append(encodePacket(packetDigest, note.Cluster, 600), note.body()...))
	}
}

// localState is added to memberlist's own exchanges: the cluster and a digest.
func (g *Gossip) localState() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	note := digestNote{Cluster: g.facts.Cluster(), From: g.cfg.Host, Digest: g.facts.Digest()}
	return append(append([]byte{protocol.Written}, note.Cluster[:]...), note.body()...)
}

func (g *Gossip) mergeRemoteState(buf []byte) {
	if len(buf) < 17 || !protocol.Reads(buf[0]) {
		g.stats.malformed.Add(1)
		return
	}
	note, err := decodeDigestNote(netmap.ClusterID(buf[1:17]), buf[17:])
	if err != nil {
		g.stats.malformed.Add(1)
		g.limited.Warn("malformed exchange", "gossip: a digest was refused", "err", err)
		return
	}
	if note.Cluster == g.own().Cluster && !note.Cluster.IsZero() {
		g.weigh(note)
	}
}

// weigh compares another host's digest with this host's, and asks it for the difference.
func (g *Gossip) weigh(note digestNote) {
	g.mu.Lock()
	from, known := g.roster.find(note.From)
	same := g.facts.Digest() == note.Digest
	if !same && known {
		g.talkTo(from)
	}
	g.mu.Unlock()
	if !same && known && note.Answer {
		g.showDigest(from, false)
	}
}

// compare pulls what another host has and this one lacks.
func (g *Gossip) compare(from netmap.HostID, heads []netmap.Head) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range heads {
		if h.Origin == g.cfg.Host {
			g.hintOfMyself(h)
		} else if len(g.facts.Compare([]netmap.Head{h})) > 0 {
			g.want(h, from, 0)
		} else if h.Origin == from && len(g.facts.Diverged([]netmap.Head{h})) > 0 {
			g.verify(h.Origin)
		}
	}
}

// verify fetches a log again from its origin, which reports that this host's copy differs
// although it reaches as far. Two agents with one identity cause that, or a bug. Under
// g.mu.
func (g *Gossip) verify(origin netmap.ID) {
	now := time.Now()
	source, ok := g.roster.find(origin)
	if !ok || !source.Alive || now.Sub(g.repair.verified[origin]) < verifyEvery {
		return
	}
	g.repair.verified[origin] = now
	g.limited.Warn("differs "+origin.String(), "gossip: the facts of a host differ from what it says itself; fetching them anew", "host", origin.String())
	g.run(func() { _ = g.fetch(source, []netmap.Pull{{Origin: origin}}) })
}
