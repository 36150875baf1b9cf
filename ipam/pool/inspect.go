package pool

import (
	"iter"
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// Blocks returns the own blocks, by address.
func (p *Pool) Blocks() []Block {
	out := make([]Block, 0, len(p.order))
	for _, b := range p.order {
		out = append(out, *b)
	}
	return out
}

// BlockAt returns the own block that an address lies in.
func (p *Pool) BlockAt(a netip.Addr) (netmap.Block, bool) {
	if b := p.block(a); b != nil {
		return b.Block, true
	}
	return netmap.Block{}, false
}

// Claims returns the claims of this host, by address.
func (p *Pool) Claims() []Claim {
	out := make([]Claim, 0, len(p.claims))
	for _, a := range netmap.SortedAddrs(p.claims) {
		out = append(out, p.claims[a])
	}
	return out
}

// ClaimAt returns the claim of this host to an address.
func (p *Pool) ClaimAt(a netip.Addr) (Claim, bool) {
	c, ok := p.claims[a]
	return c, ok
}

// Foreign returns the addresses of own blocks that belong to another host or to nobody, by
// address.
func (p *Pool) Foreign() []netip.Addr { return netmap.SortedAddrs(p.foreign) }

// Uses iterates over all addresses that were ever touched, in no order.
func (p *Pool) Uses() iter.Seq2[netip.Addr, Use] {
	return func(yield func(netip.Addr, Use) bool) {
		for a, m := range p.marks {
			if !yield(a, m.Use) {
				return
			}
		}
	}
}

// AnyLocked reports whether some address is locked.
func (p *Pool) AnyLocked() bool { return len(p.locked) > 0 }

// Unconfirmed reports whether an address is held that the ledger has not confirmed for this
// host.
func (p *Pool) Unconfirmed(a netip.Addr) bool {
	m := p.marks[a]
	return m != nil && m.Held && !m.Evicted && !p.Owns(a)
}

// SetName notes which container holds an address.
func (p *Pool) SetName(a netip.Addr, container string) {
	if m := p.marks[a]; m != nil && m.Held {
		m.Name = container
	}
}
