package ipam

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ipam/receipt"
	"github.com/weftnet/weft/netmap"
)

// sweepForEver repairs now and then what a failure left behind.
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

// sweep tells the ledger of releases that it missed, gives back what is not needed,
// frees addresses whose endpoint went without a word, and gives up pools that never
// became a network.
func (i *IPAM) sweep(ctx context.Context) {
	for _, subnet := range i.untold() {
		if leave, err := i.decide(ctx); err == nil {
			i.retell(ctx, subnet)
			leave()
		}
	}
	for _, p := range i.sorted() {
		i.tidy(ctx, p)
		i.repair(ctx, p)
	}
	for _, a := range i.lost() {
		if p := i.poolAt(a); p != nil {
			i.problem(i.freeIf(p, a, func(u Use) bool { return i.isStranded(p, a, u) }))
		}
	}
	for _, subnet := range i.unused() {
		i.problem(i.release(ctx, subnet))
	}
}

func (i *IPAM) untold() (out []netip.Prefix) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.SortedFunc(maps.Keys(i.releases), netip.Prefix.Compare)
}

// sorted are all pools that this host has a part in, in a fixed order.
func (i *IPAM) sorted() (out []*pool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, subnet := range sortedPrefixes(i.pools) {
		if p := i.pools[subnet]; !p.gone && !p.stray {
			out = append(out, p)
		}
	}
	return out
}

// retell tells the ledger of a release unless the subnet is in use again.
func (i *IPAM) retell(ctx context.Context, subnet netip.Prefix) {
	i.mu.Lock()
	_, still := i.releases[subnet]
	i.mu.Unlock()
	if !still {
		return
	}
	given, err := receipt.Commit(i.cfg.Disk, subnet, map[string][]byte{key(kindRelease, subnet): nil})
	if err != nil {
		i.problem(fmt.Errorf("ipam: that %s is released here is still to be written down and told: %w", subnet, err))
		return
	}
	i.tellReleased(ctx, given)
}

// lost are addresses that no endpoint has and that Docker released, or never heard
// of: an agent that ends between writing an address down and answering leaves one,
// and dockerd does not ask what became of it (moby's pkg/plugins/client.go
// repeats a call that broke without its body).
func (i *IPAM) lost() (out []netip.Addr) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.pools {
		for a, m := range p.marks {
			if i.isStranded(p, a, m.Use) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// isStranded reports whether nobody will come for an address. The caller holds mu.
func (i *IPAM) isStranded(p *pool, a netip.Addr, u Use) bool {
	return u.Held && i.holder(a) == "" && (u.Leaving || i.abandoned(p, a))
}

// Attach says that an endpoint is about to be written down with an address, which it
// keeps from being taken for abandoned. It is refused if Docker comes with an
// address that it was not given, or so late that it was taken back.
func (i *IPAM) Attach(a netip.Addr) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for subnet, p := range i.pools {
		if !subnet.Contains(a) {
			continue
		}
		if u, _ := p.Used(a); u.Held && !u.Leaving && !u.Lost && p.Mine(a) && !p.Busy(a) && !p.gone {
			p.since[a] = time.Now()
			return nil
		}
	}
	return netmap.Refuse(netmap.Unknown, "ipam: %s is not handed out on this host, or was taken back because no container came for it within %v; start the container again", a, abandonedAfter)
}

// abandoned reports whether an address without an endpoint has been held for so
// long that none will come: Docker creates it at once. The caller holds mu.
func (i *IPAM) abandoned(p *pool, a netip.Addr) bool {
	since, ok := p.since[a]
	if !ok {
		since = p.made // held since before this start
	}
	return i.cfg.Holder != nil && time.Since(since) > abandonedAfter
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
