package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// grantRequest is one question for a further block. There is at most one per pool.
type grantRequest struct {
	within netip.Prefix
	needed bool          // a container waits for it: other hosts may be asked
	tried  chan struct{} // closed once the ledger has answered first, and what it granted is here
	done   chan struct{} // closed once what follows is final
	asked  bool          // other hosts were asked
	err    error
}

// final reports whether its error is the answer to a request for an area.
func (f *grantRequest) final(within netip.Prefix) bool {
	return f.err != nil && f.within == within && (f.asked || !isExhausted(f.err))
}

// requestBlock joins the request that is under way, or starts one. The caller holds mu.
func (p *allocator) requestBlock(within netip.Prefix, needed bool) *grantRequest {
	if p.request != nil {
		p.request.needed = p.request.needed || needed && p.request.within == within
		return p.request
	}
	f := &grantRequest{within: within, needed: needed, tried: make(chan struct{}), done: make(chan struct{})}
	if p.life.Err() != nil {
		f.err = fmt.Errorf("the agent is ending; try again when it runs (docker plugin ls): %w", p.life.Err())
		close(f.tried)
		close(f.done)
		return f
	}
	p.request = f
	p.work.Go(func() { p.run(f) })
	return f
}

// prefetch asks for a block when less than a quarter of one is free, unless the
// last attempt failed just now. The caller holds mu.
func (p *allocator) prefetch(within netip.Prefix) {
	first, err := within.Addr().Prefix(p.Subnet().BlockBits)
	if err != nil || p.request != nil || time.Now().Before(p.retryAt) {
		return
	}
	if block := netmap.Size(first); block >= smallBlock && netmap.Within(first, within) && p.Scarce(within, block/4) {
		p.requestBlock(within, false)
	}
}

// run asks for a block and writes it down. If there is none and a container waits,
// other hosts are asked to give up something; then there may be one, which yet
// another host in need may be faster to get.
func (p *allocator) run(f *grantRequest) {
	ctx, cancel := context.WithTimeout(p.life, grantTimeout)
	defer cancel()
	sure, err := p.takeBlock(ctx, f)
	close(f.tried)
	for again := true; again && isExhausted(err) && p.mayAsk(f); {
		if again, err = p.askDonation(ctx, f.within); again {
			sure, err = p.takeBlock(ctx, f)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.request, p.unsure = nil, !sure
	p.backoff = min(max(2*p.backoff, minBackoff), maxBackoff)
	if err == nil {
		p.backoff = 0
	}
	p.retryAt = time.Now().Add(p.backoff)
	f.err = err
	close(f.done)
}

// mayAsk reports whether others may be asked, and notes that they are.
func (p *allocator) mayAsk(f *grantRequest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.asked = f.asked || f.needed
	return f.needed
}

// takeBlock asks for a block and adopts it. Sure: what the ledger decided is known.
func (p *allocator) takeBlock(ctx context.Context, f *grantRequest) (sure bool, err error) {
	p.mu.Lock()
	p.settleCededOutside()
	p.mu.Unlock()
	blocks, claims, err := p.askBlock(ctx, f.within)
	if err != nil {
		p.noteUnregistered(err)
		return isRefusal(err), err
	}
	err = p.adopt(blocks, claims)
	return err == nil, err
}

// askClaim asks for an address by itself, of the ledger or of the host that owns it.
func (p *allocator) askClaim(ctx context.Context, a netip.Addr) (netmap.Claim, error) {
	c, err := p.cfg.Decisions.Claim(ctx, p.prefix, a)
	p.noteUnregistered(err)
	return c, err
}

// noteUnregistered notes that the ledger does not count this host among those that use a
// subnet, though a network here does: the disk is from before it was released. The next
// request takes it into use again. No owner refuses to cede in this way.
func (p *allocator) noteUnregistered(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, &netmap.Refusal{Kind: netmap.Unknown}) && len(p.networks) > 0 && !p.gone {
		p.unregistered = true
	}
}

// askBlock asks for a block. If the answer to an earlier question was lost, the
// block that it granted is found first.
func (p *allocator) askBlock(ctx context.Context, within netip.Prefix) ([]netmap.Block, []netmap.Claim, error) {
	p.mu.Lock()
	req := BlockRequest{Subnet: p.Subnet().Prefix, Within: within, Have: p.unsure}
	p.mu.Unlock()
	blocks, claims, err := p.cfg.Decisions.GrantBlock(ctx, req)
	if err != nil || !req.Have || p.anyNew(blocks) {
		return blocks, claims, err
	}
	req.Have = false
	return p.cfg.Decisions.GrantBlock(ctx, req)
}

func (p *allocator) anyNew(blocks []netmap.Block) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(blocks, p.isNew)
}

// adopt makes granted blocks this host's: on disk first. Claims of others inside
// are theirs, and so is what this host ceded while the grant was under way: that may
// have been decided before, when it still was a claim of its own. What it claimed since
// then is its own, though it may be another's on disk beside that: that record goes with
// the claim. What is this host's already, is leaving or is being adopted by another call
// is left alone: it may be given back while the disk is written to, and must not come
// back after that.
func (p *allocator) adopt(blocks []netmap.Block, claims []netmap.Claim) error {
	p.mu.Lock()
	bits := p.Subnet().BlockBits
	blocks = slices.DeleteFunc(slices.Clone(blocks), func(b netmap.Block) bool { return !p.isNew(b) })
	claims = append(slices.DeleteFunc(slices.Clone(claims), p.overtook), p.cededClaims()...)
	for _, b := range blocks {
		p.inFlight.blocks[b.Prefix] = b
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, b := range blocks {
			delete(p.inFlight.blocks, b.Prefix)
		}
	}()
	claims = slices.DeleteFunc(claims, func(c netmap.Claim) bool {
		return !slices.ContainsFunc(blocks, func(b netmap.Block) bool { return b.Prefix.Contains(c.Addr) })
	})
	set := map[string][]byte{}
	for _, b := range blocks {
		if b.Subnet != p.prefix || b.Prefix.Bits() != bits || !netmap.Within(b.Prefix, b.Subnet) {
			return fmt.Errorf("the ledger granted %s of %s, which is no block of %s; run the same release of weft on all hosts", b.Prefix, b.Subnet, p.prefix)
		}
		set[key(kindBlock, b.Prefix)] = encode(b)
	}
	for _, c := range claims {
		set[key(kindForeign, c.Addr)] = encode(c.Owner)
	}
	if err := p.cfg.Disk.Commit(set); err != nil {
		return fmt.Errorf("a further block was granted but cannot be written down: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range blocks {
		p.adopted[b.Prefix] = time.Now()
		p.AddBlock(b)
	}
	for _, c := range slices.DeleteFunc(claims, p.overtook) {
		p.Forsake(c.Addr, c.Owner)
	}
	return nil
}

// overtook reports whether this host was given an address after another host's claim to
// it. The caller holds mu.
func (p *allocator) overtook(c netmap.Claim) bool {
	own, here := p.ClaimAt(c.Addr)
	next, comes := p.inFlight.claims[c.Addr]
	return here && own.Epoch > c.Epoch || comes && next.Epoch > c.Epoch
}

// inFlight is what was granted and is on its way to the disk. This host declares
// it to a recovered ledger with what is there: once it is written down it is handed out.
type inFlight struct {
	blocks map[netip.Prefix]netmap.Block
	claims map[netip.Addr]netmap.Claim
}

// isNew reports whether a granted block is neither here nor gone again. The caller
// holds mu.
func (p *allocator) isNew(b netmap.Block) bool {
	_, leaves := p.leaving[b.Prefix]
	_, comes := p.inFlight.blocks[b.Prefix]
	return !leaves && !comes && !p.HasBlock(b) && !p.stale(b.Prefix, b.Epoch)
}

// settleCededOutside forgets what was ceded and of which the ledger has answered: what is
// asked for from now on is decided after that. The caller holds mu.
func (p *allocator) settleCededOutside() {
	for a := range p.cededOutside {
		if !p.Locked(a) {
			delete(p.cededOutside, a)
		}
	}
}

// cededClaims is what was ceded, or is at this moment, and is not claimed here again,
// sorted.
func (p *allocator) cededClaims() (out []netmap.Claim) {
	for _, a := range netmap.SortedAddrs(p.cededOutside) {
		if !p.Owns(a) || p.Locked(a) {
			out = append(out, netmap.Claim{Addr: a, Subnet: p.prefix, Owner: p.cededOutside[a]})
		}
	}
	return out
}
