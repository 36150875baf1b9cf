package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
)

// SubnetFacts is what the facts say about a subnet. The facts may be late, so nothing is decided by
// them; they tell what to ask the ledger about.
type SubnetFacts struct {
	Decided uint64         // the newest decision that the facts have
	Blocks  []netmap.Block // this host's
	Claims  []netmap.Claim // this host's
	Others  []netmap.Claim // other hosts'
}

// repair finds differences between this host and the ledger: addresses that were ceded and came
// back, and grants whose answer was lost.
func (p *allocator) repair(ctx context.Context) {
	if p.cfg.Facts == nil {
		return
	}
	facts, ok := p.cfg.Facts(p.prefix)
	if !ok {
		return
	}
	for _, b := range p.cameBack(facts) {
		p.problem(p.takeBack(ctx, b))
	}
	blocks, claims := p.lostGrants(facts)
	for _, b := range blocks {
		p.problem(p.persistReturn(ctx, Returned{Block: b}))
	}
	for _, c := range claims {
		err := p.persistUnclaim(ctx, c)
		p.endChange(c.Addr)
		p.problem(err)
	}
}

// cameBack returns the own blocks that have a ceded address which no host claims any more.
func (p *allocator) cameBack(facts SubnetFacts) (out []netip.Prefix) {
	claimed := map[netip.Addr]bool{}
	for _, c := range facts.Others {
		claimed[c.Addr] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.Ceded() {
		if s, in := p.BlockAt(a); in && !claimed[a] && !p.Locked(a) && !slices.Contains(out, s.Prefix) {
			out = append(out, s.Prefix)
		}
	}
	return out
}

// takeBack asks the ledger which addresses of an own block belong to others, and takes back the
// rest. The addresses are locked meanwhile, because the answer does not know of one that is
// ceded after the question.
func (p *allocator) takeBack(ctx context.Context, block netip.Prefix) error {
	locked := p.lockCeded(block)
	defer func() {
		for _, a := range locked {
			p.endChange(a)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	blocks, claims, err := p.cfg.Decisions.GrantBlock(ctx, BlockRequest{Subnet: p.prefix, Within: block, Have: true})
	if err != nil {
		return fmt.Errorf("ipam: addresses that were ceded from block %s and may be free: %w", block, err)
	}
	p.mu.Lock()
	known := slices.ContainsFunc(blocks, func(b netmap.Block) bool { return b.Prefix == block && p.HasBlock(b) })
	p.mu.Unlock()
	if !known {
		return nil // the block was returned meanwhile
	}
	for _, c := range claims {
		locked = p.unlockOne(locked, c.Addr)
	}
	return p.takeBackAll(locked)
}

func (p *allocator) lockCeded(block netip.Prefix) (out []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.Ceded() {
		if block.Contains(a) && !p.Locked(a) {
			p.Lock(a)
			out = append(out, a)
		}
	}
	return out
}

// unlockOne unlocks an address and returns the others.
func (p *allocator) unlockOne(locked []netip.Addr, a netip.Addr) []netip.Addr {
	n := slices.Index(locked, a)
	if n < 0 {
		return locked
	}
	p.endChange(a)
	return slices.Delete(locked, n, n+1)
}

// takeBackAll makes locked addresses this host's again, as if they were released just now.
func (p *allocator) takeBackAll(addrs []netip.Addr) error {
	set, del := map[string][]byte{}, make([]string, 0, len(addrs))
	uses := make([]pool.Use, 0, len(addrs))
	p.mu.Lock()
	for _, a := range addrs {
		use := pool.Use{Seq: p.NextSeq()}
		uses = append(uses, use)
		set[key(kindAddr, a)] = encode(use)
		del = append(del, key(kindForeign, a))
	}
	p.mu.Unlock()
	if err := p.cfg.Disk.Commit(set, del...); err != nil {
		return fmt.Errorf("ipam: addresses that came back were not written down: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, a := range addrs {
		p.TakeBack(a, uses[n])
	}
	return nil
}

// lostGrants returns what the ledger granted to this host and what has been unknown here for
// answersWithin, because the answer was lost. This host does not adopt it any more. The claims
// are locked.
func (p *allocator) lostGrants(facts SubnetFacts) (blocks []netmap.Block, claims []netmap.Claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.request != nil || p.releasing {
		return nil, nil
	}
	missing := map[netip.Prefix]time.Time{}
	for _, b := range facts.Blocks {
		if !p.HasBlock(b) && p.leaving[b.Prefix].done == nil && !p.pending(b.Prefix) && p.overdue(missing, b.Prefix, b.Epoch) {
			blocks = append(blocks, b)
		}
	}
	for _, c := range facts.Claims {
		_, known := p.ClaimAt(c.Addr)
		if !known && !p.Locked(c.Addr) && !p.pending(netmap.Single(c.Addr)) && p.overdue(missing, netmap.Single(c.Addr), c.Epoch) {
			p.Lock(c.Addr)
			claims = append(claims, c)
		}
	}
	p.missing = missing
	return blocks, claims
}

// overdue notes that a grant is not known here. It gives the grant up and returns true if that
// has been so for answersWithin.
func (p *allocator) overdue(missing map[netip.Prefix]time.Time, what netip.Prefix, epoch uint64) bool {
	since, known := p.missing[what]
	if !known {
		since = time.Now()
	}
	missing[what] = since
	if !known || time.Since(since) < answersWithin {
		return false
	}
	p.noteGivenUp(what, epoch)
	return true
}
