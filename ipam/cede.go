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

// freshFor is how long a block that came because a container waited for it is not donated
// whole. Its addresses may be ceded. Two hosts in need thus do not take the same block from
// each other before either has used it.
const freshFor = 5 * time.Second

// Donation is what another host gave up: one address, or a block that went back to the ledger.
type Donation struct {
	Claim netmap.Claim `json:"claim"` // zero: a block
	Block netip.Prefix `json:"block"` // zero: an address
}

// Transfer is an address that this host has given up, and who gets it.
type Transfer struct {
	Addr netip.Addr
	To   netmap.HostID
}

// Cede gives an address of this host's blocks or claims to another host if it is free. This
// host gives it up on disk first; then the ledger decides. The address stays locked until the
// ledger has answered, so that this host does not claim it meanwhile: the ledger decides
// requests that are under way together in any order, and would grant both. A request that is
// sent afterwards is decided afterwards (ledger.Do), and requests of an earlier start of the
// agent are refused.
//
// Repeating it succeeds. Any other failure is a *netmap.Refusal that names who holds the
// address.
func (i *IPAM) Cede(ctx context.Context, subnet netip.Prefix, a netip.Addr, to netmap.HostID) (netmap.Claim, error) {
	p := i.lookup(subnet)
	if p == nil {
		return netmap.Claim{}, netmap.Refuse(netmap.Busy, "ipam: this host does not use %s, so it has no address of it to cede; try again, its owner may have changed", subnet)
	}
	if err := p.waitUnlocked(ctx, a); err != nil {
		return netmap.Claim{}, err
	}
	p.giveWay(ctx, a)
	i.mu.Lock()
	err := p.cedable(a, i.holder(a))
	if err == nil {
		p.Lock(a)
	}
	i.mu.Unlock()
	if err != nil {
		return netmap.Claim{}, err
	}
	return p.cede(a, to)
}

// cede gives a locked address to another host.
func (p *allocator) cede(a netip.Addr, to netmap.HostID) (netmap.Claim, error) {
	defer p.endChange(a)
	p.mu.Lock()
	set, del := map[string][]byte{}, []string{key(kindClaim, a)}
	if _, inBlock := p.BlockAt(a); inBlock {
		set[key(kindForeign, a)] = encode(to)
	} else {
		del = append(del, key(kindForeign, a), key(kindAddr, a))
		p.cededOutside[a] = to // before the write: a block with the address may come meanwhile
	}
	before := p.givenUp[netmap.Single(a)]
	p.noteGivenUp(netmap.Single(a), math.MaxUint64) // an answer that is still on its way may give it to this host
	p.mu.Unlock()
	given, err := synced.Commit(p.cfg.Disk, Transfer{Addr: a, To: to}, set, del...)
	p.mu.Lock()
	if err != nil {
		delete(p.cededOutside, a)
		p.givenUp[netmap.Single(a)] = before
		p.mu.Unlock()
		return netmap.Claim{}, fmt.Errorf("ipam: %s was not ceded: %w", a, err)
	}
	p.Forsake(a, to)
	p.mu.Unlock()
	// The address is nobody's until the ledger hears of it, whether or not the other host still waits.
	tell, cancel := context.WithTimeout(p.life, grantTimeout)
	defer cancel()
	c, err := p.cfg.Decisions.Cede(tell, given)
	if err == nil { // a later decision may give it to this host again
		p.mu.Lock()
		p.noteGivenUp(netmap.Single(a), c.Epoch)
		p.mu.Unlock()
	}
	return c, err
}

// cedable returns why an address cannot be given to another host, or nil. who is the endpoint
// that has it. It is empty while no endpoint does: its container may never come, and then the
// address is free.
func (p *allocator) cedable(a netip.Addr, who string) error {
	used, _ := p.Used(a)
	_, inBlock := p.BlockAt(a)
	switch {
	case p.releasing:
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

// Donate gives up something of an area for a host that found no free block there: an empty
// block, which goes back to the ledger, or else the address that this host would have handed
// out next. This host keeps no reserve then. Donate waits for what the ledger is granting at
// the moment, as the other host may have been refused just that. The error is a *netmap.Refusal
// if nothing is free here.
func (i *IPAM) Donate(ctx context.Context, subnet, within netip.Prefix, to netmap.HostID) (Donation, error) {
	p := i.lookup(subnet)
	if p == nil {
		return Donation{}, netmap.Refuse(netmap.Unknown, "ipam: this host does not use %s, so it has nothing of it to give; ask another host", subnet)
	}
	if p.bare(within) {
		if a, ok := p.yield(ctx, within); ok {
			c, err := p.cede(a, to)
			return Donation{Claim: c}, err
		}
	}
	block, a, f := p.chooseDonation(within)
	if f != nil {
		select {
		case <-f.tried:
		case <-ctx.Done():
			return Donation{}, ctx.Err() // the other host has gone on to the next
		}
		block, a, _ = p.chooseDonation(within)
	}
	switch {
	case block.Prefix.IsValid():
		return Donation{Block: block.Prefix}, p.returnBlock(ctx, block)
	case a.IsValid():
		c, err := p.cede(a, to)
		return Donation{Claim: c}, err
	}
	return Donation{}, netmap.Refuse(netmap.Exhausted, "no address is free in %s on this host either; stop containers", within)
}

// giveWay has this host give up an address of its own that a container asks for.
func (p *allocator) giveWay(ctx context.Context, a netip.Addr) {
	p.mu.Lock()
	used, _ := p.Used(a)
	p.mu.Unlock()
	if used.Held && used.Caller.Owner == netmap.OwnerHost {
		if own, ok := p.yield(ctx, netmap.Single(a)); ok {
			p.endChange(own)
		}
	}
}

// bare reports whether nothing of an area is free here that a stopped container may not want back.
func (p *allocator) bare(within netip.Prefix) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, spare := p.spareBlock(within)
	_, free := p.Pick(within, "")
	return !spare && !free
}

// yield has this host give up its own address within an area, if it has one there: containers come
// first. It locks the address.
func (p *allocator) yield(ctx context.Context, within netip.Prefix) (own netip.Addr, ok bool) {
	p.mu.Lock()
	id := ""
	for a, u := range p.Uses() {
		if u.Held && u.Caller.Owner == netmap.OwnerHost && within.Contains(a) {
			own, id = a, u.Caller.ID
		}
	}
	p.mu.Unlock()
	if id == "" || p.cfg.Yield == nil {
		return own, false
	}
	if err := p.cfg.Yield(ctx, id); err != nil {
		p.problem(err)
		return own, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ok = p.Owns(own) && !p.IsHeld(own) && !p.Locked(own) && !p.Unusable(own) && !p.releasing
	if ok {
		p.Lock(own)
	}
	return own, ok
}

// chooseDonation finds an empty block or an address of an area that this host can do without, and locks
// it. If there is none, it returns the request to the ledger that may bring something.
func (p *allocator) chooseDonation(within netip.Prefix) (block netmap.Block, a netip.Addr, f *grantRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if block, ok := p.spareBlock(within); ok {
		p.leave(block)
		return block, a, nil
	}
	a, ok := p.LastResort(within)
	if _, inBlock := p.BlockAt(a); !ok || p.releasing || len(p.inFlight.blocks) > 0 && !inBlock {
		return block, netip.Addr{}, p.request
	}
	p.Lock(a)
	return block, a, nil
}

// spareBlock finds an empty block that overlaps an area and has no address that a container may want
// back by --ip. The caller holds mu.
func (p *allocator) spareBlock(within netip.Prefix) (netmap.Block, bool) {
	for _, s := range p.Blocks() {
		if s.Prefix.Overlaps(within) && s.Kept == 0 && p.Empty(s.Prefix) && time.Since(p.adopted[s.Prefix]) > freshFor && !p.releasing {
			return s.Block, true
		}
	}
	return netmap.Block{}, false
}

// askDonation asks the other hosts after the ledger had no block left. again reports whether to
// ask the ledger again; it is false if an address came.
func (p *allocator) askDonation(ctx context.Context, within netip.Prefix) (again bool, err error) {
	r, err := p.cfg.Decisions.AskOthers(ctx, BlockRequest{Subnet: p.prefix, Within: within})
	if err != nil || !r.Claim.Addr.IsValid() {
		return err == nil, err
	}
	return false, p.adoptDonation(r.Claim)
}

// adoptDonation makes a donated address this host's, for any container. It changes nothing if
// the host asks for that address itself at the moment, or has ceded it further.
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
	p.noteInFlight(c)
	defer p.endInFlight(c.Addr)
	got := pool.Claim{Claim: c, Donated: true}
	if err := p.cfg.Disk.Commit(map[string][]byte{key(kindClaim, c.Addr): encode(got)}, key(kindForeign, c.Addr)); err != nil {
		return fmt.Errorf("address %s was ceded to this host but cannot be written down: %w", c.Addr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.AddClaim(got)
	return nil
}
