package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/store/synced"
)

// ReleasePool gives up a pool that became no network. NetworkDeleted gives up the others:
// dockerd calls ReleasePool before it deletes the network, and never again.
func (i *IPAM) ReleasePool(ctx context.Context, req PoolRelease) (rpc.Empty, error) {
	id, err := ParsePoolID(req.PoolID)
	if err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, i.release(ctx, id.Subnet)
}

// release gives up a subnet unless a network uses it.
func (i *IPAM) release(ctx context.Context, subnet netip.Prefix) error {
	leave, err := i.decide(ctx)
	if err != nil {
		return err
	}
	defer leave()
	p, err := i.retire(ctx, subnet)
	if p == nil {
		return err
	}
	// From here on the blocks are not this host's, whether the ledger knows it or not.
	err = i.cfg.Disk.Commit(nil, p.keys()...)
	i.mu.Lock()
	if err != nil {
		p.releasing = false
		i.mu.Unlock()
		return fmt.Errorf("ipam: %s was not released: %w", subnet, err)
	}
	delete(i.pools, subnet)
	i.mu.Unlock()
	i.mustSendUsed.Store(true)
	i.problem(i.sendUsed(ctx))
	return nil
}

// retire lets nothing new begin in a pool that nobody uses, waits until all writes to it have
// ended, and returns its allocator. A late write would leave a right on disk that the ledger
// gave to others. It returns nil if somebody uses the pool, or if there is none.
func (i *IPAM) retire(ctx context.Context, subnet netip.Prefix) (*allocator, error) {
	for {
		i.mu.Lock()
		p := i.pools[subnet]
		if p == nil || len(p.networks) > 0 || p.occupied(i.holder) {
			i.mu.Unlock()
			return nil, nil
		}
		wait := p.underWay()
		p.releasing = wait == nil
		i.mu.Unlock()
		if wait == nil {
			return p, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("ipam: %s was not released, a question to the ledger about it is under way; try again, and look at weft status if this lasts: %w", subnet, ctx.Err())
		}
	}
}

// underWay returns a channel that is closed when a write to the pool has ended, and nil if none
// is under way.
func (p *allocator) underWay() <-chan struct{} {
	if p.request != nil {
		return p.request.done
	}
	for _, b := range netmap.SortedPrefixes(p.leaving) {
		return p.leaving[b].done
	}
	return nil
}

// sendUsed tells the ledger which subnets this host uses, so that the ledger counts it among
// the users of no other. If it fails, the sweep repeats it. The caller holds deciding, so no
// subnet is being made, and nobody waits for an answer to an earlier request. An older disk
// does not know what the newest one uses, so sendUsed says nothing while new addresses are not
// allowed.
func (i *IPAM) sendUsed(ctx context.Context) error {
	if last, err := i.allowed(ctx); err != nil || last {
		return nil
	}
	i.mu.Lock()
	used := netmap.SortedPrefixes(i.pools)
	i.mu.Unlock()
	given, err := synced.Commit(i.cfg.Disk, used, nil)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, grantTimeout)
		defer cancel()
		err = i.cfg.Decisions.UseSubnets(ctx, given)
	}
	if err != nil {
		return fmt.Errorf("ipam: the ledger is still to hear which subnets are used here, %v: %w", used, err)
	}
	i.mustSendUsed.Store(false)
	return nil
}

// occupied reports whether an endpoint still has an address of the pool.
func (p *allocator) occupied(holder func(netip.Addr) string) bool {
	for a, u := range p.Uses() {
		if u.Held && holder(a) != "" {
			return true
		}
	}
	return p.AnyLocked()
}

// keys returns the keys of all records of a pool.
func (p *allocator) keys() []string {
	out := []string{key(kindSubnet, p.Subnet().Prefix)}
	for _, b := range p.Blocks() {
		out = append(out, key(kindBlock, b.Prefix))
	}
	for b := range p.returns {
		out = append(out, key(kindReturn, b))
	}
	for _, c := range p.Claims() {
		out = append(out, key(kindClaim, c.Addr), key(kindForeign, c.Addr)) // see adopt
	}
	for a := range p.unclaims {
		out = append(out, key(kindUnclaim, a))
	}
	for _, a := range p.Foreign() {
		out = append(out, key(kindForeign, a))
	}
	for a := range p.Uses() {
		out = append(out, key(kindAddr, a))
	}
	return out
}

// keysOfBlock returns the keys of the records that DropBlock forgets.
func (p *allocator) keysOfBlock(block netip.Prefix) []string {
	out := []string{key(kindBlock, block)}
	foreign, touched := p.Contents(block)
	for _, a := range foreign {
		out = append(out, key(kindForeign, a))
	}
	for _, a := range touched {
		out = append(out, key(kindAddr, a))
	}
	return out
}

func released(subnet netip.Prefix) error {
	return netmap.Refuse(netmap.Busy, "ipam: subnet %s is being released at this moment; try again", subnet)
}

func isExhausted(err error) bool {
	return errors.Is(err, &netmap.Refusal{Kind: netmap.Exhausted})
}

// isRefusal reports whether an error is a final refusal and not an unknown outcome.
func isRefusal(err error) bool {
	var r *netmap.Refusal
	return errors.As(err, &r) && r.Kind != netmap.NoQuorum
}
