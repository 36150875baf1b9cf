package gossip

import (
	"cmp"
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

// roster keeps every start of every host, by memberlist's name. It is not safe for
// concurrent use.
type roster struct {
	self     Member
	nodes    map[string]Member
	reported map[[2]uint64]time.Time // clones reported, by their nonces
}

func newRoster(self Member) *roster {
	return &roster{self: self, nodes: map[string]Member{}, reported: map[[2]uint64]time.Time{}}
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
	r.nodes[e.name] = next
	return next.Alive && !(known && old.Alive)
}

// hosts returns the latest start of every other host, sorted by id.
func (r *roster) hosts() []Member {
	best := map[netmap.HostID]Member{}
	for _, m := range r.nodes {
		if m.ID == r.self.ID {
			continue
		}
		if old, ok := best[m.ID]; !ok || later(m, old) > 0 {
			best[m.ID] = m
		}
	}
	out := make([]Member, 0, len(best))
	for _, m := range best {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

func later(a, b Member) int {
	if c := cmp.Compare(a.Start, b.Start); c != 0 {
		return c
	}
	return cmp.Compare(a.Nonce, b.Nonce)
}

// live returns the hosts of one cluster that are alive.
func (r *roster) live(cluster netmap.ClusterID) []Member {
	return slices.DeleteFunc(r.hosts(), func(m Member) bool { return !m.Alive || m.Cluster != cluster })
}

// find returns the latest start of a host, or false if it was never seen.
func (r *roster) find(id netmap.HostID) (Member, bool) {
	var found Member
	for _, m := range r.nodes {
		if m.ID == id && id != r.self.ID && (found.Start == 0 || later(m, found) > 0) {
			found = m
		}
	}
	return found, found.Start != 0
}

// clones finds, among some hosts, ids that two agents use at once and that were not reported
// lately. Two starts with one number are certainly two agents. An earlier start counts as a
// second agent once it has been alive beside the later one for ghostTime, elsewhere: at one
// address only one agent listens, and after many restarts there memberlist takes longer than
// that to notice all the deaths.
func (r *roster) clones(now time.Time, among func(netmap.HostID) bool) []Clone {
	var all []Member
	if among(r.self.ID) {
		all = append(all, r.self)
	}
	for _, m := range r.nodes {
		if m.Alive && among(m.ID) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int {
		if c := slices.Compare(a.ID[:], b.ID[:]); c != 0 {
			return c
		}
		return later(b, a)
	})
	var out []Clone
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		both := a.Addr != b.Addr && now.Sub(a.Since) > ghostTime && now.Sub(b.Since) > ghostTime
		if a.ID == b.ID && (a.Start == b.Start || both || a.ID == r.self.ID && b.Nonce == r.self.Nonce) && r.unreported(a, b, now) {
			out = append(out, Clone{Host: a.ID, A: a, B: b})
		}
	}
	return out
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
	latest := map[netmap.HostID]uint64{}
	for _, m := range r.hosts() {
		latest[m.ID] = m.Nonce
	}
	var dead []string
	for name, m := range r.nodes {
		switch {
		case m.Alive:
		case removed(m.ID), m.Nonce != latest[m.ID] && now.Sub(m.Since) > ghostTime:
			delete(r.nodes, name)
		default:
			dead = append(dead, name)
		}
	}
	if len(dead) <= maxDead {
		return
	}
	slices.SortFunc(dead, func(a, b string) int { return r.nodes[b].Since.Compare(r.nodes[a].Since) })
	for _, name := range dead[maxDead:] {
		delete(r.nodes, name)
	}
}

// twin returns another agent with this host's own id, if one is alive.
func (r *roster) twin() (Member, bool) {
	var found Member
	for _, m := range r.nodes {
		if m.ID == r.self.ID && m.Alive && later(m, found) > 0 {
			found = m
		}
	}
	return found, found.Start != 0
}
