package gossip

import (
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Figures of the fan-out.
const (
	gather     = 2 * time.Millisecond // what changes within it after a datagram travels together
	paceRate   = 4_000_000            // bytes a second in the long run
	paceBurst  = 1_000_000            // bytes at once: a few events to a large cluster
	ipAndUDP   = 28                   // bytes around a datagram
	maxUnheard = 64                   // pieces of one log sent; beyond, others pull
)

// outbox notes up to where this host's own log and the ledger's were sent.
type outbox struct {
	own       uint64 // of the own log
	decided   uint64 // of the ledger's log
	published uint64 // by this host's ledger, since Start
	lead      bool
	greet     []Member // hosts that came alive since the last fan-out, and may lack the own log
}

// setLead makes this host send the ledger's log to the others from what is known now, or stops
// that.
func (o *outbox) setLead(lead bool, facts *netmap.Map) {
	if lead && !o.lead {
		head, _ := facts.Head(facts.Cluster())
		o.decided = head.Seq
	}
	o.lead = lead
}

// due returns what is to be sent: batches, and heads instead of batches that would be too
// large, or that would replace a log, which no host accepts from a datagram. It derives that
// from the logs, so nothing is queued.
func (o *outbox) due(facts *netmap.Map, self netmap.HostID) (batches []netmap.Batch, heads []netmap.Head) {
	if facts.Cluster().IsZero() {
		return nil, nil
	}
	o.own = collect(facts, self, o.own, &batches, &heads)
	if o.lead {
		o.decided = collect(facts, facts.Cluster(), o.decided, &batches, &heads)
	}
	return batches, heads
}

func collect(facts *netmap.Map, origin netmap.ID, sent uint64, batches *[]netmap.Batch, heads *[]netmap.Head) uint64 {
	head, ok := facts.Head(origin)
	if !ok || head.Seq <= sent {
		return sent
	}
	all, ok := facts.Since(origin, head.Life, sent)
	if !ok || sent == 0 {
		*heads = append(*heads, head)
		return head.Seq
	}
	pieces := all.Split(maxPacket - packetHead)
	if len(pieces) > maxUnheard {
		pieces = nil
		*heads = append(*heads, head)
	}
	for _, p := range pieces {
		if len(netmap.AppendBatch(nil, p)) <= maxPacket-packetHead {
			*batches = append(*batches, p)
			continue
		}
		*heads = append(*heads, head) // it comes too large for a datagram: they pull
		break
	}
	return head.Seq
}

// fanOut sends what changed to every live host of the cluster: at once, since others may wait
// for it, and together with what follows within the gather time. To hosts that came alive it
// sends the head of the own log.
func (g *Gossip) fanOut() {
	var last time.Time
	for g.wait(g.unsent) {
		if early := gather - time.Since(last); early > 0 && !turn.Sleep(g.ctx, early) {
			return
		}
		last = time.Now()
		g.mu.Lock()
		cluster := g.facts.Cluster()
		batches, heads := g.out.due(g.facts, g.cfg.Host)
		targets, greet := []Member(nil), g.out.greet
		if len(batches)+len(heads) > 0 {
			targets = g.roster.live(cluster)
		}
		g.out.greet = nil
		own, said := g.facts.Head(g.cfg.Host)
		g.mu.Unlock()
		for _, b := range batches {
			g.sendAll(targets, netmap.AppendBatch(encodePacket(packetBatch, cluster, maxPacket), b))
		}
		if len(heads) > 0 {
			g.sendAll(targets, g.headsPacket(cluster, heads))
		}
		if said && !cluster.IsZero() {
			g.sendAll(greet, g.headsPacket(cluster, []netmap.Head{own}))
		}
	}
}

// sendAll sends one datagram to many hosts.
func (g *Gossip) sendAll(targets []Member, datagram []byte) {
	for _, m := range targets {
		if wait := g.pace.take(time.Now(), len(datagram)+ipAndUDP); wait > 0 && !turn.Sleep(g.ctx, wait) {
			return
		}
		g.send(m, datagram)
	}
}

func (g *Gossip) send(to Member, datagram []byte) {
	if _, err := g.cfg.Packets.WriteTo(datagram, to.Addr); err != nil {
		g.cfg.Log.Debug("gossip: a datagram did not leave", "peer", to.Addr.String(), "err", err)
		return
	}
	g.stats.sent.Add(1)
	g.stats.sentBytes.Add(uint64(len(datagram)))
}

func (g *Gossip) headsPacket(cluster netmap.ClusterID, heads []netmap.Head) []byte {
	b := encodePacket(packetHeads, cluster, maxPacket)
	b = append(b, g.cfg.Host[:]...)
	return netmap.AppendHeads(b, heads[:min(len(heads), maxHeads)])
}

// pace is a token bucket: a burst passes at once, then rate a second. Safe for concurrent use.
type pace struct {
	rate, burst int

	mu     sync.Mutex
	filled time.Time // when the bucket is full again
}

// take takes n, and returns how long to wait before using them.
func (p *pace) take(now time.Time, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filled.Before(now) {
		p.filled = now
	}
	p.filled = p.filled.Add(p.time(n))
	return max(0, p.filled.Sub(now)-p.time(p.burst))
}

// ready returns how long to wait until one can be taken.
func (p *pace) ready(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filled.Before(now) {
		return 0
	}
	return max(0, p.filled.Sub(now)+p.time(1)-p.time(p.burst))
}

func (p *pace) time(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(p.rate)
}

func sortChanges(changes []netmap.Change) {
	slices.SortFunc(changes, func(a, b netmap.Change) int { return a.Key.Compare(b.Key) })
}
