package plugin

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// announceSelf tells the others about this host and everything that its disk says
// it holds: the first announcement of a start is the whole truth, and the others
// compare it with what they know, so that a restart makes nothing flap.
func (a *Agent) announceSelf() error {
	a.mu.Lock()
	facts := map[netmap.Key]any{netmap.HostFactKey(a.self): a.fact}
	a.announced = true
	a.mu.Unlock()
	for _, r := range a.attach.Endpoints() {
		if r.Joined && rightful(a.ipam, r.Endpoint) {
			facts[netmap.EndpointKey(r.Endpoint.ID)] = r.Endpoint
			a.history.Began(r.Endpoint)
		}
	}
	return a.gossip.Announce(facts, nil)
}

// keeps is told by the ledger whether this host keeps it.
func (a *Agent) keeps(keeper bool) {
	a.gossip.SetKeeper(keeper)
	a.changeFact(func(f *netmap.HostFact) { f.Keeper = keeper })
}

// changeFact changes what this host tells about itself.
func (a *Agent) changeFact(change func(*netmap.HostFact)) {
	a.mu.Lock()
	change(&a.fact)
	fact, announced := a.fact, a.announced
	a.mu.Unlock()
	if announced { // else the first announcement, which must be whole, says it
		a.announce(map[netmap.Key]any{netmap.HostFactKey(a.self): fact})
	}
}

// publish spreads what the ledger decided as facts; only keepers are called.
func (a *Agent) publish(d ledger.Decision) {
	err := a.gossip.PublishDecisions(gossip.Decisions{
		Cluster: d.Cluster, Generation: d.Generation, Index: d.Index, Whole: d.Whole, Lead: d.Leader, Changes: d.Changes,
	})
	if err != nil {
		a.problem("decisions", err.Error())
	}
}

// announce tells facts; what cannot be encoded is a fault of ours, and is shown.
func (a *Agent) announce(set map[netmap.Key]any, del ...netmap.Key) {
	if err := a.gossip.Announce(set, del); err != nil {
		a.problem("facts", err.Error())
	}
	a.wake()
}

// Announce implements attach.Facts. What this host is still to ask for is not told.
func (a *Agent) Announce(e netmap.Endpoint) {
	if !rightful(a.ipam, e) {
		a.wake()
		return
	}
	e.Name = cmp.Or(a.nameOf(e.ID), e.Name) // of a container that is not Docker's, it is on disk
	a.history.Began(e)
	a.announce(map[netmap.Key]any{netmap.EndpointKey(e.ID): e})
}

// Withdraw implements attach.Facts.
func (a *Agent) Withdraw(id netmap.EndpointID) {
	a.mu.Lock()
	name := a.names[id]
	delete(a.names, id)
	a.mu.Unlock()
	a.restarts.Left(name, time.Now())
	a.history.Ended(id)
	a.announce(nil, netmap.EndpointKey(id))
}

// Attach implements attach.Addresses.
func (a *Agent) Attach(addr netip.Addr, owner netmap.Owner) error { return a.ipam.Attach(addr, owner) }

// Gone implements attach.Facts.
func (a *Agent) Gone(e netmap.Endpoint) {
	if err := a.ipam.EndpointGone(e.V4, e.V6); err != nil {
		a.log.Warn("addresses of a deleted endpoint", "endpoint", e.ID, "err", err)
	}
}

// holder names the endpoint of this host that has an address, for ipam.
func (a *Agent) holder(addr netip.Addr) string {
	r, ok := a.attach.Holder(addr)
	if !ok {
		return ""
	}
	e := r.Endpoint
	e.Name = cmp.Or(a.nameOf(e.ID), e.Name)
	return e.Label()
}

// nameEndpoint announces the name of the container behind an endpoint of this
// host, once Docker told it.
func (a *Agent) nameEndpoint(e netmap.Endpoint, name string) {
	a.mu.Lock()
	known := a.names[e.ID] == name
	a.names[e.ID] = name
	a.mu.Unlock()
	if known {
		return
	}
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		a.ipam.Named(addr, name)
	}
	a.Announce(e)
	// It may have left while its name was being asked for; then it stays withdrawn.
	if r, ok := a.attach.Endpoint(e.ID); !ok || !r.Joined {
		a.Withdraw(e.ID)
	}
}

// nameOf is the container of an endpoint of this host, by name; empty: it is not known.
func (a *Agent) nameOf(id netmap.EndpointID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.names[id]
}

// rightful reports whether the ledger has confirmed an endpoint's addresses for this host,
// as far as it holds them.
func rightful(own *ipam.IPAM, e netmap.Endpoint) bool {
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		if addr.IsValid() && !own.Confirmed(addr) {
			return false
		}
	}
	return true
}
