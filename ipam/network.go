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

// NetworkCreated notes that the network with this id, its owner's, uses these subnets. Package
// attach has it called before Docker is answered. From then on an explicit address is a
// container's --ip and no longer an --aux-address, and the pools stay until NetworkDeleted.
// bits are the sizes of -o weft.block; another size is refused for a subnet that cannot change
// any more. Repeating it changes nothing.
func (i *IPAM) NetworkCreated(ctx context.Context, id string, subnets []netip.Prefix, bits BlockBits) error {
	if err := bits.checkFamilies(subnets); err != nil {
		return err
	}
	for _, subnet := range subnets {
		if err := i.Reregister(ctx, subnet); err != nil {
			return err
		}
	}
	leave, err := i.decide(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, subnet := range subnets {
		if err := i.requestedBits(subnet).checkFamilies(subnets); err != nil {
			return err
		}
	}
	for _, subnet := range subnets {
		if err := i.useSubnet(ctx, id, subnet, bits.of(subnet.Addr().Is6())); err != nil {
			return err
		}
	}
	return nil
}

// requestedBits returns the sizes that --ipam-opt named when Docker requested the pool. Only now are the
// families of the network known.
func (i *IPAM) requestedBits(subnet netip.Prefix) BlockBits {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p := i.pools[subnet]; p != nil {
		return p.requestedBits
	}
	return BlockBits{}
}

func (i *IPAM) useSubnet(ctx context.Context, id string, subnet netip.Prefix, bits int) error {
	p := i.lookup(subnet)
	if p == nil {
		return netmap.Refuse(netmap.Unknown, "ipam: subnet %s was not requested from Weft's IPAM on this host; create the network with --ipam-driver and Weft's name", subnet)
	}
	s := p.Subnet()
	if bits != 0 && bits != s.BlockBits {
		// Docker passes -o only now. A subnet that nobody uses yet may still change.
		changed, err := i.cfg.Decisions.EnsureSubnet(ctx, SubnetRequest{Want: subnet, BlockBits: bits})
		if err != nil {
			return fmt.Errorf("ipam: %w", err)
		}
		s = changed
	}
	networks := p.networksOf()
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

// networksOf returns a copy of the networks that use the pool. Only the holder of IPAM.deciding
// changes them.
func (p *allocator) networksOf() map[string]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.networks)
}

// saveSubnet writes a pool's record. The caller holds IPAM.deciding and not mu.
func (e *env) saveSubnet(s netmap.Subnet, networks map[string]struct{}, unregistered bool) error {
	rec := subnetRecord{Subnet: s, Networks: slices.Sorted(maps.Keys(networks)), Unregistered: unregistered}
	if err := e.cfg.Disk.Commit(map[string][]byte{key(kindSubnet, s.Prefix): encode(rec)}); err != nil {
		return fmt.Errorf("ipam: change of %s was not written down: %w", s.Prefix, err)
	}
	return nil
}

// NetworkDeleted notes that the network with this id is gone. Subnets that no other network of
// this host uses are given up.
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
		networks := p.networksOf()
		delete(networks, id)
		i.mu.Lock()
		s := p.Subnet()
		i.mu.Unlock()
		if err := i.saveSubnet(s, networks, p.isUnregistered()); err != nil {
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

// poolsOf returns the allocators of the subnets that a network uses, sorted.
func (i *IPAM) poolsOf(id string) (out []*allocator) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, subnet := range slices.SortedFunc(maps.Keys(i.pools), netip.Prefix.Compare) {
		if p := i.pools[subnet]; contains(p.networks, id) {
			out = append(out, p)
		}
	}
	return out
}

// serves reports whether a network of an owner uses the pool. The caller holds mu.
func (p *allocator) serves(owner netmap.Owner) bool {
	for id := range p.networks {
		if netmap.OwnerOf(id) == owner {
			return true
		}
	}
	return false
}

func contains(set map[string]struct{}, id string) bool {
	_, ok := set[id]
	return ok
}

// EndpointGone notes that no endpoint has these addresses any more. Those that Docker released
// before are freed.
func (i *IPAM) EndpointGone(addrs ...netip.Addr) error {
	for _, a := range addrs {
		p := i.poolAt(a)
		if p == nil {
			continue
		}
		if !p.isLeaving(a) {
			p.orphaned(a)
			continue
		}
		if err := p.free(a); err != nil {
			return err
		}
	}
	return nil
}

func (i *IPAM) poolAt(a netip.Addr) *allocator {
	i.mu.Lock()
	defer i.mu.Unlock()
	for subnet, p := range i.pools {
		if subnet.Contains(a) {
			return p
		}
	}
	return nil
}

// orphaned notes that an address has no endpoint from now on. Docker releases it next, unless
// dockerd ends before that.
func (p *allocator) orphaned(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.IsHeld(a) {
		p.since[a] = time.Now()
	}
}

func (p *allocator) isLeaving(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, _ := p.Used(a)
	return u.Held && u.Leaving
}
