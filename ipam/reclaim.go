package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
)

// ResetIdentity returns the changes to this package's records when the host takes another
// identity. Blocks, claims and released addresses belonged to the former one and are deleted.
// Held addresses stay, since their containers run on; each has to be reclaimed (Reclaim).
// Subnets stay unregistered. It is pure, and applying it twice changes nothing more.
func ResetIdentity(records map[string][]byte) (set map[string][]byte, del []string, err error) {
	set = map[string][]byte{}
	for k, raw := range records {
		kind, _, _ := strings.Cut(k, "/")
		switch kind {
		case kindSubnet:
			var r subnetRecord
			err = json.Unmarshal(raw, &r)
			r.Unregistered = true
			set[k] = encode(r)
		case kindAddr:
			var u pool.Use
			if err = json.Unmarshal(raw, &u); !u.Held {
				del = append(del, k)
			}
		default:
			del = append(del, k)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("ipam: record %q on disk cannot be read: %w", k, err)
		}
	}
	slices.Sort(del)
	return set, del, nil
}

// Unregistered returns the subnets of which this host, under its present identity, is no user
// yet by the ledger, sorted.
func (i *IPAM) Unregistered() []netip.Prefix {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []netip.Prefix
	for subnet, p := range i.pools {
		if p.unregistered && !p.releasing {
			out = append(out, subnet)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// Reregister makes this host a user of an unregistered subnet again. If the subnet has gone
// meanwhile, it is made as it was. Of another subnet it changes nothing.
func (i *IPAM) Reregister(ctx context.Context, subnet netip.Prefix) error {
	p := i.lookup(subnet)
	if p == nil || !p.isUnregistered() {
		return nil
	}
	leave, err := i.decide(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if i.lookup(subnet) != p || !p.isUnregistered() {
		return nil // registered or given up meanwhile
	}
	s, err := i.registerAgain(ctx, p.Subnet())
	if err != nil {
		return fmt.Errorf("ipam: %w", err)
	}
	if err := i.saveSubnet(s, p.networksOf(), false); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.unregistered = false
	p.SetSubnet(s)
	return nil
}

func (p *allocator) isUnregistered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unregistered
}

// registerAgain makes this host a user of a subnet in the ledger, and repeats its reservations.
// If other hosts have made the subnet anew meanwhile, it stays as they made it.
func (i *IPAM) registerAgain(ctx context.Context, was netmap.Subnet) (netmap.Subnet, error) {
	ask := SubnetRequest{Want: was.Prefix, V6: was.Prefix.Addr().Is6(), BlockBits: was.BlockBits, Range: was.Range}
	s, err := i.cfg.Decisions.EnsureSubnet(ctx, ask)
	if errors.Is(err, &netmap.Refusal{Kind: netmap.Conflict}) {
		ask.BlockBits = 0
		s, err = i.cfg.Decisions.EnsureSubnet(ctx, ask)
	}
	if err != nil || s.Gateway.IsValid() || !was.Gateway.IsValid() {
		return s, err
	}
	s, err = i.cfg.Decisions.Reserve(ctx, was.Prefix, GatewayName, was.Gateway)
	for name, a := range was.Reserved {
		if err == nil {
			s, err = i.cfg.Decisions.Reserve(ctx, was.Prefix, name, a)
		}
	}
	return s, err
}

// Unconfirmed returns the addresses that containers of this host have held since before it took
// its present identity and that the ledger has not confirmed yet, sorted.
func (i *IPAM) Unconfirmed() []netip.Addr {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []netip.Addr
	for _, p := range i.pools {
		for a := range p.Uses() {
			if p.Unconfirmed(a) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// Confirmed reports whether the ledger has confirmed an address for this host. It is true of an
// address that this host does not hold.
func (i *IPAM) Confirmed(a netip.Addr) bool {
	p := i.poolAt(a)
	if p == nil {
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	used, _ := p.Used(a)
	return !used.Evicted && !p.Unconfirmed(a)
}

// Reclaim requests an unconfirmed address from the ledger, or from the host that owns it now.
// Of another address it changes nothing. The error is that of Decisions.Claim.
func (i *IPAM) Reclaim(ctx context.Context, a netip.Addr) error {
	p := i.poolAt(a)
	if p == nil {
		return nil
	}
	if err := i.Reregister(ctx, p.prefix); err != nil {
		return err
	}
	i.mu.Lock()
	used, _ := p.Used(a)
	switch {
	case p.releasing || !p.Unconfirmed(a):
		i.mu.Unlock()
		return nil
	case p.Locked(a):
		i.mu.Unlock()
		return busy(a)
	}
	p.Lock(a)
	i.mu.Unlock()
	c, err := p.askClaim(ctx, a)
	if err != nil {
		p.endChange(a)
		return err
	}
	_, err = p.hold(a, used, &c)
	return err
}

// Evict notes that an unconfirmed address belongs to another host for good. This host neither
// hands it out nor requests it until Docker releases it, whose container still believes that it
// has it.
func (i *IPAM) Evict(a netip.Addr) error {
	p := i.poolAt(a)
	if p == nil {
		return nil
	}
	i.mu.Lock()
	used, _ := p.Used(a)
	switch {
	case !p.Unconfirmed(a):
		i.mu.Unlock()
		return nil
	case p.Locked(a):
		i.mu.Unlock()
		return busy(a)
	}
	p.Lock(a)
	used.Evicted = true
	i.mu.Unlock()
	err := i.cfg.Disk.Commit(map[string][]byte{key(kindAddr, a): encode(used)})
	i.mu.Lock()
	defer i.mu.Unlock()
	p.Unlock(a)
	if err == nil {
		p.Put(a, used)
	}
	return err
}

// QueueLast notes that addresses of blocks that this host is about to adopt were held by
// endpoints of a removed host, so that they are handed out last. It does not change what this
// host knows of an address already.
func (i *IPAM) QueueLast(addrs []netip.Addr) error {
	set := map[string][]byte{}
	i.mu.Lock()
	late := map[netip.Addr]pool.Use{}
	for _, a := range addrs {
		for subnet, p := range i.pools {
			if _, touched := p.Used(a); subnet.Contains(a) && !touched && !p.Locked(a) {
				late[a] = pool.Use{Seq: p.NextSeq()}
				set[key(kindAddr, a)] = encode(late[a])
			}
		}
	}
	i.mu.Unlock()
	if len(set) == 0 {
		return nil
	}
	if err := i.cfg.Disk.Commit(set); err != nil {
		return fmt.Errorf("a further block was granted, but what was in use there cannot be written down: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for a, u := range late {
		for subnet, p := range i.pools {
			if _, touched := p.Used(a); subnet.Contains(a) && !touched && !p.Locked(a) {
				p.Release(a, u)
			}
		}
	}
	return nil
}

// forgetEvicted forgets an evicted address after Docker has released it.
func (p *allocator) forgetEvicted(a netip.Addr) error {
	err := p.cfg.Disk.Commit(nil, key(kindAddr, a))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Unlock(a)
	if err != nil {
		return fmt.Errorf("ipam: %s is still held: %w", a, err)
	}
	p.Forget(a)
	delete(p.since, a)
	return nil
}

// givenUp refuses a request for an evicted address.
func given(a netip.Addr, who string) error {
	return netmap.Refuse(netmap.Held, "ipam: %s belongs to another host by now, though %s of this host still believes that it has it; remove that one, and choose another address", a, who)
}
