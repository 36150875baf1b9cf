package ipam

import (
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// PoolStock is what this host holds of one subnet.
type PoolStock struct {
	Subnet   netmap.Subnet  `json:"subnet"`
	Networks []string       `json:"networks"` // their owners' ids
	Blocks   []BlockStock   `json:"blocks"`   // with those that are being adopted or returned
	Claims   []netmap.Claim `json:"claims,omitempty"`
	Held     []netip.Addr   `json:"held"` // addresses in use, sorted
	Free     uint64         `json:"free"` // addresses that this host can hand out without the ledger
}

// BlockStock is one own block.
type BlockStock struct {
	netmap.Block
	Used uint64 `json:"used"`
	Free uint64 `json:"free"`
}

// Inventory returns what this host holds, by subnet.
func (i *IPAM) Inventory() []PoolStock {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := make([]PoolStock, 0, len(i.pools))
	for _, p := range i.pools {
		out = append(out, p.stock())
	}
	slices.SortFunc(out, func(a, b PoolStock) int { return a.Subnet.Prefix.Addr().Compare(b.Subnet.Prefix.Addr()) })
	return out
}

func (p *allocator) stock() PoolStock {
	s := PoolStock{Subnet: p.Subnet(), Networks: []string{}, Held: []netip.Addr{}, Free: p.Free(p.Subnet().Prefix)}
	for id := range p.networks {
		s.Networks = append(s.Networks, id)
	}
	slices.Sort(s.Networks)
	for _, b := range p.Blocks() {
		s.Blocks = append(s.Blocks, BlockStock{Block: b.Block, Used: b.Held, Free: p.Free(b.Prefix)})
	}
	for _, d := range p.leaving {
		s.Blocks = append(s.Blocks, BlockStock{Block: d.Block})
	}
	for _, b := range p.inFlight.blocks {
		if !p.HasBlock(b) {
			s.Blocks = append(s.Blocks, BlockStock{Block: b})
		}
	}
	slices.SortFunc(s.Blocks, func(a, b BlockStock) int { return a.Prefix.Compare(b.Prefix) })
	for _, c := range p.Claims() {
		s.Claims = append(s.Claims, c.Claim)
	}
	for a, c := range p.inFlight.claims {
		if _, here := p.ClaimAt(a); !here {
			s.Claims = append(s.Claims, c)
		}
	}
	slices.SortFunc(s.Claims, func(a, b netmap.Claim) int { return a.Addr.Compare(b.Addr) })
	for a, u := range p.Uses() {
		if u.Held {
			s.Held = append(s.Held, a)
		}
	}
	slices.SortFunc(s.Held, netip.Addr.Compare)
	return s
}
