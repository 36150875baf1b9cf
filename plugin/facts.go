package plugin

import (
	"maps"
	"net/netip"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// announceSelf announces this host and everything that its disk says it holds. Other hosts
// compare this first announcement with what they know and withdraw only what it lacks, so a
// restart interrupts nothing.
func (a *Agent) announceSelf() error {
	a.mu.Lock()
	facts := map[netmap.Key]any{netmap.HostFactKey(a.self): a.fact}
	a.announced = true
	a.mu.Unlock()
	for _, r := range a.attach.Endpoints() {
		if e, names := a.names.Named(r.Endpoint); r.Joined && rightful(a.ipam, e) {
			maps.Copy(facts, names.Facts(e))
			a.history.Began(e)
		}
	}
	return a.gossip.Announce(facts, nil)
}

// keeps is called by the ledger when this host becomes a keeper or stops being one.
func (a *Agent) keeps(keeper bool) {
	a.gossip.SetKeeper(keeper)
	a.changeFact(func(f *netmap.HostFact) { f.Keeper = keeper })
}

// changeFact changes and announces this host's own fact.
func (a *Agent) changeFact(change func(*netmap.HostFact)) {
	a.mu.Lock()
	change(&a.fact)
	fact, announced := a.fact, a.announced
	a.mu.Unlock()
	if announced { // otherwise the first announcement, which must be complete, includes it
		a.announce(map[netmap.Key]any{netmap.HostFactKey(a.self): fact})
	}
}

// publish spreads a decision of the ledger as facts. The ledger of a keeper calls it.
func (a *Agent) publish(d ledger.Decision) {
	err := a.gossip.PublishDecisions(gossip.Decisions{
		Cluster: d.Cluster, Generation: d.Generation, Index: d.Index, Whole: d.Whole, Lead: d.Leader, Changes: d.Changes,
	})
	if err != nil {
		a.problem("decisions", err.Error())
	}
}

// announce announces facts. It shows a problem if they cannot be encoded, which is a bug.
func (a *Agent) announce(set map[netmap.Key]any, del ...netmap.Key) {
	if err := a.gossip.Announce(set, del); err != nil {
		a.problem("facts", err.Error())
	}
	a.wake()
}

// Announce implements attach.Facts. It skips an endpoint whose addresses the ledger has not
// confirmed yet.
func (a *Agent) Announce(e netmap.Endpoint) {
	if !rightful(a.ipam, e) {
		a.wake()
		return
	}
	e, names := a.names.Named(e)
	a.history.Began(e)
	a.announce(names.Facts(e))
	a.presence.Changed()
}

// Withdraw implements attach.Facts.
func (a *Agent) Withdraw(id netmap.EndpointID) {
	a.restarts.Left(a.names.Drop(id), time.Now())
	a.history.Ended(id)
	a.resolver.Changed()
	a.announce(nil, netmap.EndpointKey(id), netmap.NameKey(id))
	a.presence.Changed()
}

// Attach implements attach.Addresses.
func (a *Agent) Attach(addr netip.Addr, owner netmap.Owner) error { return a.ipam.Attach(addr, owner) }

// Gone implements attach.Facts.
func (a *Agent) Gone(e netmap.Endpoint) {
	if err := a.ipam.EndpointGone(e.V4, e.V6); err != nil {
		a.log.Warn("addresses of a deleted endpoint", "endpoint", e.ID, "err", err)
	}
}

// holder returns the id of this host's endpoint that has an address. ipam calls it.
func (a *Agent) holder(addr netip.Addr) string {
	r, ok := a.attach.Holder(addr)
	if !ok {
		return ""
	}
	if r.Owner == netmap.OwnerHost {
		return "the host itself"
	}
	e, _ := a.names.Named(r.Endpoint)
	return e.Label()
}

// called announces the names of an endpoint's container, which Docker told.
func (a *Agent) called(id netmap.EndpointID, names netmap.EndpointName, first bool) {
	r, ok := a.attach.Endpoint(id)
	if !ok || !r.Joined || !a.names.Put(id, names, first) {
		return
	}
	for _, addr := range []netip.Addr{r.Endpoint.V4, r.Endpoint.V6} {
		a.ipam.Named(addr, names.Name)
	}
	a.Announce(r.Endpoint)
	a.resolver.Changed()
	// The container may have left while Docker was asked for its name.
	if r, ok := a.attach.Endpoint(id); !ok || !r.Joined {
		a.Withdraw(id)
	}
}

// rightful reports whether the ledger has confirmed those of an endpoint's addresses for this
// host that ipam holds.
func rightful(own *ipam.IPAM, e netmap.Endpoint) bool {
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		if addr.IsValid() && !own.Confirmed(addr) {
			return false
		}
	}
	return true
}
