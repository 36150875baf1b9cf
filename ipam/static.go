package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// static hands out the address that was asked for. reserved reports that it is reserved, so
// that no container gets it.
func (i *IPAM) static(ctx context.Context, p *allocator, a netip.Addr, use pool.Use) (held synced.Value[netip.Addr], reserved bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.waitUnlocked(ctx, a); err != nil {
		return held, false, err
	}
	if use.Caller.Owner != netmap.OwnerHost {
		p.giveWay(ctx, a)
	}
	step, err := p.nextStep(a, use)
	if err != nil {
		return held, false, err
	}
	switch step {
	case done:
		return held, true, nil
	case reserve:
		return held, true, i.reserveAux(ctx, p, a)
	}
	if err := p.refuseInUse(ctx, a); err != nil {
		p.endChange(a)
		return held, false, err
	}
	held, err = p.handOutLocked(ctx, a, use, step)
	return held, false, err
}

// handOutLocked hands a locked address out, after the ledger has decided if that is needed.
func (p *allocator) handOutLocked(ctx context.Context, a netip.Addr, use pool.Use, step next) (none synced.Value[netip.Addr], err error) {
	if err := p.mayHandOut(ctx, a); err != nil {
		p.endChange(a)
		return none, err
	}
	if step == hold {
		return p.handOut(ctx, a, use, nil)
	}
	defer p.endInFlight(a)
	c, err := p.claim(ctx, a)
	if err != nil {
		p.endChange(a)
		return none, err
	}
	return p.handOut(ctx, a, use, &c)
}

// claim requests a locked address from the ledger.
func (p *allocator) claim(ctx context.Context, a netip.Addr) (netmap.Claim, error) {
	if err := p.beforeClaim(ctx, a); err != nil {
		return netmap.Claim{}, err
	}
	c, err := p.askClaim(ctx, a)
	if err != nil {
		return c, fmt.Errorf("ipam: %w", err)
	}
	p.noteInFlight(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stale(netmap.Single(a), c.Epoch) {
		return c, busy(a)
	}
	return c, nil
}

// noteInFlight notes a claim that was granted and is not on disk yet; arrived ends that.
func (p *allocator) noteInFlight(c netmap.Claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight.claims[c.Addr] = c
}

func (p *allocator) endInFlight(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inFlight.claims, a)
}

// mayHandOut returns why an address may not be handed out now, or nil. A container that has it
// keeps it: dockerd repeats its request after a restart that the container survived, and that
// gives nobody a new right.
func (p *allocator) mayHandOut(ctx context.Context, a netip.Addr) error {
	p.mu.Lock()
	used, _ := p.Used(a)
	p.mu.Unlock()
	if used.Held && p.holder(a) != "" {
		return nil
	}
	last, err := p.allowed(ctx)
	if err == nil || !last {
		return err
	}
	wasHere := p.wasHere()
	p.mu.Lock()
	defer p.mu.Unlock()
	if wasHere(a) {
		return nil
	}
	return err
}

// next is what to do about an address that was asked for.
type next int

const (
	done    next = iota // answer it without a change
	reserve             // reserve it: it is an --aux-address of a network that is being created
	hold                // it belongs to this host: write it down; locked
	claim               // ask the ledger for it; locked
)

// nextStep decides what to do about an address that was asked for, and locks it if it is to
// change.
func (p *allocator) nextStep(a netip.Addr, use pool.Use) (next, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used, _ := p.Used(a)
	if err := p.refusal(a, used, use); err != nil {
		return 0, err
	}
	if p.Reserved(a) {
		p.asked[a] = true
		return done, nil
	}
	if used.Held { // each dockerd repeats its request only once, whatever the answer is
		used.Caller = use.Caller
		p.Put(a, used)
	}
	switch {
	case p.Unconfirmed(a):
		p.Lock(a)
		return claim, nil
	case used.Held:
		// The address is handed out already. Only the caller is new.
	case !p.serves(use.Caller.Owner):
		return reserve, nil
	case !p.Owns(a):
		p.opened = time.Time{}
		p.Lock(a)
		return claim, nil
	}
	p.opened = time.Time{}
	p.Lock(a)
	return hold, nil
}

// refusal returns why an address cannot be handed out to the caller, whatever the ledger would
// say, or nil. The caller holds mu.
func (p *allocator) refusal(a netip.Addr, used, use pool.Use) error {
	s := p.Subnet()
	switch err := impossible(a, s); {
	case err != nil:
		return err
	case p.releasing:
		return released(s.Prefix)
	case p.Reserved(a) && !(use.Caller.Owner == netmap.OwnerDocker && p.replaysAux(a)):
		return netmap.Refuse(netmap.Held, "ipam: %s is reserved in subnet %s (--aux-address); choose another address", a, s.Prefix)
	case p.Reserved(a):
		return nil
	case p.changing(a) != nil:
		return busy(a)
	case used.Evicted:
		return given(a, p.describe(a))
	case used.Held && !p.again(a, used, use):
		return p.held(a, used)
	}
	return nil
}

// replaysAux reports whether a request for a reserved address is Docker's for an --aux-address.
// Docker sends that once, right after RequestPool and before any container's. Other requests
// for the address are for a container.
func (p *allocator) replaysAux(a netip.Addr) bool {
	expected := !p.serves(netmap.OwnerDocker) || time.Since(p.opened) < auxWithin
	return expected && !p.asked[a]
}

// impossible returns why no container can ever have an address, or nil.
func impossible(a netip.Addr, s netmap.Subnet) error {
	switch {
	case !s.Prefix.Contains(a):
		return netmap.Refuse(netmap.Outside, "ipam: %s is not inside subnet %s; choose an --ip inside it", a, s.Prefix)
	case netmap.IsEdge(a, s.Prefix):
		return netmap.Refuse(netmap.BadInput, "ipam: %s is the network or broadcast address of subnet %s, which no container can have; choose another --ip", a, s.Prefix)
	case a == s.Gateway:
		return netmap.Refuse(netmap.Held, "ipam: %s is the gateway of subnet %s; choose another address", a, s.Prefix)
	}
	return nil
}

func busy(a netip.Addr) error {
	return netmap.Refuse(netmap.Busy, "ipam: %s is being handed out or taken back at this moment; try again", a)
}

// again reports whether a request for a held address repeats an earlier one. Another dockerd
// does so: after a start, it asks once more for the addresses of its containers. The same
// dockerd never asks twice for an address in use, except if the answer was lost.
func (p *allocator) again(a netip.Addr, used, use pool.Use) bool {
	if use.Caller.Repeats(used.Caller) {
		return true
	}
	orphan := used.Caller == use.Caller && p.cfg.Holder != nil && p.holder(a) == ""
	since, ok := p.since[a]
	if !ok {
		since = p.made // held before this start of the agent
	}
	return orphan && time.Since(since) > orphanAfter
}

// held refuses an address that an endpoint of this host has. One that Docker released stays
// with its endpoint until Docker does not list that any more.
func (e *env) held(a netip.Addr, used pool.Use) error {
	if used.Leaving {
		return netmap.Refuse(netmap.Held, "ipam: %s is held by %s on this host, though Docker released it; if no container has that any more, the address is free within three minutes: try again then or choose another address", a, e.describe(a))
	}
	return netmap.Refuse(netmap.Held, "ipam: %s is held by %s on this host; stop that container or choose another address", a, e.describe(a))
}

func (e *env) describe(a netip.Addr) string {
	if who := e.holder(a); who != "" {
		return who
	}
	return "a container that is being started"
}

// reserveAux reserves an --aux-address on all hosts. Docker asks for it between RequestPool and
// CreateNetwork, without its name.
func (i *IPAM) reserveAux(ctx context.Context, p *allocator, a netip.Addr) error {
	if _, err := i.reserve(ctx, p, a.String(), a); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.asked[a] = true
	return nil
}
