package ipam

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// freshFor is how long a block that came because a container waited for it is not
// given away whole: its addresses may be ceded, but two hosts in need do not take
// the same block from each other before either used it.
const freshFor = 5 * time.Second

// Donation is what another host gave up: one address, or a block, which the ledger
// now has.
type Donation struct {
	Claim netmap.Claim `json:"claim"` // zero: a block
	Block netip.Prefix `json:"block"` // zero: an address
}

// Transfer is an address that this host has given up, and who gets it.
type Transfer struct {
	Addr netip.Addr
	To   netmap.HostID
}

// Cede writes an address of this host's blocks or claims over to another host if it
// is free: first it is out of this host's own reach on disk, then the ledger hears
// of it. Until the ledger has answered the address stays locked, so this host does not
// claim it for itself: of requests that are under way at once the ledger decides
// any one first, and both would be granted. What is asked after that is decided
// after it (ledger.Do); and what an earlier start asked is refused.
//
// Repeating it succeeds. Else it is a *netmap.Refusal that names who holds the
// address.
func (i *IPAM) Cede(ctx context.Context, subnet netip.Prefix, a netip.Addr, to netmap.HostID) (netmap.Claim, error) {
	p := i.lookup(subnet)
	if p == nil {
		return netmap.Claim{}, netmap.Refuse(netmap.Busy, "ipam: this host does not use %s, so it has no address of it to cede; try again, its owner may have changed", subnet)
	}
	if err := p.settle(ctx, a); err != nil {
		return netmap.Claim{}, err
	}
	i.mu.Lock()
	err := p.cedable(a, i.holder(a))
	if err == nil {
		p.Lock(a)
	}
	i.mu.Unlock()
	if err != nil {
		return netmap.Claim{}, err
	}
	return p.cede(ctx, a, to)
}

// cede writes a locked address over.
func (p *allocator) cede(ctx context.Context, a netip.Addr, to netmap.HostID) (netmap.Claim, error) {
	defer p.endChange(a)
	p.mu.Lock()
	set, del := map[string][]byte{}, []string{key(kindClaim, a)}
	if _, inBlock := p.BlockAt(a); inBlock {
		set[key(kindForeign, a)] = encode(to)
	} else {
		del = append(del, key(kindForeign, a), key(kindAddr, a))
		p.cededOutside[a] = to // already: a block with it may come while this is written
	}
	before := p.given[netmap.Single(a)]
	p.give(netmap.Single(a), math.MaxUint64) // this host may own it by an answer that is still on its way
	p.mu.Unlock()
	given, err := synced.Commit(p.cfg.Disk, Transfer{Addr: a, To: to}, set, del...)
	p.mu.Lock()
	if err != nil {
		delete(p.cededOutside, a)
		p.given[netmap.Single(a)] = before
		p.mu.Unlock()
		return netmap.Claim{}, fmt.Errorf("ipam: %s was not ceded: %w", a, err)
	}
	p.Forsake(a, to)
	p.mu.Unlock()
	c, err := p.cfg.Decisions.Cede(ctx, given)
	if err == nil { // what is this host's by a later decision may come
		p.mu.Lock()
		p.give(netmap.Single(a), c.Epoch)
		p.mu.Unlock()
	}
	return c, err
}

// cedable says why an address cannot be given to another host, or nil. Who has it is
// empty as long as no endpoint does: its container may never come, and then it is free.
func (p *allocator) cedable(a netip.Addr, who string) error {
	used, _ := p.Used(a)
	_, inBlock := p.BlockAt(a)
	switch {
	case p.gone:
		return released(p.prefix)
	case p.Locked(a) || used.Held && who == "":
		return netmap.Refuse(netmap.Busy, "%s is being handed out or taken back at this moment; try again", a)
	case used.Held:
		return netmap.Refuse(netmap.Held, "%s is held by %s; choose another --ip, or stop that container", a, who)
	case p.Unusable(a):
		return netmap.Refuse(netmap.Held, "%s is reserved in subnet %s; choose another --ip", a, p.Subnet().Prefix)
	case len(p.inFlight.blocks) > 0 && !inBlock:
		return netmap.Refuse(netmap.Busy, "a further block of %s is being taken into use at this moment, and %s may lie in it; try again", p.prefix, a)
	case !inBlock && !p.Owns(a):
		return netmap.Refuse(netmap.Busy, "%s is not this host's to cede; try again, its owner may have changed", a)
	}
	return nil
}

// Donate gives up something of an area for a host that found no free block there:
// an empty block goes back to the ledger, else the address is ceded that this host
// would have handed out next. A reserve is for times when nobody is in need. What the
// ledger is granting at this moment is waited for: it may be what the other was refused.
// The error is a *netmap.Refusal when nothing is free here.
func (i *IPAM) Donate(ctx context.Context, subnet, within netip.Prefix, to netmap.HostID) (Donation, error) {
	p := i.lookup(subnet)
	if p == nil {
		return Donation{}, netmap.Refuse(netmap.Unknown, "ipam: this host does not use %s, so it has nothing of it to give; ask another host", subnet)
	}
	block, a, f := p.part(within)
	if f != nil {
		select {
		case <-f.tried:
		case <-ctx.Done():
		}
		block, a, _ = p.part(within)
	}
	switch {
	case block.Prefix.IsValid():
		return Donation{Block: block.Prefix}, p.returnBlock(ctx, block)
	case a.IsValid():
		c, err := p.cede(ctx, a, to)
		return Donation{Claim: c}, err
	}
	return Donation{}, netmap.Refuse(netmap.Exhausted, "no address is free in %s on this host either; stop containers", within)
}

// part finds what this host can do without of an area, an empty block or an address, and
// begins to give it up; else it is the question to the ledger that may bring something.
func (p *allocator) part(within netip.Prefix) (block netmap.Block, a netip.Addr, f *grantRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if block, ok := p.spare(within); ok {
		p.leave(block)
		return block, a, nil
	}
	a, ok := p.LastResort(within)
	if _, inBlock := p.BlockAt(a); !ok || p.gone || len(p.inFlight.blocks) > 0 && !inBlock {
		return block, netip.Addr{}, p.request
	}
	p.Lock(a)
	return block, a, nil
}

// spare finds an empty block that reaches into an area, and that no container with --ip
// may want an address of. The caller holds mu.
func (p *allocator) spare(within netip.Prefix) (netmap.Block, bool) {
	for _, s := range p.Blocks() {
		if s.Prefix.Overlaps(within) && s.Kept == 0 && p.Empty(s.Prefix) && time.Since(p.adopted[s.Prefix]) > freshFor && !p.gone {
			return s.Block, true
		}
	}
	return netmap.Block{}, false
}

// askDonation asks the other hosts when the ledger has no block left, and answers
// whether the ledger is to be asked again; not, where an address came instead.
func (p *allocator) askDonation(ctx context.Context, within netip.Prefix) (again bool, err error) {
	r, err := p.cfg.Decisions.AskOthers(ctx, BlockRequest{Subnet: p.prefix, Within: within})
	if err != nil || !r.Claim.Addr.IsValid() {
		return err == nil, err
	}
	return false, p.adoptDonation(r.Claim)
}

// adoptDonation makes an address that was ceded this host's, for anybody. It may have asked for
// that one meanwhile, or have ceded it further.
func (p *allocator) adoptDonation(c netmap.Claim) error {
	if c.Subnet != p.prefix || !p.prefix.Contains(c.Addr) {
		return fmt.Errorf("another host ceded %s of %s, which is no address of %s; run the same release of weft on all hosts", c.Addr, c.Subnet, p.prefix)
	}
	p.mu.Lock()
	elsewhere := p.Locked(c.Addr) || p.stale(netmap.Single(c.Addr), c.Epoch)
	if !elsewhere {
		p.Lock(c.Addr)
	}
	p.mu.Unlock()
	if elsewhere {
		return nil
	}
	defer p.endChange(c.Addr)
	p.expect(c)
	defer p.arrived(c.Addr)
	got := pool.Claim{Claim: c, Donated: true}
	if err := p.cfg.Disk.Commit(map[string][]byte{key(kindClaim, c.Addr): encode(got)}, key(kindForeign, c.Addr)); err != nil {
		return fmt.Errorf("address %s was ceded to this host but cannot be written down: %w", c.Addr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.AddClaim(got)
	return nil
}
