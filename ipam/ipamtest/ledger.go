// Package ipamtest has working stand-ins for what ipam needs: a ledger in memory
// that several hosts share, and a disk that can fail. They print themselves in an
// operator's words.
package ipamtest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// Ledger decides for all hosts at once. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	index   uint64
	subnets map[netip.Prefix]netmap.Subnet
	users   map[netip.Prefix]map[netmap.HostID]bool
	blocks  map[netip.Prefix]netmap.Block
	claims  map[netip.Addr]netmap.Claim
	story   []string
	late    map[netip.Prefix][]netip.Addr
	hosts   map[netmap.HostID]*Host
}

// NewLedger is an empty ledger whose range is 10.32.0.0/12 and fd00:57::/48.
func NewLedger() *Ledger {
	return &Ledger{
		subnets: map[netip.Prefix]netmap.Subnet{}, users: map[netip.Prefix]map[netmap.HostID]bool{}, blocks: map[netip.Prefix]netmap.Block{},
		claims: map[netip.Addr]netmap.Claim{}, hosts: map[netmap.HostID]*Host{}, late: map[netip.Prefix][]netip.Addr{},
	}
}

// Story is what was decided since the last call, a line each.
func (l *Ledger) Story() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.Join(l.story, "\n")
	l.story = nil
	return s
}

// Late is what the block's last owner said that was in use lately.
func (l *Ledger) Late(block string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.late[netip.MustParsePrefix(block)] {
		out = append(out, a.String())
	}
	return out
}

// Host asks on behalf of one host; it is an ipam.Decisions.
type Host struct {
	l    *Ledger
	id   netmap.HostID
	name string

	mu   sync.Mutex
	hang chan struct{} // while set, no answer comes
	lose bool          // the next decision is made and its answer lost
	// IPAM, if set, is asked to cede addresses.
	IPAM *ipam.IPAM
}

// Host is the host of this name.
func (l *Ledger) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &Host{l: l, name: name}
	copy(h.id[:], name)
	l.hosts[h.id] = h
	return h
}

// ID is the host's identity.
func (h *Host) ID() netmap.HostID { return h.id }

// Cut makes every question hang until Heal.
func (h *Host) Cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hang = make(chan struct{})
}

// Heal ends Cut.
func (h *Host) Heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.hang)
	h.hang = nil
}

// LoseAnswer has the answer to the next decision lost.
func (h *Host) LoseAnswer() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lose = true
}

// decide carries one question to the ledger and its answer back.
func (h *Host) decide(ctx context.Context, what string, f func() error) error {
	h.mu.Lock()
	hang, lose := h.hang, h.lose
	h.lose = false
	h.mu.Unlock()
	unreachable := netmap.Refuse(netmap.NoQuorum, "no majority of keepers answered: host-b, host-c are unreachable")
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return unreachable
		}
	}
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.l.index++
	err := f()
	if err != nil {
		what += ": " + err.Error()
	}
	if what != "" {
		h.l.story = append(h.l.story, h.name+" "+what)
	}
	if lose {
		return unreachable
	}
	return err
}

// GrantBlock implements ipam.Decisions.
func (h *Host) GrantBlock(ctx context.Context, r ipam.BlockRequest) (blocks []netmap.Block, claims []netmap.Claim, err error) {
	err = h.decide(ctx, "wants a block within "+r.Within.String(), func() error {
		if r.Have {
			for _, b := range h.l.blocks {
				if b.Owner == h.id && b.Subnet == r.Subnet && b.Prefix.Overlaps(r.Within) {
					blocks = append(blocks, b)
				}
			}
		}
		if len(blocks) == 0 {
			b, ok := h.l.grant(h.id, r)
			if !ok {
				return netmap.Refuse(netmap.Exhausted, "no block is free in %s", r.Within)
			}
			blocks = append(blocks, b)
		}
		for _, c := range h.l.claims {
			if c.Owner != h.id && slices.ContainsFunc(blocks, func(b netmap.Block) bool { return b.Prefix.Contains(c.Addr) }) {
				claims = append(claims, c)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return blocks, claims, nil
}

// grant gives the lowest free block.
func (l *Ledger) grant(to netmap.HostID, r ipam.BlockRequest) (netmap.Block, bool) {
	bits := l.subnets[r.Subnet].BlockBits
	for a := r.Within.Addr(); r.Within.Contains(a); {
		p, err := a.Prefix(bits)
		if err != nil {
			break
		}
		if _, taken := l.blocks[p]; !taken {
			b := netmap.Block{Prefix: p, Subnet: r.Subnet, Owner: to, Epoch: l.index}
			l.blocks[p] = b
			return b, true
		}
		last := p.Addr()
		for q := last; p.Contains(q); q = q.Next() { // tests use small blocks
			last = q
		}
		a = last.Next()
	}
	return netmap.Block{}, false
}

// Claim implements ipam.Decisions.
func (h *Host) Claim(ctx context.Context, subnet netip.Prefix, a netip.Addr) (netmap.Claim, error) {
	if other := h.l.owner(a); other != nil && other != h {
		c, err := other.IPAM.Cede(ctx, subnet, a, h.id)
		if err != nil {
			return c, fmt.Errorf("%s: %w", other.name, err)
		}
		return c, nil
	}
	return h.give(ctx, "claims "+a.String(), subnet, a, h)
}

// Cede implements ipam.Decisions.
func (h *Host) Cede(ctx context.Context, c synced.Value[ipam.Transfer]) (netmap.Claim, error) {
	a, to := c.Get().Addr, c.Get().To
	h.l.mu.Lock()
	heir, subnet := h.l.hosts[to], netip.Prefix{}
	for p := range h.l.subnets {
		if p.Contains(a) {
			subnet = p
		}
	}
	h.l.mu.Unlock()
	if heir == nil {
		return netmap.Claim{}, netmap.Refuse(netmap.Unknown, "there is no host %s", to.Short())
	}
	return h.give(ctx, fmt.Sprintf("cedes %s to %s", a, heir.name), subnet, a, heir)
}

func (h *Host) give(ctx context.Context, what string, subnet netip.Prefix, a netip.Addr, to *Host) (c netmap.Claim, err error) {
	err = h.decide(ctx, what, func() error {
		if old, taken := h.l.claims[a]; taken && old.Owner == to.id {
			c = old
			return nil
		}
		c = netmap.Claim{Addr: a, Subnet: subnet, Owner: to.id, Epoch: h.l.index}
		h.l.claims[a] = c
		return nil
	})
	return c, err
}

// owner is the host that an address belongs to, by claim or by block, or nil.
func (l *Ledger) owner(a netip.Addr) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.claims[a]; ok {
		return l.hosts[c.Owner]
	}
	for p, b := range l.blocks {
		if p.Contains(a) {
			return l.hosts[b.Owner]
		}
	}
	return nil
}

// ReturnBlock implements ipam.Decisions.
func (h *Host) ReturnBlock(ctx context.Context, r synced.Value[ipam.Returned]) error {
	b := r.Get()
	return h.decide(ctx, "returns block "+b.Prefix.String(), func() error {
		if h.l.blocks[b.Prefix] == b.Block {
			h.l.late[b.Prefix] = b.Late
			delete(h.l.blocks, b.Prefix)
		}
		return nil
	})
}

// Unclaim implements ipam.Decisions.
func (h *Host) Unclaim(ctx context.Context, r synced.Value[netmap.Claim]) error {
	c := r.Get()
	return h.decide(ctx, "returns "+c.Addr.String(), func() error {
		if h.l.claims[c.Addr] == c {
			delete(h.l.claims, c.Addr)
		}
		return nil
	})
}

// AskOthers implements ipam.Decisions: in the order of their names.
func (h *Host) AskOthers(ctx context.Context, r ipam.BlockRequest) (ipam.Donation, error) {
	h.l.mu.Lock()
	others := slices.SortedFunc(maps.Values(h.l.hosts), func(a, b *Host) int { return strings.Compare(a.name, b.name) })
	h.l.mu.Unlock()
	for _, o := range others {
		if o == h || o.IPAM == nil {
			continue
		}
		if got, err := o.IPAM.Donate(ctx, r.Subnet, r.Within, h.id); err == nil {
			return got, nil
		}
	}
	return ipam.Donation{}, netmap.Refuse(netmap.Exhausted, "no host has an address to spare")
}

// SubnetFacts is what the facts tell a host of a subnet, without delay.
func (h *Host) SubnetFacts(subnet netip.Prefix) (w ipam.SubnetFacts, ok bool) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	w.Decided = h.l.index
	for _, p := range slices.SortedFunc(maps.Keys(h.l.blocks), netip.Prefix.Compare) {
		if b := h.l.blocks[p]; b.Subnet == subnet && b.Owner == h.id {
			w.Blocks = append(w.Blocks, b)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(h.l.claims), netip.Addr.Compare) {
		switch c := h.l.claims[a]; {
		case c.Subnet != subnet:
		case c.Owner == h.id:
			w.Claims = append(w.Claims, c)
		default:
			w.Others = append(w.Others, c)
		}
	}
	return w, true
}

// ClaimForHost implements ipam.Decisions: the highest address that no host owns.
func (h *Host) ClaimForHost(ctx context.Context, subnet netip.Prefix) (netmap.Claim, error) {
	a := netmap.LastAddr(subnet).Prev()
	for h.l.owner(a) != nil {
		a = a.Prev()
	}
	if !subnet.Contains(a) {
		return netmap.Claim{}, netmap.Refuse(netmap.Exhausted, "%s is used up", subnet)
	}
	return h.give(ctx, "claims for itself "+a.String(), subnet, a, h)
}
