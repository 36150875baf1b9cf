package pool

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// What leaves a pool again. As with what comes, the disk is first: the caller has
// written down that these records are gone.

// Empty reports whether nobody has an address of an own block and none is on its
// way to anybody.
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

// Withdraw takes an own block out of use and remembers what was known of its
// addresses: AddBlock brings it back, DropBlock forgets it.
func (p *Pool) Withdraw(block netip.Prefix) {
	delete(p.blocks, block)
	p.order = slices.DeleteFunc(p.order, func(s *Block) bool { return s.Prefix == block })
}

// DropBlock forgets an own block that is empty, and what was remembered of its
// addresses. Addresses in it that are this host's by themselves stay.
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

// DropClaim forgets an address that was this host's by itself. In an own block it
// is one of many from now on.
func (p *Pool) DropClaim(a netip.Addr) {
	delete(p.claims, a)
	if p.block(a) == nil {
		p.Forget(a)
	}
}

// Forget removes every memory of an address that is not this host's any more.
func (p *Pool) Forget(a netip.Addr) {
	m := p.marks[a]
	if m == nil {
		return
	}
	p.Put(a, Use{}) // out of the count of its block
	p.unqueue(m)
	delete(p.marks, a)
}

// TakeBack takes back an address of an own block that was another host's, as one
// that was released by this Use.Seq.
func (p *Pool) TakeBack(a netip.Addr, u Use) {
	delete(p.foreign, a)
	p.Release(a, u)
}

// Latest are the addresses of a block that were released last, at most n, in the
// order of their release.
func (p *Pool) Latest(block netip.Prefix, n int) (out []netip.Addr) {
	for e := p.released.Back(); e != nil && len(out) < n; e = e.Prev() {
		if a := markOf(e).addr; block.Contains(a) {
			out = append(out, a)
		}
	}
	slices.Reverse(out)
	return out
}

// Contents are the addresses that DropBlock forgets: those that are other hosts', and those
// that were ever touched, each sorted.
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

// Ceded are the addresses of own blocks that are other hosts', sorted. Reserved
// ones are nobody's.
func (p *Pool) Ceded() []netip.Addr {
	return slices.DeleteFunc(netmap.SortedAddrs(p.foreign), func(a netip.Addr) bool { return p.foreign[a] == netmap.HostID{} })
}
