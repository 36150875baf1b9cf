package ipam

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
)

// sweepForEver repairs every minute what a failure left behind.
func (i *IPAM) sweepForEver() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			i.sweep(i.life)
		case <-i.life.Done():
			return
		}
	}
}

// sweep returns blocks and claims that are not needed, frees addresses whose endpoint went
// without a call, gives up pools that became no network or whose network is missing, and tells
// the ledger of releases that it has not heard of.
func (i *IPAM) sweep(ctx context.Context) {
	for _, p := range i.sorted() {
		p.tidy(ctx)
		p.repair(ctx)
	}
	for _, a := range i.stranded() {
		if p := i.poolAt(a); p != nil {
			i.problem(p.freeIf(a, func(u pool.Use) bool { return p.isStranded(a, u) }))
		}
	}
	for _, id := range i.absentNetworks() {
		i.problem(i.NetworkDeleted(ctx, id))
	}
	for _, subnet := range i.unused() {
		i.problem(i.release(ctx, subnet))
	}
	if !i.mustSendUsed.Load() {
		return
	}
	if leave, err := i.decide(ctx); err == nil {
		i.problem(i.sendUsed(ctx))
		leave()
	}
}

// sorted returns the allocators of all registered subnets, in a fixed order.
func (i *IPAM) sorted() (out []*allocator) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, subnet := range netmap.SortedPrefixes(i.pools) {
		if p := i.pools[subnet]; !p.releasing && !p.unregistered {
			out = append(out, p)
		}
	}
	return out
}

// stranded returns the addresses that no endpoint has and that Docker released, or never heard
// of. An agent that ends after it wrote an address down and before it answered leaves one.
// dockerd does not ask what became of it: moby's pkg/plugins/client.go repeats a call that
// broke without its body.
func (i *IPAM) stranded() (out []netip.Addr) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.pools {
		for a, u := range p.Uses() {
			if p.isStranded(a, u) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// isStranded reports whether no endpoint will come for an address. The caller holds mu.
func (p *allocator) isStranded(a netip.Addr, u pool.Use) bool {
	return u.Held && p.holder(a) == "" && (u.Leaving || p.abandoned(a))
}

// Attach notes that an endpoint with this address is about to be written down, so that the
// address is not freed as abandoned. It refuses an owner that was not given the address, and an
// endpoint that comes after the address was freed.
func (i *IPAM) Attach(a netip.Addr, owner netmap.Owner) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for subnet, p := range i.pools {
		if !subnet.Contains(a) {
			continue
		}
		u, _ := p.Used(a)
		if u.Held && u.Caller.Owner != owner {
			return netmap.Refuse(netmap.Held, "ipam: %s was not handed out to %s on this host; start the container again", a, owner)
		}
		if u.Held && !u.Leaving && !u.Evicted && p.Owns(a) && !p.Locked(a) && !p.releasing {
			p.since[a] = time.Now()
			return nil
		}
	}
	return netmap.Refuse(netmap.Unknown, "ipam: %s is not handed out on this host, or was taken back because no container came for it within %v; start the container again", a, abandonedAfter)
}

// abandoned reports whether an address has been held without an endpoint for so long that none
// will come. Docker creates the endpoint at once. The caller holds mu.
func (p *allocator) abandoned(a netip.Addr) bool {
	since, ok := p.since[a]
	if !ok {
		since = p.made // held before this start of the agent
	}
	return p.cfg.Holder != nil && time.Since(since) > abandonedAfter
}

// absentNetworks returns the networks that pools are kept for and that have been missing for
// longer than it takes to make one: the agent ended while it made the network, or could not
// undo it.
func (i *IPAM) absentNetworks() (out []string) {
	if i.cfg.Networks == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	absent := map[string]time.Time{}
	for _, p := range i.pools {
		for id := range p.networks {
			absent[id] = cmp.Or(i.absentSince[id], time.Now())
		}
	}
	for _, id := range i.cfg.Networks() {
		delete(absent, id)
	}
	i.absentSince = absent
	for id, since := range absent {
		if time.Since(since) >= answersWithin {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (i *IPAM) unused() (out []netip.Prefix) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for subnet, p := range i.pools {
		if len(p.networks) == 0 && time.Since(p.made) > unusedAfter {
			out = append(out, subnet)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
