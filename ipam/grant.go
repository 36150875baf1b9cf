package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/netmap"
)

// flight is one question for a further block. There is at most one per pool.
type flight struct {
	within netip.Prefix
	done   chan struct{} // closed once err is final
	err    error
}

// grow joins the flight that is under way, or starts one. The caller holds mu.
func (i *IPAM) grow(p *pool, within netip.Prefix) *flight {
	if p.flight != nil {
		return p.flight
	}
	f := &flight{within: within, done: make(chan struct{})}
	if i.life.Err() != nil {
		f.err = fmt.Errorf("the agent is ending: %w", i.life.Err())
		close(f.done)
		return f
	}
	p.flight = f
	i.work.Go(func() { i.fly(p, f) })
	return f
}

// prefetch asks for a block when less than a quarter of one is free, unless the
// last attempt failed just now. The caller holds mu.
func (i *IPAM) prefetch(p *pool, within netip.Prefix) {
	first, err := within.Addr().Prefix(p.subnet.BlockBits)
	if err != nil || p.flight != nil || time.Now().Before(p.retryAt) {
		return
	}
	if block := size(first); block >= smallBlock && p.Free(within) < block/4 && inside(first, within) {
		i.grow(p, within)
	}
}

// fly asks for a block and writes it down.
func (i *IPAM) fly(p *pool, f *flight) {
	ctx, cancel := context.WithTimeout(i.life, grantTimeout)
	defer cancel()
	blocks, claims, err := i.askBlock(ctx, p, f.within)
	sure := err == nil || isRefusal(err)
	if err == nil {
		if err = i.adopt(p, blocks, claims); err != nil {
			sure = false
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.flight, p.unsure = nil, !sure
	p.backoff = min(max(2*p.backoff, minBackoff), maxBackoff)
	if err == nil {
		p.backoff = 0
	}
	p.retryAt = time.Now().Add(p.backoff)
	f.err = err
	close(f.done)
}

// askBlock asks for a block. If the answer to an earlier question was lost, the
// block that it granted is found first.
func (i *IPAM) askBlock(ctx context.Context, p *pool, within netip.Prefix) ([]netmap.Block, []netmap.Claim, error) {
	i.mu.Lock()
	req := BlockRequest{Subnet: p.subnet.Prefix, Within: within, Have: p.unsure}
	i.mu.Unlock()
	blocks, claims, err := i.cfg.Decisions.GrantBlock(ctx, req)
	if err != nil || !req.Have || i.anyNew(p, blocks) {
		return blocks, claims, err
	}
	req.Have = false
	return i.cfg.Decisions.GrantBlock(ctx, req)
}

func (i *IPAM) anyNew(p *pool, blocks []netmap.Block) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, b := range blocks {
		if !p.Owns(b) {
			return true
		}
	}
	return false
}

// adopt makes granted blocks this host's: on disk first. Claims of others inside
// are theirs.
func (i *IPAM) adopt(p *pool, blocks []netmap.Block, claims []netmap.Claim) error {
	i.mu.Lock()
	bits := p.subnet.BlockBits
	i.mu.Unlock()
	set := map[string][]byte{}
	for _, b := range blocks {
		if b.Subnet != p.prefix || b.Prefix.Bits() != bits || !inside(b.Prefix, b.Subnet) {
			return fmt.Errorf("the ledger granted %s of %s, which is no block of %s", b.Prefix, b.Subnet, p.prefix)
		}
		set[key(kindBlock, b.Prefix)] = encode(b)
	}
	for _, c := range claims {
		set[key(kindForeign, c.Addr)] = encode(c.Owner)
	}
	if err := i.cfg.Disk.Commit(set); err != nil {
		return fmt.Errorf("a further block was granted but cannot be written down: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, b := range blocks {
		p.AddBlock(b)
	}
	for _, c := range claims {
		p.Forsake(c.Addr, c.Owner)
	}
	return nil
}
