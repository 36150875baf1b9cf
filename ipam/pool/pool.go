package pool

import (
	"container/list"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// maxReleased bounds the released addresses that are remembered of one pool. Beyond it the
// oldest released address is handed out again although some were never used. Only IPv6 blocks
// are that large.
const maxReleased = 1 << 16

// Use is what is remembered of an address that was ever handed out here.
type Use struct {
	Held    bool   `json:"held"`
	Seq     uint64 `json:"seq,omitempty"`     // order of the releases: a greater one is later
	At      int64  `json:"at,omitempty"`      // time of the release by the wall clock, Unix seconds; tells what was in use when the host stopped
	Name    string `json:"name,omitempty"`    // of the container, if known
	Caller  Caller `json:"caller,omitzero"`   // who asked for it last
	Asked   bool   `json:"asked,omitempty"`   // for by --ip
	Leaving bool   `json:"leaving,omitempty"` // Docker released it while its endpoint still existed
	Evicted bool   `json:"evicted,omitempty"` // a container here holds it, but it belongs to another host: see ipam.IPAM.Evict
}

// holds reports whether the address counts as held in its block.
func (u Use) holds() bool { return u.Held && !u.Evicted }

// keeps reports whether the address is free and was asked for by --ip. Its container may start
// again.
func (u Use) keeps() bool { return !u.Held && u.Asked }

// Pool is what this host holds of one subnet. It is pure and deterministic: it uses no clock
// and no disk. It is not safe for concurrent use.
//
// Invariant: a cursor never passes an address that Pick may still find unused, because an
// address that was once touched stays touched for as long as the host holds the block.
type Pool struct {
	subnet   netmap.Subnet
	blocks   map[netip.Prefix]*Block
	order    []*Block                     // blocks by address
	claims   map[netip.Addr]Claim         // addresses of this host outside its blocks, or ceded to it
	foreign  map[netip.Addr]netmap.HostID // owners of addresses in own blocks that belong to another host, or to nobody
	marks    map[netip.Addr]*mark         // every address that was ever handed out
	locked   map[netip.Addr]struct{}      // a change is on its way to disk
	released list.List                    // of *mark, oldest first
	byName   map[string]netip.Addr        // the address that a container of this name released last
	cursors  map[netip.Prefix]netip.Addr  // by area: every address before the cursor was touched
	heldBy   map[Caller][]netip.Addr      // addresses of callers that may repeat a request
	seq      uint64
}

// Claim is a single address that the ledger gave to this host.
type Claim struct {
	netmap.Claim
	// Donated says that the ledger or another host gave the address because no block was free.
	// Any container may get it. Other claims are for the container that asks for this very address.
	Donated bool `json:"donated,omitempty"`
}

// Block is one own block.
type Block struct {
	netmap.Block
	Held uint64 // addresses that somebody holds
	Kept uint64 // free addresses that somebody asked for by --ip: see Use.keeps
}

// count returns the counter that a use of an address of the block belongs to.
func (s *Block) count(u Use) *uint64 {
	switch {
	case u.holds():
		return &s.Held
	case u.keeps():
		return &s.Kept
	}
	return new(uint64)
}

type mark struct {
	Use
	addr netip.Addr
	elem *list.Element // in released, if not held and not another host's
}

// New returns a pool without blocks.
func New(subnet netmap.Subnet) *Pool {
	return &Pool{
		subnet:  subnet,
		blocks:  map[netip.Prefix]*Block{},
		claims:  map[netip.Addr]Claim{},
		foreign: map[netip.Addr]netmap.HostID{},
		marks:   map[netip.Addr]*mark{},
		locked:  map[netip.Addr]struct{}{},
		byName:  map[string]netip.Addr{},
		cursors: map[netip.Prefix]netip.Addr{},
		heldBy:  map[Caller][]netip.Addr{},
	}
}

// Subnet returns the subnet as the ledger decided it, as far as this host has heard.
func (p *Pool) Subnet() netmap.Subnet { return p.subnet }

// SetSubnet replaces the gateway and the reservations.
func (p *Pool) SetSubnet(s netmap.Subnet) { p.subnet = s }

// AddBlock adds an own block. It does not change a block that is there already.
func (p *Pool) AddBlock(b netmap.Block) {
	if p.blocks[b.Prefix] != nil {
		return
	}
	s := &Block{Block: b}
	for a, m := range p.marks {
		if b.Prefix.Contains(a) {
			*s.count(m.Use)++
		}
	}
	p.blocks[b.Prefix] = s
	i, _ := slices.BinarySearchFunc(p.order, s, func(a, b *Block) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	p.order = slices.Insert(p.order, i, s)
}

// HasBlock reports whether the host holds the block under this epoch.
func (p *Pool) HasBlock(b netmap.Block) bool {
	s := p.blocks[b.Prefix]
	return s != nil && s.Epoch == b.Epoch
}

// AddClaim adds a single address that the ledger gave to this host.
func (p *Pool) AddClaim(c Claim) {
	p.claims[c.Addr] = c
	if c.Donated {
		p.touch(c.Addr)
	}
	if _, was := p.foreign[c.Addr]; was {
		delete(p.foreign, c.Addr)
		p.requeue(c.Addr)
		p.touch(c.Addr)
	}
}

// Forsake notes that an address belongs to another host from now on.
func (p *Pool) Forsake(a netip.Addr, to netmap.HostID) {
	delete(p.claims, a)
	if p.block(a) != nil {
		p.foreign[a] = to
		p.requeue(a)
		return
	}
	p.Forget(a)
}

// touch makes an address that is not remembered one that was released just now.
func (p *Pool) touch(a netip.Addr) {
	if p.marks[a] == nil {
		p.Release(a, Use{Seq: p.NextSeq()})
	}
}

// block returns the own block that an address lies in, or nil.
func (p *Pool) block(a netip.Addr) *Block {
	prefix, err := a.Prefix(p.subnet.BlockBits)
	if err != nil {
		return nil
	}
	return p.blocks[prefix]
}

// Owns reports whether this host may hand out the address without asking.
func (p *Pool) Owns(a netip.Addr) bool {
	if _, ok := p.claims[a]; ok {
		return true
	}
	_, foreign := p.foreign[a]
	return !foreign && p.block(a) != nil
}

// Reserved reports whether the address is an --aux-address.
func (p *Pool) Reserved(a netip.Addr) bool {
	for _, r := range p.subnet.Reserved {
		if r == a {
			return true
		}
	}
	return false
}

// Unusable reports whether no container may have the address.
func (p *Pool) Unusable(a netip.Addr) bool {
	return a == p.subnet.Gateway || netmap.IsEdge(a, p.subnet.Prefix) || p.Reserved(a)
}

// Used returns what is remembered of an address, and false if it was never touched.
func (p *Pool) Used(a netip.Addr) (Use, bool) {
	if m := p.marks[a]; m != nil {
		return m.Use, true
	}
	return Use{}, false
}

// Locked reports whether a change of the address is on its way to disk.
func (p *Pool) Locked(a netip.Addr) bool {
	_, ok := p.locked[a]
	return ok
}

// Lock keeps Pick from finding an address while a change of it is written to disk. The caller
// calls Unlock after that.
func (p *Pool) Lock(a netip.Addr) { p.locked[a] = struct{}{} }

// Unlock ends what Lock began.
func (p *Pool) Unlock(a netip.Addr) { delete(p.locked, a) }

// NextSeq returns the number of the next release.
func (p *Pool) NextSeq() uint64 {
	p.seq++
	return p.seq
}

// Hold marks an address as held.
func (p *Pool) Hold(a netip.Addr, u Use) {
	u.Held = true
	p.Put(a, u)
}

// Release marks an address as free. It is handed out again after the addresses with a smaller
// Use.Seq.
func (p *Pool) Release(a netip.Addr, u Use) {
	u.Held, u.Leaving = false, false
	p.Put(a, u)
}

// Put replaces what is remembered of an address.
func (p *Pool) Put(a netip.Addr, u Use) {
	m := p.marks[a]
	if m == nil {
		m = &mark{addr: a}
		p.marks[a] = m
	}
	if s := p.block(a); s != nil {
		*s.count(m.Use)--
		*s.count(u)++
	}
	p.seq = max(p.seq, u.Seq)
	p.unqueue(m)
	p.unindex(m)
	m.Use = u
	p.index(m)
	p.requeue(a)
}

// requeue puts a remembered address into the queue of released ones if this host may hand it
// out again, and takes it out otherwise: every search would pass over it.
func (p *Pool) requeue(a netip.Addr) {
	m := p.marks[a]
	if m == nil {
		return
	}
	p.unqueue(m)
	if _, foreign := p.foreign[a]; !foreign && !m.Held {
		p.queue(m)
	}
}

// queue inserts a released address by its number, which is mostly at the end.
func (p *Pool) queue(m *mark) {
	after := p.released.Back()
	for after != nil && markOf(after).Seq > m.Seq {
		after = after.Prev()
	}
	if after == nil {
		m.elem = p.released.PushFront(m)
	} else {
		m.elem = p.released.InsertAfter(m, after)
	}
	if m.Name != "" {
		p.byName[m.Name] = m.addr
	}
}

// unqueue takes an address out of the queue of released ones.
func (p *Pool) unqueue(m *mark) {
	if m.elem == nil {
		return
	}
	p.released.Remove(m.elem)
	m.elem = nil
	if p.byName[m.Name] == m.addr {
		delete(p.byName, m.Name)
	}
}
