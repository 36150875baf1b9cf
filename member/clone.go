package member

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

// cloneStays is for how long two agents of one identity are a problem after they were
// last seen: the gossip repeats it every ten minutes while both are there.
const cloneStays = 25 * time.Minute

// maxClones bounds the other hosts' clones that are told of: anybody can invent some.
const maxClones = 16

// foundClone is told by the gossip that two agents use one identity.
func (m *Member) foundClone(c gossip.Clone) {
	m.mu.Lock()
	_, told := m.clones[c.Host]
	full := len(m.clones) >= maxClones && !told && c.Host != m.self
	m.mu.Unlock()
	if full {
		return
	}
	m.problem(cloneTopic(c.Host), fmt.Sprintf("two agents use the identity of host %s: one at %s and one at %s; the one that hands out nothing says so, and weft host new-identity makes it a host of its own", c.Host.Short(), placeText(c.A.Addr), placeText(c.B.Addr)))
	m.mu.Lock()
	m.clones[c.Host] = time.Now() // after the problem, which ends with this
	m.mu.Unlock()
	if c.Host != m.self {
		return
	}
	other := c.A
	if other.Nonce == m.identity.Nonce {
		other = c.B
	}
	if other.Start >= m.identity.Start { // this disk may be the older one
		m.lease.Invalidate()
		m.mu.Lock()
		if other.Start > m.newest.start {
			m.newest = newerIncarnation{other.Start, time.Now()}
		}
		m.mu.Unlock()
	}
	m.lease.RequestRenewal() // the ledger knows which of the two may go on
}

// newerIncarnation is a start of this identity that others heard of, which is not this
// agent's and not an earlier one: of a copy, or of a disk that was here.
type newerIncarnation struct {
	start uint64
	since time.Time
}

// newerStays is how long another start may be on its way to the ledger.
const newerStays = time.Minute

// newer is the start that stands in the way of what this host tells, once it is
// time to do something about that; 0: none.
func (m *Member) newer() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest.start < m.identity.Start || time.Since(m.newest.since) < newerStays {
		return 0
	}
	return m.newest.start
}

// skipTo begins a later start than one that others heard of and that the ledger, which
// has accepted this one, never did: of two starts they believe the later one, and would
// take nothing from this host until its number has passed.
func (m *Member) skipTo(start uint64) {
	if err := m.cfg.Store.SkipTo(start); err != nil {
		m.problem("facts", fmt.Sprintf("the other hosts believe start %d of this host, which is not its own, and that it starts again above that cannot be written down: %v", start, err))
		return
	}
	m.cfg.Log.Warn("the other hosts believe a start of this host that the ledger never accepted: it starts again above that", "start", m.identity.Start, "theirs", start)
	m.cfg.End()
}

func cloneTopic(id netmap.HostID) string { return "clone " + id.String() }

// EndClones forgets those that are over: one of the two agents is gone, or the
// identity was removed.
func (m *Member) EndClones(view *netmap.View) {
	m.mu.Lock()
	var over []netmap.HostID
	for id, last := range m.clones {
		if h, _ := view.Host(id); h.Entry.Removed || time.Since(last) > cloneStays {
			over = append(over, id)
			delete(m.clones, id)
		}
	}
	m.mu.Unlock()
	for _, id := range over {
		m.problem(cloneTopic(id), "")
	}
}

func placeText(at netip.AddrPort) string {
	if !at.IsValid() {
		return "an address that is not known yet"
	}
	return at.String()
}
