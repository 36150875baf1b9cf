package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/ipam/receipt"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// ReleasePool gives up a pool that became no network. One that did is given up by
// NetworkDeleted: dockerd calls this before it deletes the network, and never again.
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
	dead := p.keys()
	// From here on the blocks are not ours, whether the ledger knows or not.
	given, err := receipt.Commit(i.cfg.Disk, subnet, map[string][]byte{key(kindRelease, subnet): nil}, dead...)
	if err != nil {
		i.mu.Lock()
		defer i.mu.Unlock()
		p.gone = false
		return fmt.Errorf("ipam: %s was not released: %w", subnet, err)
	}
	i.mu.Lock()
	delete(i.pools, subnet)
	i.releases[subnet] = struct{}{}
	i.mu.Unlock()
	i.tellReleased(ctx, given)
	return nil
}

// retire lets nothing more begin in a pool that nobody uses and returns it. Nil:
// somebody does, or there is none. No write to it is under way after that: one that
// came late would survive as a right that the ledger gave to others.
func (i *IPAM) retire(ctx context.Context, subnet netip.Prefix) (*pool, error) {
	for {
		i.mu.Lock()
		p := i.pools[subnet]
		if p == nil || len(p.networks) > 0 || p.occupied(i.holder) {
			i.mu.Unlock()
			return nil, nil
		}
		wait := p.underWay()
		p.gone = wait == nil
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

// underWay is closed when something that is being written to a pool is; nil if
// there is none.
func (p *pool) underWay() <-chan struct{} {
	if p.flight != nil {
		return p.flight.done
	}
	for _, b := range sortedPrefixes(p.leaving) {
		return p.leaving[b].done
	}
	return nil
}

// tellReleased tells the ledger; the sweep repeats it when that fails. The caller
// is deciding.
func (i *IPAM) tellReleased(ctx context.Context, given receipt.Receipt[netip.Prefix]) {
	subnet := given.Of()
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	err := i.cfg.Decisions.ReleaseSubnet(ctx, given)
	if err == nil {
		err = i.cfg.Disk.Commit(nil, key(kindRelease, subnet))
	}
	if err != nil {
		i.problem(fmt.Errorf("ipam: the ledger is still to hear that %s is released here: %w", subnet, err))
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.releases, subnet)
}

// occupied reports whether an endpoint still has an address of the pool.
func (p *pool) occupied(holder func(netip.Addr) string) bool {
	for a, m := range p.marks {
		if m.Held && holder(a) != "" {
			return true
		}
	}
	return len(p.busy) > 0
}

// keys are all of a pool's records.
func (p *pool) keys() []string {
	out := []string{key(kindSubnet, p.subnet.Prefix)}
	for b := range p.blocks {
		out = append(out, key(kindBlock, b))
	}
	for b := range p.returns {
		out = append(out, key(kindReturn, b))
	}
	for a := range p.claims {
		out = append(out, key(kindClaim, a))
	}
	for a := range p.unclaims {
		out = append(out, key(kindUnclaim, a))
	}
	for a := range p.foreign {
		out = append(out, key(kindForeign, a))
	}
	for a := range p.marks {
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

// isRefusal reports whether an error is a final no rather than an unknown outcome.
func isRefusal(err error) bool {
	var r *netmap.Refusal
	return errors.As(err, &r) && r.Kind != netmap.NoQuorum
}
