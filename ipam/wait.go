package ipam

import (
	"context"
	"net/netip"
)

// Changes of one address take turns: each takes a sync of the disk, some a decision
// of the ledger.

// Unlock is the opposite of Lock. The caller holds mu.
func (p *allocator) Unlock(a netip.Addr) {
	p.Pool.Unlock(a)
	if c := p.waits[a]; c != nil {
		close(c)
		delete(p.waits, a)
	}
}

// settling is closed when an address may be free to change again; nil if it is now.
// The caller holds mu.
func (p *allocator) settling(a netip.Addr) <-chan struct{} {
	if block, err := a.Prefix(p.Subnet().BlockBits); err == nil && p.leaving[block].done != nil {
		return p.leaving[block].done
	}
	if !p.Locked(a) {
		return nil
	}
	if p.waits[a] == nil {
		p.waits[a] = make(chan struct{})
	}
	return p.waits[a]
}

// settle waits, with its context, until no change of an address is under way.
func (p *allocator) settle(ctx context.Context, a netip.Addr) error {
	for {
		p.mu.Lock()
		c := p.settling(a)
		p.mu.Unlock()
		if c == nil {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return busy(a)
		}
	}
}
