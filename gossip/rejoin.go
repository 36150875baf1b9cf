package gossip

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Figures of finding peers.
const (
	joinFirst   = 500 * time.Millisecond // between tries while nobody answers, doubling
	joinSlowest = 15 * time.Second
	rejoinEvery = 4 * time.Second        // for known hosts that are not alive
	rejoinTo    = 3                      // of them at once
	joinEnough  = 3                      // answers, for a host that knows nobody
	joinPause   = 250 * time.Millisecond // until more are tried at once, doubling
	maxJoining  = 16                     // at once
	echoPause   = 500 * time.Millisecond // before an echo, doubling once one brings hardly anybody
	echoSlowest = 4 * time.Second
	answeredFor = 5 * time.Minute
)

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
			g.joinAll(g.everyone(), joinEnough, answered)
			joined = false
		case !joined:
			joined = true
			g.echo()
		default:
			missing := g.missingHosts(answered)
			g.joinAll(missing, len(missing), answered)
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

// echo joins a member again, concurrently with rejoin, until that brought no new ones twice.
// Hosts that started together know few others, so memberlist repeats their first messages too
// seldom.
func (g *Gossip) echo() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.run(func() {
		known, _ := g.liveOnes(0)
		quiet := 0
		for pause := echoPause; turn.Sleep(g.ctx, jitter(pause)); pause = min(2*pause, echoSlowest) {
			now, members := g.liveOnes(1)
			if quiet++; now > known {
				quiet = 0
			}
			if now > known+known/64 {
				pause = echoPause / 2
			}
			if quiet == 2 {
				return
			}
			known = now
			g.joinAll(addrsOf(members), len(members), map[netip.AddrPort]time.Time{})
		}
	})
}

// liveOnes returns how many hosts are alive, and some members.
func (g *Gossip) liveOnes(n int) (alive int, some []Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.roster.alive), g.roster.pick(g.facts.Cluster(), n)
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
	return len(g.roster.alive) == 0
}

// everyone lists all configured and known addresses of hosts.
func (g *Gossip) everyone() []netip.AddrPort {
	configured := g.cfg.Peers(g.ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	return shuffled(unique(append(configured, g.absent()...), g.cfg.Advertise))
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
	absent := g.absent()
	out := shuffled(absent)[:min(len(absent), rejoinTo)]
	isHere := func(a netip.AddrPort) bool { return g.isAlive(a) || time.Since(answered[a]) < answeredFor }
	if missing := slices.DeleteFunc(configured, isHere); len(missing) > 0 {
		out = append(out, shuffled(missing)[0])
	}
	return unique(out, g.cfg.Advertise)
}

// absent lists the known addresses at which no host is alive. Under g.mu.
func (g *Gossip) absent() []netip.AddrPort {
	known := g.peers.list()
	for _, m := range g.roster.latest {
		if !m.Alive && !g.facts.Removed(m.ID) {
			known = append(known, m.Addr)
		}
	}
	return unique(slices.DeleteFunc(known, g.isAlive), g.cfg.Advertise)
}

// isAlive reports whether a live host is at an address. Under g.mu.
func (g *Gossip) isAlive(addr netip.AddrPort) bool {
	_, alive := g.roster.at[addr]
	return alive
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

// joinAll joins addresses until enough of them answered, as each knows all hosts: as many at
// once as answers are missing, and more with each pause in which none came.
func (g *Gossip) joinAll(addrs []netip.AddrPort, enough int, answered map[netip.AddrPort]time.Time) {
	type result struct {
		addr netip.AddrPort
		err  error
	}
	results := make(chan result, len(addrs))
	came, running, width, pause := 0, 0, enough, joinPause
	for came < enough && len(addrs)+running > 0 {
		for ; running < width && len(addrs) > 0; running++ {
			a := addrs[0]
			addrs = addrs[1:]
			g.tasks.Go(func() {
				_, err := g.list.Join([]string{a.String()})
				g.logSilent(a, err)
				results <- result{a, err}
			})
		}
		timer := time.NewTimer(pause)
		select {
		case r := <-results:
			if running--; r.err == nil {
				came++
				answered[r.addr] = time.Now()
			}
		case <-timer.C:
			width, pause = min(2*width, maxJoining), 2*pause
			if came > 0 && len(addrs) > 0 {
				came = enough // it knows the others that are there
			}
		case <-g.ctx.Done():
			came = enough
		}
		timer.Stop()
	}
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
	before, _ := g.roster.find(m.Host)
	came := g.roster.update(e, m, time.Now())
	host, ok := g.roster.find(m.Host)
	if ok && (came || host.Cluster != before.Cluster) && !g.facts.Removed(m.Host) {
		g.peers.add(host)
		if host.Cluster == g.facts.Cluster() && !host.Cluster.IsZero() {
			g.welcome(host, before.Alive)
		}
	}
	turn.Poke(g.unsynced)
	g.reportClones(m.Host)
	g.notify()
}

// welcome tells a host that came alive, or into the cluster, how far this host's log is, and asks
// it what it knows, unless it was there before: then only its own log can be new, and it tells
// that itself. Under g.mu.
func (g *Gossip) welcome(host Member, wasThere bool) {
	g.out.greet = append(g.out.greet, host)
	turn.Poke(g.unsent)
	if g.synced && !wasThere {
		g.meet(host)
	}
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

// reportClones reports what the roster finds among some hosts. Under g.mu.
func (g *Gossip) reportClones(among ...netmap.HostID) {
	for _, c := range g.roster.clones(time.Now(), among...) {
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
		g.reportClones(g.roster.doubtful()...)
		g.mu.Unlock()
	}
}
