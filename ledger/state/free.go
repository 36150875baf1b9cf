package state

import (
	"math"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// freeBlocks finds the free blocks of a subnet in steps with the depth of the subnet, not with the
// number of its blocks. It is a binary tree over prefixes, from the subnet down to single
// blocks. It follows from the rest of the state, is no part of snapshots, and is built when it
// is needed first.
type freeBlocks struct {
	subnet  netmap.Subnet
	nodes   map[netip.Prefix]node         // a prefix that is missing is untouched
	claimed map[netip.Prefix][]netip.Addr // single addresses by the block that they lie in, sorted
}

// node says what is best below a prefix. Lower numbers are better, none means that there is
// nothing.
type node struct {
	block  uint64 // of a block to grant: when it was given up, by index; 0: it was never used
	single uint64 // of a block to take a single address from: one that has others already comes first
	closed uint64 // blocks below that are owned, or full of single and reserved addresses
}

const none = math.MaxUint64

// untouched is the node of a prefix in which nothing was ever granted.
var untouched = node{block: 0, single: 1}

// freeIn returns the tree of a subnet.
func (s *State) freeIn(sub *subnet) *freeBlocks {
	if sub.free != nil {
		return sub.free
	}
	f := &freeBlocks{subnet: sub.Subnet, nodes: map[netip.Prefix]node{}, claimed: map[netip.Prefix][]netip.Addr{}}
	sub.free = f
	for a, c := range s.claims {
		if c.Subnet == sub.Prefix {
			f.note(a, true)
		}
	}
	touched := map[netip.Prefix]struct{}{}
	for p := range sub.blocks {
		touched[p] = struct{}{}
	}
	for p := range sub.freed {
		if p.Bits() == sub.BlockBits { // else the size was changed since
			touched[p] = struct{}{}
		}
	}
	for p := range f.claimed {
		touched[p] = struct{}{}
	}
	for _, a := range sub.spoken() {
		if sub.Prefix.Contains(a) {
			touched[f.blockOf(a)] = struct{}{}
		}
	}
	for p := range touched {
		f.update(sub, p)
	}
	return f
}

// reindex follows a change of a noun in the tree of its subnet.
func (t *step) reindex(noun any) {
	switch n := noun.(type) {
	case netmap.Subnet:
		if s := t.subnets[n.Prefix]; s != nil {
			s.free = nil
		}
	case netmap.Block:
		if s := t.subnets[n.Subnet]; s != nil && s.free != nil {
			s.free.update(s, n.Prefix)
		}
	case netmap.Claim:
		if s := t.subnets[n.Subnet]; s != nil && s.free != nil {
			_, is := t.claims[n.Addr]
			s.free.note(n.Addr, is)
			s.free.update(s, s.free.blockOf(n.Addr))
		}
	}
}

func (f *freeBlocks) blockOf(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, f.subnet.BlockBits).Masked()
}

// note adds or removes a single address.
func (f *freeBlocks) note(a netip.Addr, is bool) {
	p := f.blockOf(a)
	list := f.claimed[p]
	switch i, known := slices.BinarySearchFunc(list, a, netip.Addr.Compare); {
	case is && !known:
		f.claimed[p] = slices.Insert(list, i, a)
	case !is && known && len(list) == 1:
		delete(f.claimed, p)
	case !is && known:
		f.claimed[p] = slices.Delete(list, i, i+1)
	}
}

// update writes the node of a block anew, and those above it.
func (f *freeBlocks) update(s *subnet, p netip.Prefix) {
	f.put(p, f.leaf(s, p))
	for bits := p.Bits() - 1; bits >= f.subnet.Prefix.Bits(); bits-- {
		p = netip.PrefixFrom(p.Addr(), bits).Masked()
		low, high := f.halves(p)
		f.put(p, node{block: min(low.block, high.block), single: min(low.single, high.single), closed: low.closed + high.closed})
	}
}

func (f *freeBlocks) put(p netip.Prefix, n node) {
	if n == untouched {
		delete(f.nodes, p)
		return
	}
	f.nodes[p] = n
}

func (f *freeBlocks) at(p netip.Prefix) node {
	if n, ok := f.nodes[p]; ok {
		return n
	}
	return untouched
}

func (f *freeBlocks) halves(p netip.Prefix) (low, high node) {
	l, h := halve(p)
	return f.at(l), f.at(h)
}

func halve(p netip.Prefix) (low, high netip.Prefix) {
	low = netip.PrefixFrom(p.Addr(), p.Bits()+1)
	return low, netip.PrefixFrom(netmap.LastAddr(low).Next(), low.Bits())
}

func (f *freeBlocks) leaf(s *subnet, p netip.Prefix) node {
	_, owned := s.blocks[p]
	n := node{block: s.freed[p], single: s.freed[p] + 1}
	switch {
	case owned || f.full(s, p):
		return node{none, none, 1}
	case len(f.claimed[p]) > 0:
		n.single = 0
	}
	return n
}

// full reports whether every address of a block is reserved or claimed: to own it would be of
// no use.
func (f *freeBlocks) full(s *subnet, p netip.Prefix) bool {
	hostBits, claimed := p.Addr().BitLen()-p.Bits(), f.claimed[p]
	if hostBits > 16 {
		return false
	}
	taken := len(claimed)
	for _, a := range s.spoken() {
		if _, twice := slices.BinarySearchFunc(claimed, a, netip.Addr.Compare); p.Contains(a) && !twice {
			taken++
		}
	}
	return taken >= 1<<hostBits
}

// spoken are the addresses that no host can have, sorted, each once.
func (s *subnet) spoken() []netip.Addr {
	out := []netip.Addr{s.Prefix.Addr(), s.Gateway}
	if s.Prefix.Addr().Is4() {
		out = append(out, netmap.LastAddr(s.Prefix))
	}
	for _, a := range s.Reserved {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// count returns how many blocks an area has, and how many of them are free. Of an area that
// is smaller, it is the block around it.
func (f *freeBlocks) count(area netip.Prefix) (open, all uint64) {
	area = f.whole(area)
	all = 1 << (f.subnet.BlockBits - area.Bits())
	return all - f.at(area).closed, all
}

func (f *freeBlocks) whole(area netip.Prefix) netip.Prefix {
	if area.Bits() > f.subnet.BlockBits {
		return f.blockOf(area.Addr())
	}
	return area
}

// best finds the block with the lowest number in an area: of several the lowest block.
func (f *freeBlocks) best(area netip.Prefix, number func(node) uint64) (netip.Prefix, bool) {
	p := f.whole(area)
	if number(f.at(p)) == none {
		return p, false
	}
	for p.Bits() < f.subnet.BlockBits {
		low, high := halve(p)
		if p = low; number(f.at(high)) < number(f.at(low)) {
			p = high
		}
	}
	return p, true
}

// block finds the block to grant next: the lowest that was never used, else the one whose last
// owner gave it up longest ago, so that an address comes back as late as possible.
func (f *freeBlocks) block(area netip.Prefix) (netip.Prefix, bool) {
	return f.best(area, func(n node) uint64 { return n.block })
}

// single finds the address to give out by itself: the lowest of a block that has others
// already, so that other blocks stay whole. Those that were in use until lately come last.
func (f *freeBlocks) single(s *subnet, area netip.Prefix) (out netip.Addr, ok bool) {
	p, ok := f.best(area, func(n node) uint64 { return n.single })
	if !ok {
		return out, false
	}
	part := netmap.Common(p, area)
	for a := part.Addr(); part.Contains(a); a = a.Next() {
		_, late := s.late[a]
		switch {
		case !f.open(s, p, a):
		case !late:
			return a, true
		case !out.IsValid():
			out = a
		}
	}
	return out, out.IsValid()
}

// top finds the address to give to a host itself: the highest that lies in no block that is owned,
// so that the blocks for containers, which are granted from the bottom, stay whole. It is none that
// was in use until lately: a host that comes back may ask for it, for a container.
func (f *freeBlocks) top(s *subnet, area netip.Prefix) (netip.Addr, bool) {
	return f.topIn(s, f.whole(area), area)
}

func (f *freeBlocks) topIn(s *subnet, p, area netip.Prefix) (netip.Addr, bool) {
	if f.at(p).single == none {
		return netip.Addr{}, false
	}
	if p.Bits() < f.subnet.BlockBits {
		low, high := halve(p)
		if a, ok := f.topIn(s, high, area); ok {
			return a, true
		}
		return f.topIn(s, low, area)
	}
	part := netmap.Common(p, area)
	for a := netmap.LastAddr(part); part.Contains(a); a = a.Prev() {
		if _, late := s.late[a]; !late && f.open(s, p, a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// open reports whether an address of a block that nobody owns may be given out.
func (f *freeBlocks) open(s *subnet, block netip.Prefix, a netip.Addr) bool {
	_, taken := slices.BinarySearchFunc(f.claimed[block], a, netip.Addr.Compare)
	return !taken && !netmap.IsEdge(a, s.Prefix) && !s.reserves(a)
}
