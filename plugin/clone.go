package plugin

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

func (a *Agent) foundClone(c gossip.Clone) {
	a.mu.Lock()
	_, told := a.clones[c.Host]
	full := len(a.clones) >= maxClones && !told && c.Host != a.self
	a.mu.Unlock()
	if full {
		return
	}
	a.problem(cloneTopic(c.Host), fmt.Sprintf("two agents use the identity of host %s: one at %s and one at %s; the one that hands out nothing says so, and weft host new-identity makes it a host of its own", c.Host.Short(), placeText(c.A.Addr), placeText(c.B.Addr)))
	a.mu.Lock()
	a.clones[c.Host] = time.Now() // after the problem, which ends with this
	a.mu.Unlock()
	if c.Host != a.self {
		return
	}
	other := c.A
	if other.Nonce == a.identity.Nonce {
		other = c.B
	}
	if other.Start >= a.identity.Start { // this disk may be the older one
		a.lease.Invalidate()
		a.mu.Lock()
		if other.Start > a.rival.start {
			a.rival = rival{other.Start, time.Now()}
		}
		a.mu.Unlock()
	}
	a.lease.RequestRenewal() // the ledger knows which of the two may go on
}

// rival is a start of this identity that others heard of, which is not this agent's and
// not an earlier one: of a copy, or of a disk that was here.
type rival struct {
	start uint64
	since time.Time
}

// rivalStays is how long another start may be on its way to the ledger.
const rivalStays = time.Minute

// rivalled is the start that stands in the way of what this host tells, once it is
// time to do something about that; 0: none.
func (a *Agent) rivalled() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rival.start < a.identity.Start || time.Since(a.rival.since) < rivalStays {
		return 0
	}
	return a.rival.start
}

// outgrow begins a later start than one that others heard of and that the ledger, which
// has accepted this one, never did: of two starts they believe the later one, and would
// take nothing from this host until its number has passed.
func (a *Agent) outgrow(start uint64) {
	if err := a.store.Outgrow(start); err != nil {
		a.problem("facts", fmt.Sprintf("the other hosts believe start %d of this host, which is not its own, and that it starts again above that cannot be written down: %v", start, err))
		return
	}
	a.log.Warn("the other hosts believe a start of this host that the ledger never accepted: it starts again above that", "start", a.identity.Start, "theirs", start)
	a.end.Do(func() { close(a.ended) })
}

func cloneTopic(id netmap.HostID) string { return "clone " + id.String() }

// endClones forgets those that are over: one of the two agents is gone, or the
// identity was removed.
func (a *Agent) endClones(view *netmap.View) {
	a.mu.Lock()
	var over []netmap.HostID
	for id, last := range a.clones {
		if h, _ := view.Host(id); h.Entry.Removed || time.Since(last) > cloneStays {
			over = append(over, id)
			delete(a.clones, id)
		}
	}
	a.mu.Unlock()
	for _, id := range over {
		a.problem(cloneTopic(id), "")
	}
}

func placeText(at netip.AddrPort) string {
	if !at.IsValid() {
		return "an address that is not known yet"
	}
	return at.String()
}
