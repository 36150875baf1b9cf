package ledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// report is what a host knows of the ledger and its keepers.
type report struct {
	ID              netmap.HostID   `json:"id"` // who answers
	Keeps           bool            `json:"keeps"`
	NoRoom          bool            `json:"no_room,omitempty"` // its log is there, and its disk is full
	Generation      uint64          `json:"generation"`
	Term            uint64          `json:"term"` // of the last entry of its log
	Last            uint64          `json:"last"` // index of that
	Voters          []Peer          `json:"voters,omitempty"`
	Sees            []netmap.HostID `json:"sees,omitempty"`   // alive, by its gossip
	Decided         uint64          `json:"decided"`          // by its facts
	FactsGeneration uint64          `json:"facts_generation"` // generation of those
	// Fenced says that the ledger refuses this host: it was removed, or another one runs as it.
	Fenced bool `json:"fenced,omitempty"`
	// Removed says that this host's ledger has removed the host that was asked about, AllApplied
	// that every entry on its disk has been applied.
	Removed    bool   `json:"removed,omitempty"`
	AllApplied bool   `json:"all_applied,omitempty"`
	Trusted    []Peer `json:"trusted,omitempty"` // the keepers that this host believes

	at netip.AddrPort // where this was answered; zero: here
}

// knows orders reports by how much their hosts know. Of two logs, the one whose host raft would
// elect has everything that was decided in either. The applied index says nothing after a
// restart.
func (t report) knows(o report) int {
	switch {
	case t.Keeps != o.Keeps:
		return boolOrder(t.Keeps)
	case t.Keeps && t.Generation != o.Generation:
		return boolOrder(t.Generation > o.Generation)
	case t.Keeps:
		return cmp.Or(cmp.Compare(t.Term, o.Term), cmp.Compare(t.Last, o.Last))
	}
	return cmp.Or(cmp.Compare(t.FactsGeneration, o.FactsGeneration), cmp.Compare(t.Decided, o.Decided))
}

func boolOrder(greater bool) int {
	if greater {
		return 1
	}
	return -1
}

// survey has the reports of all hosts that can be reached.
type survey struct {
	self    netmap.HostID
	names   map[netmap.HostID]Member
	answers map[netmap.HostID]report
	facts   Facts
	known   uint64       // generation that this host believes
	state   *state.State // of this keeper, nil if it keeps nothing
}

func (l *Ledger) survey(ctx context.Context) *survey {
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	c := &survey{
		self: l.cfg.Self, facts: l.cfg.Facts(), known: l.Generation(), answers: map[netmap.HostID]report{l.cfg.Self: l.report(netmap.HostID{})},
		names: map[netmap.HostID]Member{l.cfg.Self: {ID: l.cfg.Self, Name: l.cfg.Name, Addr: l.cfg.Addr}},
	}
	if k := l.kept(); k != nil {
		c.state, c.known = k.everything(), max(c.known, k.generation)
	}
	for _, ch := range c.facts.Changes {
		if h, is := ch.Value.(netmap.HostEntry); is && h.ID != l.cfg.Self {
			c.names[h.ID] = Member{ID: h.ID, Name: h.Name}
		}
	}
	if c.state != nil {
		for _, h := range c.state.Hosts() {
			if _, known := c.names[h.ID]; !known {
				c.names[h.ID] = Member{ID: h.ID, Name: h.Name}
			}
		}
	}
	for _, p := range c.answers[l.cfg.Self].Voters {
		if p.ID != l.cfg.Self {
			c.names[p.ID] = Member{ID: p.ID, Name: c.names[p.ID].Name, Addr: p.Addr}
		}
	}
	for _, p := range l.Status().Keepers { // as last heard, where nothing is kept
		c.facts.Keepers = append(c.facts.Keepers, p.ID)
	}
	for _, m := range l.cfg.Members() {
		if _, known := c.names[m.ID]; !known {
			continue // nobody admitted it
		}
		if m.ID != l.cfg.Self {
			c.names[m.ID] = m
		}
		if m.Keeper {
			c.facts.Keepers = append(c.facts.Keepers, m.ID)
		}
	}
	slices.SortFunc(c.facts.Keepers, netmap.ID.Compare)
	c.facts.Keepers = slices.Compact(c.facts.Keepers)
	c.hearAll(ctx, l.cfg.Underlay)
	return c
}

// hearAll asks every host whose address is known, also those that the gossip believes dead.
func (c *survey) hearAll(ctx context.Context, u Underlay) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for id, m := range c.names {
		if id == c.self || !m.Addr.IsValid() {
			continue
		}
		all.Go(func() {
			if t, err := askReport(ctx, u, m.Addr, netmap.HostID{}); err == nil && t.ID == id {
				mu.Lock()
				defer mu.Unlock()
				c.answers[id] = t
			}
		})
	}
	all.Wait()
}

func (c *survey) list(ids []netmap.HostID) string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		m := c.names[id]
		switch {
		case m.Name == "":
			out = append(out, "host "+id.Short())
		case m.Addr.IsValid():
			out = append(out, fmt.Sprintf("%s (%s, %s)", m.Name, id.Short(), m.Addr))
		default:
			out = append(out, fmt.Sprintf("%s (%s)", m.Name, id.Short()))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// best returns the host whose report knows most; among equals, this host.
func (c *survey) best() netmap.HostID {
	best := c.self
	for _, id := range slices.SortedFunc(maps.Keys(c.answers), netmap.ID.Compare) {
		if c.answers[id].knows(c.answers[best]) > 0 {
			best = id
		}
	}
	return best
}

// voters returns the keepers of which a majority is needed, by the report that knows most.
func (c *survey) voters() (out []netmap.HostID) {
	if best := c.answers[c.best()]; best.Keeps {
		for _, p := range best.Voters {
			if p.Voter {
				out = append(out, p.ID)
			}
		}
		return out
	}
	return c.facts.Keepers
}

// decide decides whether the ledger may be recovered on this host. It is pure.
func (c *survey) decide(r Recovery) (Recovered, *netmap.Refusal) {
	best, voters := c.best(), c.voters()
	var out Recovered
	var silent []netmap.HostID
	for _, id := range voters {
		switch t, answers := c.answers[id]; {
		case answers && (t.Keeps || t.NoRoom):
			out.Keeps = append(out.Keeps, id)
		case answers: // it lost its log, and is a member all the same
		case slices.Contains(r.Off, id):
			out.Lost = append(out.Lost, id)
		default:
			silent = append(silent, id)
		}
	}
	switch {
	case len(voters) == 0:
		return out, netmap.Refuse(netmap.Unknown, "it is not known here who kept the ledger, so it cannot be known whether they are gone; run this on a host that kept it, or that ran before they were lost")
	case 2*len(out.Keeps) > len(voters):
		return out, netmap.Refuse(netmap.Conflict, "a majority of the keepers is there: %s; wait until they agree who leads (some seconds), and look at weft status on them if they do not", c.list(out.Keeps))
	}
	if refusal := c.contradicted(r.Off, voters); refusal != nil {
		return out, refusal
	}
	switch {
	case len(silent) > 0:
		return out, netmap.Refuse(netmap.NoQuorum, "whether %s is gone for good cannot be known from here: nobody who answers can reach it; if it only cannot be reached, repair that and nothing is lost; if its machine is off and its disk will not come back, say so (weft ledger recover%s)", c.list(silent), offFlags(silent, c.names))
	case best != c.self:
		return out, netmap.Refuse(netmap.Conflict, "%s knows more of the ledger (decision %d) than this host (decision %d); run this there", c.list([]netmap.HostID{best}), c.answers[best].known(), c.answers[c.self].known())
	}
	return c.outcome(out), nil
}

func (t report) known() uint64 {
	if t.Keeps {
		return t.Last
	}
	return t.Decided
}

func offFlags(ids []netmap.HostID, names map[netmap.HostID]Member) (out string) {
	for _, id := range ids {
		word := names[id].Name
		if word == "" {
			word = id.Short()
		}
		out += " --is-off " + word
	}
	return out
}

// contradicted refuses an operator's statement that a host is off if another host sees it.
func (c *survey) contradicted(off, voters []netmap.HostID) *netmap.Refusal {
	for _, id := range off {
		if !slices.Contains(voters, id) {
			return netmap.Refuse(netmap.BadInput, "%s does not keep the ledger, so it is in nobody's way here; remove it afterwards (weft host rm HOST --is-off)", c.list([]netmap.HostID{id}))
		}
		if _, answers := c.answers[id]; answers {
			return netmap.Refuse(netmap.Conflict, "%s is not off: it answers; look at weft status there", c.list([]netmap.HostID{id}))
		}
		for _, by := range slices.SortedFunc(maps.Keys(c.answers), netmap.ID.Compare) {
			if slices.Contains(c.answers[by].Sees, id) {
				return netmap.Refuse(netmap.Conflict, "%s is not off, or was there a moment ago: %s sees it; look at it there, or wait until its end is noticed (half a minute)", c.list([]netmap.HostID{id}), c.list([]netmap.HostID{by}))
			}
		}
	}
	return nil
}

// outcome completes the result of the recovery: the next generation, the newest decision and
// the members that must declare what they hold.
func (c *survey) outcome(out Recovered) Recovered {
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	last := c.known
	for _, t := range c.answers {
		for _, g := range []uint64{t.Generation, t.FactsGeneration, c.facts.Generation} {
			if plausible(c.known, g) { // else it is nobody's: no cluster was recovered so often
				last = max(last, g)
			}
		}
	}
	out.Generation = state.NextGeneration(last, binary.BigEndian.Uint32(nonce[:]))
	s := c.rebuilt()
	out.Decided = s.Applied()
	for _, h := range s.Hosts() {
		if !h.Removed && !slices.Contains(out.Lost, h.ID) {
			out.Awaited = append(out.Awaited, h.ID)
		}
	}
	return out
}

// rebuilt returns the newest state that this host knows: that of its own log with the facts
// that it was told after it.
func (c *survey) rebuilt() *state.State {
	return state.Rebuild(c.state, c.facts.Generation, c.facts.Decided, c.facts.Changes)
}
