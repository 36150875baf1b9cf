package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// Caller is on whose behalf an address is asked for.
type Caller = pool.Caller

// Ask is a request for an address.
type Ask struct {
	Subnet netip.Prefix
	Within netip.Prefix // the area of an address that is not named; zero: the subnet
	Want   netip.Addr   // zero: any
	Name   string       // of the container, empty if it is not known
	Host   bool         // for the host itself: a single address from the top of the subnet, never of a block
	Caller Caller
}

// Register makes a subnet one that a network of this host uses; network is the id that its
// owner gave it. The subnet stays until NetworkDeleted. Repeating it changes nothing.
func (i *IPAM) Register(ctx context.Context, r SubnetRequest, network string) (netmap.Subnet, error) {
	p, err := i.register(ctx, r)
	if err != nil {
		return netmap.Subnet{}, err
	}
	if err := i.NetworkCreated(ctx, network, []netip.Prefix{p.prefix}, BlockBits{}); err != nil {
		return netmap.Subnet{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return p.Subnet(), nil
}

// register returns the allocator of a subnet. If this host does not use the subnet yet, the
// ledger decides it. A request without a subnet makes a new one each time.
func (i *IPAM) register(ctx context.Context, r SubnetRequest) (*allocator, error) {
	p := i.lookup(r.Want)
	if p == nil {
		var err error
		if p, err = i.makePool(ctx, r); err != nil {
			return nil, err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s := p.Subnet()
	if r.BlockBits != 0 && r.BlockBits != s.BlockBits {
		return nil, netmap.Refuse(netmap.Conflict, "ipam: %s has blocks of /%d, not of /%d; leave weft.block out or give the same", s.Prefix, s.BlockBits, r.BlockBits)
	}
	if p.releasing {
		return nil, released(s.Prefix)
	}
	return p, nil
}

// Allocate hands out an address of a subnet: the wanted one, or the next. It is on disk when
// Allocate returns. A caller that repeats its request after the first one has returned gets the
// same address. An address for which no endpoint comes (Attach) is freed after abandonedAfter.
func (i *IPAM) Allocate(ctx context.Context, ask Ask) (netip.Addr, error) {
	p, err := i.poolFor(ctx, ask)
	if err != nil {
		return netip.Addr{}, err
	}
	within := ask.Within
	if !within.IsValid() {
		within = ask.Subnet
	}
	use := pool.Use{Name: ask.Name, Caller: ask.Caller, Asked: ask.Want.IsValid()}
	want := ask.Want
	if a, ok := p.before(within, ask.Caller); ok && !want.IsValid() {
		want, use.Asked = a, false
	}
	var held synced.Value[netip.Addr]
	switch {
	case want.IsValid():
		var reserved bool
		if held, reserved, err = i.static(ctx, p, want, use); reserved {
			return want, err
		}
	case ask.Host:
		held, err = p.forHost(ctx, use)
	default:
		if err := p.inNetwork(ask.Caller.Owner); err != nil {
			return netip.Addr{}, err
		}
		if use.Name == "" && ask.Caller.Owner == netmap.OwnerDocker {
			use.Name = p.returning(within)
		}
		held, err = p.dynamic(ctx, within, use)
	}
	if err != nil {
		return netip.Addr{}, err
	}
	return held.Get(), nil
}

// poolFor returns the allocator for a request. Docker asks for the gateway and for
// --aux-addresses before the network exists, and of subnets that this host's disk may have
// lost. Other owners register their subnets first.
func (i *IPAM) poolFor(ctx context.Context, ask Ask) (*allocator, error) {
	if ask.Caller.Owner == netmap.OwnerDocker {
		return i.pool(ctx, ask.Subnet)
	}
	p := i.lookup(ask.Subnet)
	if p == nil {
		return nil, netmap.Refuse(netmap.Unknown, "ipam: this host is on no network with subnet %s; join the network first", ask.Subnet)
	}
	if err := p.inNetwork(ask.Caller.Owner); err != nil {
		return nil, err
	}
	return p, i.Reregister(ctx, ask.Subnet)
}

// before returns the address of an area that a caller was given before.
func (p *allocator) before(within netip.Prefix, c Caller) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.HeldBy(c, within)
}

// Release takes an address back. It changes nothing if the address is not held, or was handed
// out to another caller.
func (i *IPAM) Release(ctx context.Context, subnet netip.Prefix, a netip.Addr, c Caller) error {
	p := i.lookup(subnet)
	if p == nil {
		return nil
	}
	if err := p.waitUnlocked(ctx, a); err != nil {
		return err
	}
	if i.cfg.Released != nil && c.Owner == netmap.OwnerDocker {
		i.problem(i.cfg.Released(ctx, a)) // the endpoint that stays keeps the address
	}
	return p.freeIf(a, func(u pool.Use) bool { return c.MayRelease(u.Caller) })
}

// forHost hands out an address that the ledger gives to this host itself.
func (p *allocator) forHost(ctx context.Context, use pool.Use) (none synced.Value[netip.Addr], err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := p.allowed(ctx); err != nil {
		return none, err
	}
	c, err := p.cfg.Decisions.ClaimForHost(ctx, p.prefix)
	p.noteUnregistered(err)
	if err != nil {
		return none, fmt.Errorf("ipam: %w", err)
	}
	p.mu.Lock()
	elsewhere := p.Locked(c.Addr) || p.releasing || p.stale(netmap.Single(c.Addr), c.Epoch)
	if !elsewhere {
		p.Lock(c.Addr)
	}
	p.mu.Unlock()
	if elsewhere {
		return none, busy(c.Addr)
	}
	p.noteInFlight(c)
	defer p.endInFlight(c.Addr)
	return p.handOut(ctx, c.Addr, use, &c)
}

// pool returns the allocator of a subnet. If this host's disk was lost since Docker stored the
// id of the pool, the subnet is taken into use again.
func (i *IPAM) pool(ctx context.Context, subnet netip.Prefix) (*allocator, error) {
	if p := i.lookup(subnet); p != nil {
		return p, i.Reregister(ctx, subnet)
	}
	return i.makePool(ctx, SubnetRequest{Want: subnet, V6: subnet.Addr().Is6()})
}

// inNetwork refuses an address for a container if no network of the same owner uses the pool.
// Docker lends a pool to a network of any driver, and no endpoint of such a network would tell
// that the address is in use.
func (p *allocator) inNetwork(owner netmap.Owner) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.serves(owner) {
		return nil
	}
	if owner != netmap.OwnerDocker {
		return netmap.Refuse(netmap.Unknown, "ipam: no network of %s on this host has subnet %s; join the network first", owner, p.prefix)
	}
	return netmap.Refuse(netmap.Unknown, "ipam: no network of Weft's on this host has subnet %s: a network needs both -d and --ipam-driver with Weft's name; if it had both, this host's state directory was lost: remove the network and create it again", p.prefix)
}

// handOut writes down that a locked address is held, and then checks once more whether it may
// be handed out: the machine may have been suspended since the first check.
func (p *allocator) handOut(ctx context.Context, a netip.Addr, use pool.Use, c *netmap.Claim) (synced.Value[netip.Addr], error) {
	held, err := p.hold(a, use, c)
	if err != nil {
		return held, err
	}
	now, cancel := context.WithCancel(ctx)
	cancel() // the first check has waited already
	if err := p.mayHandOut(now, a); err != nil {
		return held, errors.Join(err, p.free(a))
	}
	return held, nil
}

// hold writes down that a locked address is held, together with the claim that gave it to this
// host, if any. If the write fails, the address is not held.
func (p *allocator) hold(a netip.Addr, use pool.Use, c *netmap.Claim) (synced.Value[netip.Addr], error) {
	use.Held = true
	p.mu.Lock()
	was, _ := p.Used(a)
	p.mu.Unlock()
	if was.Held { // a repeated request names the address and not the container
		use.Name, use.Asked = cmp.Or(use.Name, was.Name), was.Asked
	}
	rec := map[string][]byte{key(kindAddr, a): encode(use)}
	var del []string
	if c != nil {
		rec[key(kindClaim, a)] = encode(pool.Claim{Claim: *c})
		del = append(del, key(kindForeign, a))
	}
	held, err := synced.Commit(p.cfg.Disk, a, rec, del...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Unlock(a)
	if err != nil {
		return held, fmt.Errorf("ipam: %s was not handed out: %w", a, err)
	}
	if c != nil {
		p.AddClaim(pool.Claim{Claim: *c})
	}
	p.Hold(a, use)
	p.since[a] = time.Now()
	return held, nil
}

// endChange unlocks an address. The caller does not hold mu.
func (p *allocator) endChange(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Unlock(a)
}

// dynamic hands out the next address of an area. It waits for a further block if none is free.
func (p *allocator) dynamic(ctx context.Context, within netip.Prefix, use pool.Use) (none synced.Value[netip.Addr], err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	used := &passed{allocator: p}
	defer used.end()
	var why error // the last reason that no block came
	for {
		last, err := p.allowed(ctx)
		if err != nil && !last {
			return none, err
		}
		if err != nil {
			if a, ok := p.pickLast(within, use.Name); ok {
				return p.handOut(ctx, a, use, nil)
			}
			return none, err
		}
		a, f, err := p.pick(within, use.Name)
		switch {
		case err != nil:
			return none, err
		case f == nil && used.over(ctx, a):
			continue
		case f == nil:
			return p.handOut(ctx, a, use, nil)
		}
		select {
		case <-f.done:
			if f.final(within) {
				if a, ok := p.scrape(ctx, within, used); ok {
					return p.handOut(ctx, a, use, nil)
				}
				return none, used.explain(fmt.Errorf("ipam: no address is free in %s: %w", within, f.err))
			}
			why = cmp.Or(f.err, why)
		case <-ctx.Done():
			return none, fmt.Errorf("ipam: no address is free in %s in this host's blocks, and no further block came within %v; weft status shows who holds the blocks and which keepers answer: %w", within, patience, cmp.Or(why, ctx.Err()))
		}
	}
}

// scrape locks an address of an area where none is free for any container: the host's own, or the last resort.
func (p *allocator) scrape(ctx context.Context, within netip.Prefix, used *passed) (netip.Addr, bool) {
	a, ok := p.yield(ctx, within)
	if !ok {
		a, ok = p.lastResort(within)
	}
	for ok && used.over(ctx, a) {
		a, ok = p.lastResort(within)
	}
	return a, ok
}

// lastResort locks the address that Pool.LastResort finds.
func (p *allocator) lastResort(within netip.Prefix) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.LastResort(within)
	if ok = ok && !p.releasing; ok {
		p.Lock(a)
	}
	return a, ok
}

// pick locks the next address, or returns the request to wait for. It asks for another block
// before the last quarter of one is used up.
func (p *allocator) pick(within netip.Prefix, name string) (netip.Addr, *grantRequest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.releasing {
		return netip.Addr{}, nil, released(p.prefix)
	}
	a, ok := p.Pick(within, name)
	if !ok {
		return a, p.requestBlock(within, true), nil
	}
	p.opened = time.Time{}
	p.Lock(a)
	p.prefetch(within)
	return a, nil, nil
}
