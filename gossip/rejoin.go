package gossip

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Figures of finding peers.
const (
	joinFirst   = 500 * time.Millisecond // between tries while nobody answers, doubling
	joinSlowest = 15 * time.Second
	rejoinEvery = 4 * time.Second // for known hosts that are not alive
	rejoinTo    = 3               // of them at once
	joinEnough  = 32              // answers of one round
	answeredFor = 5 * time.Minute
)

// echoes are the times after a first join at which a few known members are joined again. Hosts
// that started together know few others, so memberlist repeats their first messages too seldom.
var echoes = []time.Duration{time.Second, 3 * time.Second, 8 * time.Second}

// rejoin keeps looking for hosts: at all configured and known addresses while no host is alive,
// later at those of hosts that are not alive. So a network partition heals even if it lasts
// longer than memberlist remembers dead hosts.
func (g *Gossip) rejoin() {
	lonely, joined := joinFirst, false
	answered := map[netip.AddrPort]time.Time{}
	for g.ctx.Err() == nil {
		alone := g.alone()
		switch {
		case alone:
			clear(answered)
			g.joinAll(g.everyone(), answered)
			joined = false
		case !joined:
			joined = true
			g.echo()
		default:
			g.joinAll(g.missingHosts(answered), answered)
		}
		wait := rejoinEvery
		if alone && g.alone() {
			wait, lonely = lonely, min(2*lonely, joinSlowest)
		} else if alone {
			wait, lonely = 0, joinFirst
		}
		if !turn.Sleep(g.ctx, jitter(wait+time.Millisecond)) {
			return
		}
	}
}

// echo joins a few members again, concurrently with rejoin.
func (g *Gossip) echo() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.run(func() {
		last := time.Duration(0)
		for _, at := range echoes {
			if !turn.Sleep(g.ctx, jitter(at-last)) {
				return
			}
			last = at
			g.mu.Lock()
			members := some(g.roster.live(g.facts.Cluster()), rejoinTo)
			g.mu.Unlock()
			g.joinAll(addrsOf(members), map[netip.AddrPort]time.Time{})
		}
	})
}

func addrsOf(members []Member) []netip.AddrPort {
	var out []netip.AddrPort
	for _, m := range members {
		out = append(out, m.Addr)
	}
	return out
}

// alone reports whether no other host is alive.
func (g *Gossip) alone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !slices.ContainsFunc(g.roster.hosts(), func(m Member) bool { return m.Alive })
}

// everyone lists all configured and known addresses of hosts.
func (g *Gossip) everyone() []netip.AddrPort {
	configured := g.cfg.Peers(g.ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	absent, _ := g.absent()
	return shuffled(unique(append(configured, absent...), g.cfg.Advertise))
}

// missingHosts lists a few addresses of known hosts that are not alive, and one configured
// address at which no host is alive: newcomers that were partitioned before they met know each
// other's addresses only from the configuration. It skips a configured address that answered
// lately, since the host is a member under another address, and each join costs an exchange of
// all members.
func (g *Gossip) missingHosts(answered map[netip.AddrPort]time.Time) []netip.AddrPort {
	configured := g.cfg.Peers(g.ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	absent, alive := g.absent()
	out := shuffled(absent)[:min(len(absent), rejoinTo)]
	isHere := func(a netip.AddrPort) bool { return alive[a] || time.Since(answered[a]) < answeredFor }
	if missing := slices.DeleteFunc(configured, isHere); len(missing) > 0 {
		out = append(out, shuffled(missing)[0])
	}
	return unique(out, g.cfg.Advertise)
}

// absent divides the known addresses into those of absent and of live hosts. Under g.mu.
func (g *Gossip) absent() (absent []netip.AddrPort, alive map[netip.AddrPort]bool) {
	alive = map[netip.AddrPort]bool{}
	known := g.peers.list()
	for _, m := range g.roster.hosts() {
		if m.Alive {
			alive[m.Addr] = true
		} else if !g.facts.Removed(m.ID) {
			known = append(known, m.Addr)
		}
	}
	return slices.DeleteFunc(unique(known, g.cfg.Advertise), func(a netip.AddrPort) bool { return alive[a] }), alive
}

// unique removes duplicates, and one more address.
func unique(addrs []netip.AddrPort, without netip.AddrPort) []netip.AddrPort {
	seen := map[netip.AddrPort]bool{without: true}
	return slices.DeleteFunc(addrs, func(a netip.AddrPort) bool {
		again := seen[a]
		seen[a] = true
		return again
	})
}

func shuffled(a []netip.AddrPort) []netip.AddrPort {
	rand.Shuffle(len(a), func(i, j int) { a[i], a[j] = a[j], a[i] })
	return a
}

// joinAll joins addresses, many at once: one that does not answer takes as long as a connection
// takes to fail. It notes which answered, and ends when many have, as each knows all hosts.
func (g *Gossip) joinAll(addrs []netip.AddrPort, answered map[netip.AddrPort]time.Time) {
	slots := make(chan struct{}, pullSlots)
	var mu sync.Mutex
	var all sync.WaitGroup
	var came atomic.Int32
	for _, a := range addrs {
		slots <- struct{}{}
		if came.Load() >= joinEnough {
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			_, err := g.list.Join([]string{a.String()})
			g.logSilent(a, err)
			if err != nil {
				return
			}
			came.Add(1)
			mu.Lock()
			defer mu.Unlock()
			answered[a] = time.Now()
		})
	}
	all.Wait()
}

// logSilent logs once that a peer does not answer, until it answers.
func (g *Gossip) logSilent(peer netip.AddrPort, err error) {
	g.mu.Lock()
	told := g.silent[peer]
	delete(g.silent, peer)
	if err != nil {
		if len(g.silent) >= maxPeers { // there may be any number in the course of time
			clear(g.silent)
		}
		g.silent[peer] = true
	}
	g.mu.Unlock()
	if err != nil && !told {
		g.limited.Warn("join "+peer.String(), "gossip: a peer does not answer; trying again", "peer", peer.String(), "err", err)
	}
}

// handleEvents acts on the events of memberlist.
func (g *Gossip) handleEvents() {
	for g.wait(g.events.wake) {
		for _, e := range g.events.take() {
			switch e.kind {
			case eventRefused:
				g.noteRefused(e)
			case eventConflict:
				g.noteConflict(e)
			default:
				g.noteMember(e)
			}
		}
	}
}

func (g *Gossip) noteMember(e event) {
	m, err := decodeMeta(e.meta)
	if err != nil {
		return // it was refused
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	came := g.roster.update(e, m, time.Now())
	if host, ok := g.roster.find(m.Host); ok && came && !g.facts.Removed(m.Host) {
		g.peers.add(host)
		if g.synced && host.Cluster == g.facts.Cluster() && !host.Cluster.IsZero() {
			g.talkTo(host)
		}
	}
	g.reportClones(func(id netmap.HostID) bool { return id == m.Host })
	g.notify()
}

func (g *Gossip) noteRefused(e event) {
	g.mu.Lock()
	r := g.refuse.add(e, g.own(), time.Now())
	g.mu.Unlock()
	about := "refused " + r.Theirs.String() // one line for a whole cluster
	if r.Theirs.IsZero() {
		about = "refused " + e.addr.String()
	}
	g.limited.Warn(about, "gossip: "+r.Text, "peer", e.addr.String())
}

// noteConflict reports two live agents that share even the nonce of their start:
// a machine that was cloned while it ran.
func (g *Gossip) noteConflict(e event) {
	m, err := decodeMeta(e.meta)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	one, ok := g.roster.find(m.Host)
	if m.Host == g.cfg.Host {
		one, ok = g.roster.self, true
	}
	other := Member{ID: m.Host, Name: m.Name, Addr: e.addr, Start: m.Start, Nonce: m.Nonce, Cluster: m.Cluster, Keeper: m.Keeper, Alive: true}
	if ok && one.Addr != other.Addr && one.Nonce == other.Nonce && g.roster.unreported(one, other, time.Now()) {
		g.reportClone(Clone{Host: m.Host, A: one, B: other})
	}
}

// reportClones reports what the roster found. Under g.mu.
func (g *Gossip) reportClones(among func(netmap.HostID) bool) {
	for _, c := range g.roster.clones(time.Now(), among) {
		g.reportClone(c)
	}
}

// reportClone logs a clone and calls OnClone without locks. Under g.mu.
func (g *Gossip) reportClone(c Clone) {
	g.limited.Log(slog.LevelError, "clone "+c.Host.String(), "gossip: two agents use one host id: a copied or an older disk; make the copy a new host there (weft host new-identity)",
		"host", c.Host.String(), "addr", c.A.Addr.String(), "start", c.A.Start, "peer", c.B.Addr.String(), "peer_start", c.B.Start)
	g.run(func() { g.cfg.OnClone(c) })
}

// tidyEvery is how often old starts and dead hosts are dropped.
const tidyEvery = 20 * time.Second

func (g *Gossip) tidy() {
	for turn.Sleep(g.ctx, jitter(tidyEvery)) {
		g.mu.Lock()
		g.roster.prune(time.Now(), g.facts.Removed)
		g.strangers.prune(time.Now(), g.facts.AdmittedHosts(), func(name string) bool { return g.roster.nodes[name].Alive })
		g.peers.drop(func(id netmap.HostID) bool { return g.facts.Removed(id) })
		g.reportClones(func(netmap.HostID) bool { return true })
		g.mu.Unlock()
	}
}
