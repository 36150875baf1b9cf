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

// Word is what the facts tell of a subnet. It may be late, so nothing is decided on
// it; it says where to ask.
type Word struct {
	Decided uint64         // the newest decision that is known
	Blocks  []netmap.Block // this host's
	Claims  []netmap.Claim // this host's
	Others  []netmap.Claim // other hosts'
}

// repair finds what this host and the ledger believe differently: an address that
// was ceded and came back, and what was granted in an answer that never arrived.
func (i *IPAM) repair(ctx context.Context, p *allocator) {
	if i.cfg.Facts == nil {
		return
	}
	word, ok := i.cfg.Facts(p.prefix)
	if !ok {
		return
	}
	for _, b := range i.cameBack(p, word) {
		i.problem(i.takeBack(ctx, p, b))
	}
	blocks, claims := i.unheardOf(p, word)
	for _, b := range blocks {
		i.problem(i.persistReturn(ctx, p, Returned{Block: b}))
	}
	for _, c := range claims {
		err := i.persistUnclaim(ctx, p, c)
		i.unlock(p, c.Addr)
		i.problem(err)
	}
}

// cameBack are the own blocks with an address that was ceded and that nobody has
// claimed any more.
func (i *IPAM) cameBack(p *allocator, word Word) (out []netip.Prefix) {
	claimed := map[netip.Addr]bool{}
	for _, c := range word.Others {
		claimed[c.Addr] = true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range p.Ceded() {
		if s, in := p.BlockAt(a); in && !claimed[a] && !p.Locked(a) && !slices.Contains(out, s.Prefix) {
			out = append(out, s.Prefix)
		}
	}
	return out
}

// takeBack asks the ledger which addresses of an own block are others', and takes
// back the rest. They are locked meanwhile: an address that is ceded after the
// question is in no answer to it.
func (i *IPAM) takeBack(ctx context.Context, p *allocator, block netip.Prefix) error {
	locked := i.lockCeded(p, block)
	defer func() {
		for _, a := range locked {
			i.unlock(p, a)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	blocks, claims, err := i.cfg.Decisions.GrantBlock(ctx, BlockRequest{Subnet: p.prefix, Within: block, Have: true})
	if err != nil {
		return fmt.Errorf("ipam: addresses that were ceded from block %s and may be free: %w", block, err)
	}
	i.mu.Lock()
	known := slices.ContainsFunc(blocks, func(b netmap.Block) bool { return b.Prefix == block && p.HasBlock(b) })
	i.mu.Unlock()
	if !known {
		return nil // it left meanwhile
	}
	for _, c := range claims {
		locked = i.unlockOne(p, locked, c.Addr)
	}
	return i.takeBackAll(p, locked)
}

func (i *IPAM) lockCeded(p *allocator, block netip.Prefix) (out []netip.Addr) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range p.Ceded() {
		if block.Contains(a) && !p.Locked(a) {
			p.Lock(a)
			out = append(out, a)
		}
	}
	return out
}

// unlockOne unlocks an address and leaves it out.
func (i *IPAM) unlockOne(p *allocator, locked []netip.Addr, a netip.Addr) []netip.Addr {
	n := slices.Index(locked, a)
	if n < 0 {
		return locked
	}
	i.unlock(p, a)
	return slices.Delete(locked, n, n+1)
}

// takeBackAll makes locked addresses this host's again, as released just now.
func (i *IPAM) takeBackAll(p *allocator, addrs []netip.Addr) error {
	set, del := map[string][]byte{}, make([]string, 0, len(addrs))
	uses := make([]pool.Use, 0, len(addrs))
	i.mu.Lock()
	for _, a := range addrs {
		use := pool.Use{Seq: p.NextSeq()}
		uses = append(uses, use)
		set[key(kindAddr, a)] = encode(use)
		del = append(del, key(kindForeign, a))
	}
	i.mu.Unlock()
	if err := i.cfg.Disk.Commit(set, del...); err != nil {
		return fmt.Errorf("ipam: addresses that came back were not written down: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, a := range addrs {
		p.TakeBack(a, uses[n])
	}
	return nil
}

// unheardOf is what the ledger granted this host, and what this host has not heard
// of for answersWithin: the answer was lost. From then on it is not taken any more.
// The claims are locked.
func (i *IPAM) unheardOf(p *allocator, word Word) (blocks []netmap.Block, claims []netmap.Claim) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p.request != nil || p.gone {
		return nil, nil
	}
	missing := map[netip.Prefix]time.Time{}
	for _, b := range word.Blocks {
		if !p.HasBlock(b) && p.leaving[b.Prefix].done == nil && !p.pending(b.Prefix) && p.overdue(missing, b.Prefix, b.Epoch) {
			blocks = append(blocks, b)
		}
	}
	for _, c := range word.Claims {
		_, known := p.ClaimAt(c.Addr)
		if !known && !p.Locked(c.Addr) && !p.pending(netmap.Single(c.Addr)) && p.overdue(missing, netmap.Single(c.Addr), c.Epoch) {
			p.Lock(c.Addr)
			claims = append(claims, c)
		}
	}
	p.missing = missing
	return blocks, claims
}

// overdue notes that something granted is not known here, and gives it up if that
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
	p.give(what, epoch)
	return true
}
