package ipam

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// NetworkCreated says that Docker's network of this id uses these subnets; the
// driver calls it before it answers CreateNetwork. From then on an explicit address
// is a container's --ip, no longer an --aux-address, and the pools stay until
// NetworkDeleted. bits are those of -o weft.block: a subnet that exists with others
// and cannot change any more is refused. Repeating it changes nothing.
func (i *IPAM) NetworkCreated(ctx context.Context, id string, subnets []netip.Prefix, bits BlockBits) error {
	if err := bits.meant(subnets); err != nil {
		return err
	}
	for _, subnet := range subnets {
		if err := i.Retake(ctx, subnet); err != nil {
			return err
		}
	}
	leave, err := i.decide(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, subnet := range subnets {
		if err := i.useSubnet(ctx, id, subnet, bits.of(subnet.Addr().Is6())); err != nil {
			return err
		}
	}
	return nil
}

func (i *IPAM) useSubnet(ctx context.Context, id string, subnet netip.Prefix, bits int) error {
	p := i.lookup(subnet)
	if p == nil {
		return netmap.Refuse(netmap.Unknown, "ipam: subnet %s was not requested from Weft's IPAM on this host; create the network with --ipam-driver and Weft's name", subnet)
	}
	s := p.Subnet()
	if bits != 0 && bits != s.BlockBits {
		// Docker tells -o only now; a subnet that nobody uses yet may still change.
		changed, err := i.cfg.Decisions.EnsureSubnet(ctx, SubnetRequest{Want: subnet, BlockBits: bits})
		if err != nil {
			return fmt.Errorf("ipam: %w", err)
		}
		s = changed
	}
	networks := i.networksOf(p)
	networks[id] = struct{}{}
	if err := i.saveSubnet(s, networks, false); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.networks = networks
	p.SetSubnet(s)
	p.opened = time.Time{}
	return nil
}

// networksOf is a copy of a pool's networks. Only a caller that is deciding may
// change them, so they stay as they are while it does.
func (i *IPAM) networksOf(p *pool) map[string]struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(p.networks)
}

// saveSubnet writes a pool's record. The caller is deciding and does not hold mu.
func (i *IPAM) saveSubnet(s netmap.Subnet, networks map[string]struct{}, stray bool) error {
	rec := subnetRecord{Subnet: s, Networks: slices.Sorted(maps.Keys(networks)), Stray: stray}
	if err := i.cfg.Disk.Commit(map[string][]byte{key(kindSubnet, s.Prefix): encode(rec)}); err != nil {
		return fmt.Errorf("ipam: change of %s was not written down: %w", s.Prefix, err)
	}
	return nil
}

// NetworkDeleted says that Docker's network of this id is gone. Subnets that no
// other network of this Docker uses are given up.
func (i *IPAM) NetworkDeleted(ctx context.Context, id string) error {
	unused, err := i.forgetNetwork(ctx, id)
	for _, subnet := range unused {
		if err == nil {
			err = i.release(ctx, subnet)
		}
	}
	return err
}

func (i *IPAM) forgetNetwork(ctx context.Context, id string) (unused []netip.Prefix, err error) {
	leave, err := i.decide(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for _, p := range i.poolsOf(id) {
		networks := i.networksOf(p)
		delete(networks, id)
		i.mu.Lock()
		s := p.Subnet()
		i.mu.Unlock()
		if err := i.saveSubnet(s, networks, i.isStray(p)); err != nil {
			return unused, err
		}
		i.mu.Lock()
		p.networks = networks
		i.mu.Unlock()
		if len(networks) == 0 {
			unused = append(unused, p.prefix)
		}
	}
	return unused, nil
}

// poolsOf are the pools that a network uses, sorted.
func (i *IPAM) poolsOf(id string) (out []*pool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, subnet := range slices.SortedFunc(maps.Keys(i.pools), netip.Prefix.Compare) {
		if p := i.pools[subnet]; contains(p.networks, id) {
			out = append(out, p)
		}
	}
	return out
}

func contains(set map[string]struct{}, id string) bool {
	_, ok := set[id]
	return ok
}

// EndpointGone says that no endpoint has these addresses any more. Those that
// Docker released before are free now.
func (i *IPAM) EndpointGone(addrs ...netip.Addr) error {
	for _, a := range addrs {
		if p := i.poolAt(a); p != nil && i.leaving(p, a) {
			if err := i.free(p, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *IPAM) poolAt(a netip.Addr) *pool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for subnet, p := range i.pools {
		if subnet.Contains(a) {
			return p
		}
	}
	return nil
}

func (i *IPAM) leaving(p *pool, a netip.Addr) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	u, _ := p.Used(a)
	return u.Held && u.Leaving
}

// Cede gives up an address of this host's blocks or claims if it is free, on disk
// before it returns nil; then the ledger may give it to another host. Repeating it
// succeeds. Else it is a *netmap.Refusal that names who holds the address.
func (i *IPAM) Cede(subnet netip.Prefix, a netip.Addr, to netmap.HostID) error {
	p := i.lookup(subnet)
	if p == nil {
		return netmap.Refuse(netmap.Unknown, "ipam: this host does not use %s, so it has no address of it to cede", subnet)
	}
	inBlock, err := i.cedable(p, a)
	if err != nil {
		return err
	}
	set := map[string][]byte{}
	if inBlock {
		set[key(kindForeign, a)] = encode(to)
	}
	err = i.cfg.Disk.Commit(set, key(kindClaim, a))
	i.mu.Lock()
	defer i.mu.Unlock()
	p.End(a)
	if err != nil {
		return fmt.Errorf("ipam: %s was not ceded: %w", a, err)
	}
	p.Forsake(a, to)
	return nil
}

// cedable begins an address that may be ceded and says whether it lies in an own
// block.
func (i *IPAM) cedable(p *pool, a netip.Addr) (inBlock bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	used, _ := p.Used(a)
	switch {
	case p.gone:
		return false, released(p.prefix)
	case p.Busy(a):
		return false, netmap.Refuse(netmap.Busy, "%s is being handed out or taken back at this moment; try again", a)
	case used.Held:
		return false, netmap.Refuse(netmap.Held, "%s is held by %s", a, i.describe(a))
	case p.Never(a):
		return false, netmap.Refuse(netmap.Held, "%s is reserved in subnet %s", a, p.subnet.Prefix)
	case p.block(a) == nil && !p.Mine(a):
		return false, netmap.Refuse(netmap.Unknown, "%s is not this host's to cede", a)
	}
	p.Begin(a)
	return p.block(a) != nil, nil
}
