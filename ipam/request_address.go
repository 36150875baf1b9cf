package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/store/synced"
)

// RequestAddress hands out an address: the gateway, one that was asked for, or the
// next. It is on disk when this returns.
func (i *IPAM) RequestAddress(ctx context.Context, req AddressRequest) (AddressResponse, error) {
	id, err := ParsePoolID(req.PoolID)
	if err != nil {
		return AddressResponse{}, err
	}
	want, err := parseAddr(req.Address)
	if err != nil {
		return AddressResponse{}, err
	}
	p, err := i.pool(ctx, id.Subnet)
	if err != nil {
		return AddressResponse{}, err
	}
	peer, _ := rpc.PeerOf(ctx)
	use := Use{Name: req.Options[optEndpointName], Caller: peer.Instance, Asked: want.IsValid()}
	var held synced.Value[netip.Addr]
	switch {
	case req.Options[optAddressType] == dataGateway:
		gateway, err := i.gateway(ctx, p, want)
		return answer(gateway, id.Subnet, err)
	case want.IsValid():
		var reserved bool
		if held, reserved, err = i.static(ctx, p, want, use); reserved {
			return answer(want, id.Subnet, err)
		}
	default:
		if err := i.inNetwork(p); err != nil {
			return AddressResponse{}, err
		}
		if use.Name == "" {
			use.Name = i.returning(p, id.within())
		}
		held, err = i.dynamic(ctx, p, id.within(), use)
	}
	if err != nil {
		return AddressResponse{}, err
	}
	return answer(held.Get(), id.Subnet, nil)
}

// inNetwork refuses a container's address of a pool that became no network of Weft's:
// Docker lends a pool to a network of any driver, and no endpoint would tell that the
// address is in use.
func (i *IPAM) inNetwork(p *pool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(p.networks) > 0 {
		return nil
	}
	return netmap.Refuse(netmap.Unknown, "ipam: no network of Weft's on this host has subnet %s: a network needs both -d and --ipam-driver with Weft's name; if it had both, this host's state directory was lost: remove the network and create it again", p.prefix)
}

// answer is an address in Docker's words. One of a container is synced;
// a gateway and an --aux-address are nobody's.
func answer(a netip.Addr, subnet netip.Prefix, err error) (AddressResponse, error) {
	if err != nil {
		return AddressResponse{}, err
	}
	return AddressResponse{Address: cidr(a, subnet)}, nil
}

// parseAddr reads an address with or without a prefix length; empty is zero.
func parseAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	bare, _, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(bare)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, bad("%.100q is no address; want one such as 10.40.0.7", s)
	}
	return a.Unmap(), nil
}

// pool finds a pool, or takes the subnet into use again if this host's disk was
// lost meanwhile: the id that Docker stored says which it is.
func (i *IPAM) pool(ctx context.Context, subnet netip.Prefix) (*pool, error) {
	if p := i.lookup(subnet); p != nil {
		return p, i.Retake(ctx, subnet)
	}
	return i.makePool(ctx, poolAsk{want: subnet, v6: subnet.Addr().Is6()})
}

// gateway answers the subnet's gateway, deciding it if need be. It is never an
// address of a container and needs no record.
func (i *IPAM) gateway(ctx context.Context, p *pool, want netip.Addr) (netip.Addr, error) {
	i.mu.Lock()
	s := p.Subnet()
	i.mu.Unlock()
	if s.Gateway.IsValid() && (!want.IsValid() || want == s.Gateway) {
		return s.Gateway, nil
	}
	s, err := i.reserve(ctx, p, GatewayName, want)
	return s.Gateway, err
}

// reserve has the ledger keep an address from all hosts.
func (i *IPAM) reserve(ctx context.Context, p *pool, name string, a netip.Addr) (netmap.Subnet, error) {
	leave, err := i.decide(ctx)
	if err != nil {
		return netmap.Subnet{}, err
	}
	defer leave()
	s, err := i.cfg.Decisions.Reserve(ctx, p.prefix, name, a)
	if err != nil {
		return s, fmt.Errorf("ipam: %w", err)
	}
	if err := i.saveSubnet(s, i.networksOf(p), false); err != nil {
		return s, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.SetSubnet(s)
	return s, nil
}

// handOut writes down that a begun address is held, and asks once more whether it
// may be handed out: the machine may have slept since it was asked before.
func (i *IPAM) handOut(ctx context.Context, p *pool, a netip.Addr, use Use, c *netmap.Claim) (synced.Value[netip.Addr], error) {
	held, err := i.hold(p, a, use, c)
	if err != nil {
		return held, err
	}
	now, cancel := context.WithCancel(ctx)
	cancel() // who was to be waited for was waited for
	if err := i.mayHandOut(now, p, a); err != nil {
		return held, errors.Join(err, i.free(p, a))
	}
	return held, nil
}

// hold writes down that a begun address is held, with the claim that makes it ours
// if there is one. If that fails nothing is held.
func (i *IPAM) hold(p *pool, a netip.Addr, use Use, c *netmap.Claim) (synced.Value[netip.Addr], error) {
	use.Held = true
	i.mu.Lock()
	was, _ := p.Used(a)
	i.mu.Unlock()
	if was.Held { // a request that is repeated asks for the address, and does not say the name
		use.Name, use.Asked = cmp.Or(use.Name, was.Name), was.Asked
	}
	rec := map[string][]byte{key(kindAddr, a): encode(use)}
	var del []string
	if c != nil {
		rec[key(kindClaim, a)] = encode(Single{Claim: *c})
		del = append(del, key(kindForeign, a))
	}
	held, err := synced.Commit(i.cfg.Disk, a, rec, del...)
	i.mu.Lock()
	defer i.mu.Unlock()
	p.End(a)
	if err != nil {
		return held, fmt.Errorf("ipam: %s was not handed out: %w", a, err)
	}
	if c != nil {
		p.AddClaim(Single{Claim: *c})
	}
	p.Hold(a, use)
	p.since[a] = time.Now()
	return held, nil
}

func (i *IPAM) end(p *pool, a netip.Addr) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p.End(a)
}

// dynamic hands out the next address of an area, waiting for a block if need be.
func (i *IPAM) dynamic(ctx context.Context, p *pool, within netip.Prefix, use Use) (none synced.Value[netip.Addr], err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var why error // no block came, by the last that was heard
	for {
		last, err := i.allowed(ctx)
		if err != nil && !last {
			return none, err
		}
		if err != nil {
			if a, ok := i.pickLast(p, within, use.Name); ok {
				return i.handOut(ctx, p, a, use, nil)
			}
			return none, err
		}
		a, f, err := i.pick(p, within, use.Name)
		switch {
		case err != nil:
			return none, err
		case f == nil:
			return i.handOut(ctx, p, a, use, nil)
		}
		select {
		case <-f.done:
			if f.final(within) {
				if a, ok := i.lastResort(p, within); ok {
					return i.handOut(ctx, p, a, use, nil)
				}
				return none, fmt.Errorf("ipam: no address is free in %s: %w", within, f.err)
			}
			why = cmp.Or(f.err, why)
		case <-ctx.Done():
			return none, fmt.Errorf("ipam: no address is free in %s in this host's blocks, and no further block came within %v; weft status shows who holds the blocks and which keepers answer: %w", within, patience, cmp.Or(why, ctx.Err()))
		}
	}
}

// lastResort begins an address that Pool.LastResort finds.
func (i *IPAM) lastResort(p *pool, within netip.Prefix) (netip.Addr, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	a, ok := p.LastResort(within)
	if ok = ok && !p.gone; ok {
		p.Begin(a)
	}
	return a, ok
}

// pick begins the next address, or finds out what to wait for. Before the last
// quarter of a block is used up it asks for another one.
func (i *IPAM) pick(p *pool, within netip.Prefix, name string) (netip.Addr, *flight, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p.gone {
		return netip.Addr{}, nil, released(p.prefix)
	}
	a, ok := p.Pick(within, name)
	if !ok {
		return a, i.grow(p, within, true), nil
	}
	p.opened = time.Time{}
	p.Begin(a)
	i.prefetch(p, within)
	return a, nil, nil
}

// ReleaseAddress takes an address back. Releasing what is not held succeeds.
func (i *IPAM) ReleaseAddress(ctx context.Context, req AddressRelease) (rpc.Empty, error) {
	id, err := ParsePoolID(req.PoolID)
	if err != nil {
		return rpc.Empty{}, err
	}
	a, err := parseAddr(req.Address)
	switch {
	case err != nil:
		return rpc.Empty{}, err
	case !a.IsValid():
		return rpc.Empty{}, bad("Address is missing")
	}
	p := i.lookup(id.Subnet)
	if p == nil {
		return rpc.Empty{}, nil
	}
	if err := i.settle(ctx, p, a); err != nil {
		return rpc.Empty{}, err
	}
	if i.cfg.Released != nil {
		i.problem(i.cfg.Released(ctx, a)) // the endpoint that stays keeps the address
	}
	return rpc.Empty{}, i.free(p, a)
}

// free releases a held address. As long as an endpoint has it, it is only noted
// that Docker has released it: Docker does so for the IPv6 address of a container
// without IPv6, and when a second container was refused the address.
func (i *IPAM) free(p *pool, a netip.Addr) error {
	return i.freeIf(p, a, func(Use) bool { return true })
}

// freeIf frees a held address if that is still right at the moment it begins; it asks
// with mu held.
func (i *IPAM) freeIf(p *pool, a netip.Addr, right func(Use) bool) error {
	i.mu.Lock()
	use, _ := p.Used(a)
	leaving := i.holder(a) != ""
	switch {
	case !use.Held || p.gone || leaving && use.Leaving && !use.Lost || !right(use):
		i.mu.Unlock()
		return nil
	case p.Busy(a):
		i.mu.Unlock()
		return busy(a)
	}
	p.Begin(a)
	if use.Lost || !leaving && !p.Mine(a) {
		i.mu.Unlock()
		return i.forgetLost(p, a)
	}
	use.Held, use.Leaving = leaving, leaving
	if !leaving {
		use.Seq, use.At, use.Caller = p.NextSeq(), time.Now().Unix(), ""
	}
	i.mu.Unlock()

	err := i.cfg.Disk.Commit(map[string][]byte{key(kindAddr, a): encode(use)})
	i.mu.Lock()
	defer i.mu.Unlock()
	p.End(a)
	if err != nil { // Docker does not repeat this, the sweep does
		use.Held, use.Leaving = true, true
		p.put(a, use)
		return fmt.Errorf("ipam: %s is still held: %w", a, err)
	}
	p.put(a, use)
	if !leaving {
		delete(p.since, a)
	}
	return nil
}
