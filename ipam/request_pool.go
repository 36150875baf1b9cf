package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// RequestPool returns the pool of a subnet, at once if this host uses it already. A request
// without a subnet gets a new one each time: dockerd repeats the request while it does not like
// the answer, and keeps what it got.
func (i *IPAM) RequestPool(ctx context.Context, req PoolRequest) (PoolResponse, error) {
	ask, err := parsePool(req)
	if err != nil {
		return PoolResponse{}, err
	}
	p, err := i.register(ctx, ask.SubnetRequest)
	if err != nil {
		return PoolResponse{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s := p.Subnet()
	p.requestedBits = ask.bits
	clear(p.asked)
	p.opened = time.Now()
	resp := PoolResponse{PoolID: PoolID{s.Prefix, ask.Range}.String(), Pool: s.Prefix.String()}
	if s.Gateway.IsValid() {
		// Docker need not ask for it. It is the same on every host.
		resp.Data = map[string]string{dataGateway: cidr(s.Gateway, s.Prefix)}
	}
	return resp, nil
}

func cidr(a netip.Addr, subnet netip.Prefix) string {
	return netip.PrefixFrom(a, subnet.Bits()).String()
}

// makePool asks the ledger for a subnet and writes it down.
func (i *IPAM) makePool(ctx context.Context, ask SubnetRequest) (*allocator, error) {
	leave, err := i.decide(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if p := i.lookup(ask.Want); p != nil {
		return p, nil // made meanwhile
	}
	routes := i.routes()
	for _, r := range routes {
		if ask.Want.IsValid() && r.Prefix.Overlaps(ask.Want) {
			return nil, netmap.Refuse(netmap.Overlaps, "ipam: subnet %s overlaps %s (%s) of this host; choose another --subnet", ask.Want, r.Prefix, r.Name)
		}
	}
	ask.Avoid = prefixes(routes)
	before := i.mustSendUsed.Swap(true) // until the subnet is on disk, whatever the ledger decides
	s, err := i.cfg.Decisions.EnsureSubnet(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("ipam: %w", err)
	}
	if !s.Prefix.IsValid() || ask.Want.IsValid() && s.Prefix != ask.Want {
		return nil, fmt.Errorf("ipam: the ledger answered subnet %s when asked for %s; run the same release of weft on all hosts", s.Prefix, ask.Want)
	}
	if !ask.Want.IsValid() && i.lookup(s.Prefix) != nil {
		return nil, fmt.Errorf("ipam: the ledger offered %s, which this host has already; give a --subnet", s.Prefix)
	}
	p, err := i.savePool(s)
	if err == nil {
		i.mustSendUsed.Store(before)
	}
	return p, err
}

// savePool writes down a subnet that the ledger has decided, and returns its allocator.
func (i *IPAM) savePool(s netmap.Subnet) (*allocator, error) {
	p := newAllocator(i.env, subnetRecord{Subnet: s})
	if err := i.saveSubnet(s, nil, false); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pools[s.Prefix] = p
	return p, nil
}

// routes returns the routes that a subnet can collide with. A default route overlaps everything
// and does not count.
func (i *IPAM) routes() []Route {
	if i.cfg.Routes == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(i.cfg.Routes()), func(r Route) bool { return r.Prefix.Bits() == 0 })
}

func prefixes(routes []Route) []netip.Prefix {
	out := make([]netip.Prefix, len(routes))
	for n, r := range routes {
		out[n] = r.Prefix
	}
	return out
}
