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

func (a *Agent) foundClone(c gossip.Clone) {
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
		a.lease.distrust()
	}
	a.lease.question() // the ledger knows which of the two may go on
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
