package ipam

import (
	"context"
	"net/netip"
)

// Changes of one address happen one after the other: each takes a sync of the disk, some a
// decision of the ledger.

// Unlock ends what Lock began and wakes those who wait for the address. The caller holds mu.
func (p *allocator) Unlock(a netip.Addr) {
	p.Pool.Unlock(a)
	if c := p.waits[a]; c != nil {
		close(c)
		delete(p.waits, a)
	}
}

// changing returns a channel that is closed when the address may be free to change, and nil if
// it is now. The caller holds mu.
func (p *allocator) changing(a netip.Addr) <-chan struct{} {
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

// waitUnlocked waits until no change of an address is under way, or until its context ends.
func (p *allocator) waitUnlocked(ctx context.Context, a netip.Addr) error {
	for {
		p.mu.Lock()
		c := p.changing(a)
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
