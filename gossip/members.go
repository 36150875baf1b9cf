package gossip

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Member is a host that was seen, in its latest start.
type Member struct {
	ID      netmap.HostID    `json:"id"`
	Name    string           `json:"name"` // from its facts where they are known
	Addr    netip.AddrPort   `json:"addr"`
	Start   uint64           `json:"start"`
	Nonce   uint64           `json:"nonce"`
	Cluster netmap.ClusterID `json:"cluster"` // zero: a newcomer
	Keeper  bool             `json:"keeper"`
	Alive   bool             `json:"alive"`
	Since   time.Time        `json:"since"` // of Alive or its contrary
}

// Clone reports one host id that two agents use, because of a copied disk or an older
// image of one. Neither side can tell which is the original.
type Clone struct {
	Host netmap.HostID
	A, B Member // the two, the one with the greater start first
}

// Figures of the roster.
const (
	// ghostTime is how long an earlier start of a host may look alive beside the
	// later one: longer than memberlist takes to notice a death.
	ghostTime = time.Minute
	maxDead   = 4096 // dead hosts remembered
	// cloneAgain is how long a clone that was reported is not reported again.
	cloneAgain  = 10 * time.Minute
	maxReported = 256 // clones that are remembered as reported
)

// roster keeps every start of every host, by memberlist's name, and an index of the latest starts
// that changes with each event. It is not safe for concurrent use.
type roster struct {
	self     Member
	nodes    map[string]Member
	names    map[netmap.HostID][]string // of all starts of a host
	latest   map[netmap.HostID]Member   // of every other host
	alive    []Member                   // those of latest that are alive, in no order
	place    map[netmap.HostID]int      // in alive
	at       map[netip.AddrPort]netmap.HostID
	reported map[[2]uint64]time.Time // clones reported, by their nonces
}

func newRoster(self Member) *roster {
	return &roster{
		self: self, nodes: map[string]Member{}, names: map[netmap.HostID][]string{}, latest: map[netmap.HostID]Member{},
		place: map[netmap.HostID]int{}, at: map[netip.AddrPort]netmap.HostID{}, reported: map[[2]uint64]time.Time{},
	}
}

// update records that a start is alive or dead. It reports whether a host came alive.
func (r *roster) update(e event, m meta, now time.Time) bool {
	if m.Host == r.self.ID && m.Nonce == r.self.Nonce {
		return false
	}
	old, known := r.nodes[e.name]
	next := Member{
		ID: m.Host, Name: m.Name, Addr: e.addr, Start: m.Start, Nonce: m.Nonce, Cluster: m.Cluster,
		Keeper: m.Keeper, Alive: e.kind == eventAlive, Since: old.Since,
	}
	if !known || old.Alive != next.Alive {
		next.Since = now
	}
	if known && old.ID != m.Host {
		r.forget(e.name)
		known = false
	}
	if !known {
		r.names[m.Host] = append(r.names[m.Host], e.name)
	}
	r.nodes[e.name] = next
	r.index(m.Host)
	return next.Alive && !(known && old.Alive)
}

// forget drops one start.
func (r *roster) forget(name string) {
	host := r.nodes[name].ID
	delete(r.nodes, name)
	r.names[host] = slices.DeleteFunc(r.names[host], func(other string) bool { return other == name })
	if len(r.names[host]) == 0 {
		delete(r.names, host)
	}
	r.index(host)
}

// index brings what is known of a host's latest start up to date.
func (r *roster) index(host netmap.HostID) {
	if host == r.self.ID {
		return
	}
	var best Member
	for _, name := range r.names[host] {
		if m := r.nodes[name]; best.Start == 0 || later(m, best) > 0 {
			best = m
		}
	}
	if i, was := r.place[host]; was {
		if r.at[r.alive[i].Addr] == host {
			delete(r.at, r.alive[i].Addr)
		}
		last := len(r.alive) - 1
		r.alive[i] = r.alive[last]
		r.place[r.alive[i].ID] = i
		r.alive = r.alive[:last]
		delete(r.place, host)
	}
	if best.Start == 0 {
		delete(r.latest, host)
		return
	}
	r.latest[host] = best
	if best.Alive {
		r.place[host] = len(r.alive)
		r.alive = append(r.alive, best)
		r.at[best.Addr] = host
	}
}

// hosts returns the latest start of every other host, sorted by id.
func (r *roster) hosts() []Member {
	return slices.SortedFunc(maps.Values(r.latest), func(a, b Member) int { return slices.Compare(a.ID[:], b.ID[:]) })
}

func later(a, b Member) int {
	if c := cmp.Compare(a.Start, b.Start); c != 0 {
		return c
	}
	return cmp.Compare(a.Nonce, b.Nonce)
}

// live returns the hosts of one cluster that are alive, in no order.
func (r *roster) live(cluster netmap.ClusterID) []Member {
	out := make([]Member, 0, len(r.alive))
	for _, m := range r.alive {
		if m.Cluster == cluster {
			out = append(out, m)
		}
	}
	return out
}

// pick returns some of the live hosts of a cluster, chosen at random. It looks at few of them
// where most are of that cluster.
func (r *roster) pick(cluster netmap.ClusterID, n int) []Member {
	var out []Member
	for range min(4*n, len(r.alive)) {
		m := r.alive[rand.IntN(len(r.alive))]
		if m.Cluster == cluster && !slices.ContainsFunc(out, func(o Member) bool { return o.ID == m.ID }) {
			out = append(out, m)
		}
		if len(out) == n {
			return out
		}
	}
	all := r.live(cluster)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

// memberAt is the live host of a cluster at an address, zero if there is none.
func (r *roster) memberAt(addr netip.AddrPort, cluster netmap.ClusterID) Member {
	host, ok := r.at[addr]
	if !ok {
		return Member{}
	}
	if m := r.alive[r.place[host]]; m.Cluster == cluster {
		return m
	}
	return Member{}
}

// find returns the latest start of a host, or false if it was never seen.
func (r *roster) find(id netmap.HostID) (Member, bool) {
	m, ok := r.latest[id]
	return m, ok
}

// doubtful lists the hosts of which several starts are known, and this one.
func (r *roster) doubtful() []netmap.HostID {
	out := []netmap.HostID{r.self.ID}
	for id, names := range r.names {
		if len(names) > 1 && id != r.self.ID {
			out = append(out, id)
		}
	}
	return out
}

// clones finds, among some hosts, ids that two agents use at once and that were not reported
// lately. Two starts with one number are certainly two agents. An earlier start counts as a
// second agent once it has been alive beside the later one for ghostTime, elsewhere: at one
// address only one agent listens, and after many restarts there memberlist takes longer than
// that to notice all the deaths.
func (r *roster) clones(now time.Time, among ...netmap.HostID) []Clone {
	var out []Clone
	for _, id := range among {
		all := r.starts(id)
		for i := 1; i < len(all); i++ {
			a, b := all[i-1], all[i]
			both := a.Addr != b.Addr && now.Sub(a.Since) > ghostTime && now.Sub(b.Since) > ghostTime
			if (a.Start == b.Start || both || id == r.self.ID && b.Nonce == r.self.Nonce) && r.unreported(a, b, now) {
				out = append(out, Clone{Host: id, A: a, B: b})
			}
		}
	}
	return out
}

// starts returns the live starts of a host, the latest first.
func (r *roster) starts(id netmap.HostID) []Member {
	var all []Member
	if id == r.self.ID {
		all = append(all, r.self)
	}
	for _, name := range r.names[id] {
		if m := r.nodes[name]; m.Alive {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return later(b, a) })
	return all
}

func (r *roster) unreported(a, b Member, now time.Time) bool {
	pair := [2]uint64{a.Nonce, b.Nonce}
	if last, ok := r.reported[pair]; ok && now.Sub(last) < cloneAgain {
		return false
	}
	if len(r.reported) >= maxReported {
		clear(r.reported)
	}
	r.reported[pair] = now
	return true
}

// prune forgets earlier starts that ended, and hosts that the ledger removed, and
// the longest dead when there are too many.
func (r *roster) prune(now time.Time, removed func(netmap.HostID) bool) {
	var dead []string
	for name, m := range r.nodes {
		switch {
		case m.Alive:
		case removed(m.ID), m.Nonce != r.latest[m.ID].Nonce && now.Sub(m.Since) > ghostTime:
			r.forget(name)
		default:
			dead = append(dead, name)
		}
	}
	if len(dead) <= maxDead {
		return
	}
	slices.SortFunc(dead, func(a, b string) int { return r.nodes[b].Since.Compare(r.nodes[a].Since) })
	for _, name := range dead[maxDead:] {
		r.forget(name)
	}
}

// twin returns another agent with this host's own id, if one is alive.
func (r *roster) twin() (Member, bool) {
	var found Member
	for _, name := range r.names[r.self.ID] {
		if m := r.nodes[name]; m.Alive && later(m, found) > 0 {
			found = m
		}
	}
	return found, found.Start != 0
}
