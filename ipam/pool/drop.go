package pool

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// The methods of this file take something out of a pool. The caller has removed its records
// from disk before.

// Empty reports whether nobody holds an address of an own block and none is being handed out.
func (p *Pool) Empty(block netip.Prefix) bool {
	s := p.blocks[block]
	if s == nil || s.Held > 0 {
		return false
	}
	for a := range p.locked {
		if block.Contains(a) {
			return false
		}
	}
	return true
}

// Withdraw takes an own block out of use and keeps what is remembered of its addresses.
// AddBlock undoes that, DropBlock makes it final.
func (p *Pool) Withdraw(block netip.Prefix) {
	delete(p.blocks, block)
	p.order = slices.DeleteFunc(p.order, func(s *Block) bool { return s.Prefix == block })
}

// DropBlock forgets an own block that is empty, and what is remembered of its addresses. It
// keeps claims in it.
func (p *Pool) DropBlock(block netip.Prefix) {
	p.Withdraw(block)
	for a := range p.foreign {
		if block.Contains(a) {
			delete(p.foreign, a)
		}
	}
	for a := range p.marks {
		if _, own := p.claims[a]; block.Contains(a) && !own {
			p.Forget(a)
		}
	}
	maps.DeleteFunc(p.cursors, func(area netip.Prefix, _ netip.Addr) bool { return area.Overlaps(block) })
}

// DropClaim forgets a claim. If its address lies in an own block, it belongs to the block from
// now on.
func (p *Pool) DropClaim(a netip.Addr) {
	delete(p.claims, a)
	if p.block(a) == nil {
		p.Forget(a)
	}
}

// Forget removes what is remembered of an address that does not belong to this host any more.
func (p *Pool) Forget(a netip.Addr) {
	m := p.marks[a]
	if m == nil {
		return
	}
	p.Put(a, Use{}) // out of the count of its block
	p.unqueue(m)
	delete(p.marks, a)
}

// TakeBack makes an address of an own block, which was ceded to another host, this host's
// again, released by this Use.Seq.
func (p *Pool) TakeBack(a netip.Addr, u Use) {
	delete(p.foreign, a)
	p.Release(a, u)
}

// Latest returns the addresses of a block that were released last, at most n, in the order of
// their release.
func (p *Pool) Latest(block netip.Prefix, n int) (out []netip.Addr) {
	for e := p.released.Back(); e != nil && len(out) < n; e = e.Prev() {
		if a := markOf(e).addr; block.Contains(a) {
			out = append(out, a)
		}
	}
	slices.Reverse(out)
	return out
}

// Contents returns the addresses that DropBlock forgets, sorted: those of other hosts, and
// those that were touched.
func (p *Pool) Contents(block netip.Prefix) (foreign, touched []netip.Addr) {
	for _, a := range netmap.SortedAddrs(p.foreign) {
		if block.Contains(a) {
			foreign = append(foreign, a)
		}
	}
	for _, a := range netmap.SortedAddrs(p.marks) {
		if _, own := p.claims[a]; block.Contains(a) && !own {
			touched = append(touched, a)
		}
	}
	return foreign, touched
}

// Ceded returns the addresses of own blocks that belong to other hosts, sorted, without
// reserved ones, which belong to nobody.
func (p *Pool) Ceded() []netip.Addr {
	return slices.DeleteFunc(netmap.SortedAddrs(p.foreign), func(a netip.Addr) bool { return p.foreign[a] == netmap.HostID{} })
}
