package member

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
)

// cloneStays is how long a clone counts as a problem after it was last seen. The gossip reports
// it every ten minutes while both agents run.
const cloneStays = 25 * time.Minute

// maxClones bounds the clones of other hosts that are shown, since anybody can invent some.
const maxClones = 16

// foundClone is called by the gossip when two agents use one identity.
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
	m.clones[c.Host] = time.Now() // EndClones ends the problem with it
	m.mu.Unlock()
	if c.Host != m.self {
		return
	}
	other := c.A
	if other.Nonce == m.identity.Nonce {
		other = c.B
	}
	if other.Start >= m.identity.Start { // this host's disk may be the older one
		m.lease.Invalidate()
		m.mu.Lock()
		if other.Start > m.newest.start {
			m.newest = newerIncarnation{other.Start, time.Now()}
		}
		m.mu.Unlock()
	}
	m.lease.RequestRenewal() // the ledger knows which of the two may go on
}

// newerIncarnation is a start of this identity that other hosts heard of and that is neither
// this agent's nor an earlier one. It is a clone's, or was made with a newer disk.
type newerIncarnation struct {
	start uint64
	since time.Time
}

// newerStays is how long the ledger may take to hear of another start.
const newerStays = time.Minute

// newer returns the start that keeps other hosts from believing this one, once it has lasted
// newerStays; 0: none.
func (m *Member) newer() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest.start < m.identity.Start || time.Since(m.newest.since) < newerStays {
		return 0
	}
	return m.newest.start
}

// skipTo has the agent start again with a number above one that other hosts heard of and that
// the ledger never accepted. The hosts believe the start with the greater number, and would
// ignore what this host announces until its own number is greater.
func (m *Member) skipTo(start uint64) {
	if err := m.cfg.Store.SkipTo(start); err != nil {
		m.problem("facts", fmt.Sprintf("the other hosts believe start %d of this host, which is not its own, and this host cannot write to disk that its next start begins above that: %v", start, err))
		return
	}
	m.cfg.Log.Warn("the other hosts believe a start of this host that the ledger never accepted; the agent starts again above it", "start", m.identity.Start, "theirs", start)
	m.cfg.End()
}

func cloneTopic(id netmap.HostID) string { return "clone " + id.String() }

// EndClones forgets clones that are over: one of the two agents is gone, or the identity was
// removed.
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
