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

// grantRequest is one request for a further block. A pool has at most one.
type grantRequest struct {
	within netip.Prefix
	needed bool          // a container waits for it, so other hosts may be asked
	tried  chan struct{} // closed when the ledger has answered for the first time and its grant is on disk
	done   chan struct{} // closed when err is final
	ahead  bool          // no container waited when the ledger was asked last
	asked  bool          // other hosts were asked
	err    error
}

// final reports whether err is the final answer to a request for this area.
func (f *grantRequest) final(within netip.Prefix) bool {
	return f.err != nil && f.within == within && (f.asked || !isExhausted(f.err))
}

// requestBlock returns the request that is under way, or starts one. The caller holds mu.
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

// prefetch requests blocks when less than a quarter of what comes at once is free, unless the
// last request failed a moment ago. The caller holds mu.
func (p *allocator) prefetch(within netip.Prefix) {
	if p.request != nil || time.Now().Before(p.retryAt) {
		return
	}
	if n := p.atOnce(within); n >= fewAtOnce && within.Bits() <= p.Subnet().BlockBits && p.Scarce(within, n/4) {
		p.requestBlock(within, false)
	}
}

// atOnce returns how many addresses of an area this host asks for at once: a block, or several
// if they are small and the area is large.
func (p *allocator) atOnce(within netip.Prefix) uint64 {
	return max(p.blockSize(), min(netmap.Size(within)/partAtOnce, mostAtOnce))
}

// blockSize returns how many addresses a block of the subnet has.
func (p *allocator) blockSize() uint64 {
	return netmap.Size(netip.PrefixFrom(p.prefix.Addr(), p.Subnet().BlockBits))
}

// run requests blocks and adopts them. If the ledger gives none and a container waits, run asks
// for a single address, of the ledger or of another host. If another host returns a block
// instead, run asks the ledger again; another host in need may be faster.
func (p *allocator) run(f *grantRequest) {
	ctx, cancel := context.WithTimeout(p.life, grantTimeout)
	defer cancel()
	sure, err := p.takeBlock(ctx, f)
	close(f.tried)
	for again := true; again && isExhausted(err) && p.mayAsk(f); {
		if again = f.ahead; !again { // the ledger refuses ahead of need what it grants in need
			again, err = p.askDonation(ctx, f.within)
		}
		if again {
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

// mayAsk reports whether other hosts may be asked, and notes that they are.
func (p *allocator) mayAsk(f *grantRequest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.asked = f.asked || f.needed
	return f.needed
}

// takeBlock requests a block and adopts it. sure reports whether the decision of the ledger is
// known.
func (p *allocator) takeBlock(ctx context.Context, f *grantRequest) (sure bool, err error) {
	p.mu.Lock()
	p.pruneCededOutside()
	p.mu.Unlock()
	blocks, claims, err := p.askBlock(ctx, f)
	if err != nil {
		p.noteUnregistered(err)
		return isRefusal(err), err
	}
	err = p.adopt(blocks, claims)
	return err == nil, err
}

// askClaim requests one address from the ledger, or from the host that owns it.
func (p *allocator) askClaim(ctx context.Context, a netip.Addr) (netmap.Claim, error) {
	c, err := p.cfg.Decisions.Claim(ctx, p.prefix, a)
	p.noteUnregistered(err)
	return c, err
}

// noteUnregistered notes that the ledger does not count this host among the users of a subnet,
// although a network here uses it: the disk is older than the release of the subnet. The next
// request registers the host again. No owner of an address refuses to cede with this kind of
// refusal.
func (p *allocator) noteUnregistered(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, &netmap.Refusal{Kind: netmap.Unknown}) && len(p.networks) > 0 && !p.releasing {
		p.unregistered = true
	}
}

// askBlock requests a block. If the answer to an earlier request was lost, it finds the block
// that was granted then.
func (p *allocator) askBlock(ctx context.Context, f *grantRequest) ([]netmap.Block, []netmap.Claim, error) {
	p.mu.Lock()
	f.ahead = !f.needed
	req := BlockRequest{Subnet: p.prefix, Within: f.within, Have: p.unsure, Count: int(p.atOnce(f.within) / p.blockSize()), Ahead: f.ahead}
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

// adopt makes granted blocks this host's, on disk first. Claims of other hosts inside stay
// theirs. So does what this host ceded while the grant was under way: the ledger may have
// decided the transfer before the grant, when the address was a claim of this host. An address
// that this host claimed since then is its own, even if an older record on disk gives it to
// another host; that record is deleted with the claim.
//
// adopt skips a block that this host has already, that it is returning, or that another call is
// adopting. Such a block may be returned during the write to disk, and must not come back after
// that.
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

// overtook reports whether this host was given an address after another host's claim to it. The
// caller holds mu.
func (p *allocator) overtook(c netmap.Claim) bool {
	own, here := p.ClaimAt(c.Addr)
	next, comes := p.inFlight.claims[c.Addr]
	return here && own.Epoch > c.Epoch || comes && next.Epoch > c.Epoch
}

// inFlight is what the ledger granted and what is not on disk yet. The host declares it to a
// recovered ledger together with what it holds, since it is handed out as soon as it is on
// disk.
type inFlight struct {
	blocks map[netip.Prefix]netmap.Block
	claims map[netip.Addr]netmap.Claim
}

// isNew reports whether a granted block is neither held, in flight, nor given up. The caller
// holds mu.
func (p *allocator) isNew(b netmap.Block) bool {
	_, leaves := p.leaving[b.Prefix]
	_, comes := p.inFlight.blocks[b.Prefix]
	return !leaves && !comes && !p.HasBlock(b) && !p.stale(b.Prefix, b.Epoch)
}

// pruneCededOutside forgets the transfers that the ledger has answered: it decides later
// requests after them. The caller holds mu.
func (p *allocator) pruneCededOutside() {
	for a := range p.cededOutside {
		if !p.Locked(a) {
			delete(p.cededOutside, a)
		}
	}
}

// cededClaims returns the addresses outside own blocks that were ceded, or are being ceded, and
// that this host has not claimed again, sorted.
func (p *allocator) cededClaims() (out []netmap.Claim) {
	for _, a := range netmap.SortedAddrs(p.cededOutside) {
		if !p.Owns(a) || p.Locked(a) {
			out = append(out, netmap.Claim{Addr: a, Subnet: p.prefix, Owner: p.cededOutside[a]})
		}
	}
	return out
}
