package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// A block or claim that is not needed goes back to the ledger in three steps. The disk records
// that this host has given it up and that the ledger does not know yet. The ledger is told. The
// record is deleted. Nothing that was given up is taken back under the same epoch, so an answer
// that arrives late brings back no right that is gone.

const (
	// idleFor is how long a block or a claim is unused before it is returned. The next owner of
	// a block learns only which of its addresses were released last.
	idleFor = 10 * time.Minute
	// answersWithin bounds how late the answer to an earlier question can arrive.
	answersWithin = time.Minute
)

// maxLate bounds the addresses that are named when a block is returned.
const maxLate = 64

// Returned is a block that is returned, with those of its addresses that were released last,
// the latest at the end. The next owner of the block hands them out last.
type Returned struct {
	netmap.Block
	Late []netip.Addr `json:"late,omitempty"`
}

// departure is a block that is out of use and still this host's until that is on disk. If the
// disk fails, it stays.
type departure struct {
	netmap.Block
	done chan struct{} // closed when the disk has decided
}

// givenUp is the epoch under which something was given up last.
type givenUp struct {
	epoch uint64
	at    time.Time
}

// stale reports whether a block or claim was given up under this epoch or a later one. The
// caller holds mu.
func (p *allocator) stale(what netip.Prefix, epoch uint64) bool {
	return epoch <= p.givenUp[what].epoch
}

func (p *allocator) noteGivenUp(what netip.Prefix, epoch uint64) {
	p.givenUp[what] = givenUp{epoch: epoch, at: time.Now()}
}

// leave takes an empty block out of use, for returnBlock. The caller holds mu.
func (p *allocator) leave(b netmap.Block) {
	p.leaving[b.Prefix] = departure{Block: b, done: make(chan struct{})}
	p.Withdraw(b.Prefix)
}

// returnBlock returns a block that leave took out of use. If the write to disk fails, the block
// stays.
func (p *allocator) returnBlock(ctx context.Context, b netmap.Block) error {
	p.mu.Lock()
	del := p.keysOfBlock(b.Prefix)
	back := Returned{Block: b, Late: p.Latest(b.Prefix, maxLate)}
	p.mu.Unlock()
	given, err := synced.Commit(p.cfg.Disk, back, map[string][]byte{key(kindReturn, b.Prefix): encode(back)}, del...)
	p.mu.Lock()
	close(p.leaving[b.Prefix].done)
	delete(p.leaving, b.Prefix)
	if err != nil {
		p.AddBlock(b)
		p.mu.Unlock()
		return fmt.Errorf("ipam: block %s was not returned: %w", b.Prefix, err)
	}
	p.DropBlock(b.Prefix)
	p.returns[b.Prefix] = back
	delete(p.adopted, b.Prefix)
	p.noteGivenUp(b.Prefix, b.Epoch)
	p.mu.Unlock()
	return p.sendReturn(ctx, given)
}

// persistReturn writes down that a block is returned which this host does not use any more, and
// tells the ledger.
func (p *allocator) persistReturn(ctx context.Context, b Returned) error {
	given, err := synced.Commit(p.cfg.Disk, b, map[string][]byte{key(kindReturn, b.Prefix): encode(b)})
	if err != nil {
		return fmt.Errorf("ipam: block %s was not returned: %w", b.Prefix, err)
	}
	p.mu.Lock()
	p.returns[b.Prefix] = b
	p.mu.Unlock()
	return p.sendReturn(ctx, given)
}

// sendReturn tells the ledger that a block is returned. If it fails, the sweep repeats it.
func (p *allocator) sendReturn(ctx context.Context, given synced.Value[Returned]) error {
	b := given.Get()
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	err := p.cfg.Decisions.ReturnBlock(ctx, given)
	if err == nil {
		err = p.cfg.Disk.Commit(nil, key(kindReturn, b.Prefix))
	}
	if err != nil {
		return fmt.Errorf("ipam: the ledger is still to hear that block %s is returned: %w", b.Prefix, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.returns[b.Prefix].Epoch == b.Epoch {
		delete(p.returns, b.Prefix)
	}
	return nil
}

// giveUp returns a claim of this host; its address is locked. It stays locked until the ledger
// has answered, so that it is not claimed again meanwhile.
func (p *allocator) giveUp(ctx context.Context, c netmap.Claim) error {
	defer p.endChange(c.Addr)
	p.mu.Lock()
	del := []string{key(kindClaim, c.Addr), key(kindForeign, c.Addr)} // see adopt
	if _, inBlock := p.BlockAt(c.Addr); !inBlock {
		del = append(del, key(kindAddr, c.Addr))
	}
	p.mu.Unlock()
	given, err := synced.Commit(p.cfg.Disk, c, map[string][]byte{key(kindUnclaim, c.Addr): encode(c)}, del...)
	if err != nil {
		return fmt.Errorf("ipam: address %s was not returned: %w", c.Addr, err)
	}
	p.mu.Lock()
	p.DropClaim(c.Addr)
	p.unclaims[c.Addr] = c
	p.noteGivenUp(netmap.Single(c.Addr), c.Epoch)
	p.mu.Unlock()
	return p.sendUnclaim(ctx, given)
}

// persistUnclaim writes down that a claim is returned which this host does not use any more,
// and tells the ledger. The address is locked.
func (p *allocator) persistUnclaim(ctx context.Context, c netmap.Claim) error {
	given, err := synced.Commit(p.cfg.Disk, c, map[string][]byte{key(kindUnclaim, c.Addr): encode(c)})
	if err != nil {
		return fmt.Errorf("ipam: address %s was not returned: %w", c.Addr, err)
	}
	p.mu.Lock()
	p.unclaims[c.Addr] = c
	p.mu.Unlock()
	return p.sendUnclaim(ctx, given)
}

// sendUnclaim tells the ledger that a claim is returned. If it fails, the sweep repeats it. The
// address is locked.
func (p *allocator) sendUnclaim(ctx context.Context, given synced.Value[netmap.Claim]) error {
	c := given.Get()
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	err := p.cfg.Decisions.Unclaim(ctx, given)
	if err == nil {
		err = p.cfg.Disk.Commit(nil, key(kindUnclaim, c.Addr))
	}
	if err != nil {
		return fmt.Errorf("ipam: the ledger is still to hear that address %s is returned: %w", c.Addr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.unclaims, c.Addr)
	return nil
}

// beforeClaim tells the ledger of an earlier return of an address that is wanted again. The
// address is locked.
func (p *allocator) beforeClaim(ctx context.Context, a netip.Addr) error {
	p.mu.Lock()
	c, pending := p.unclaims[a]
	p.mu.Unlock()
	if !pending {
		return nil
	}
	return p.persistUnclaim(ctx, c)
}

// tidy tells the ledger what it has not heard yet. If the ledger answers, tidy returns what
// this pool has not needed for a while.
func (p *allocator) tidy(ctx context.Context) {
	p.mu.Lock()
	blocks, claims := netmap.SortedPrefixes(p.returns), netmap.SortedAddrs(p.unclaims)
	p.mu.Unlock()
	for _, b := range blocks {
		p.problem(p.resendReturn(ctx, b))
	}
	for _, a := range claims {
		p.problem(p.resendUnclaim(ctx, a))
	}
	p.mu.Lock()
	heard := len(p.returns)+len(p.unclaims) == 0
	if p.request == nil {
		p.pruneCededOutside()
	}
	for what, g := range p.givenUp {
		if time.Since(g.at) > answersWithin && !p.pending(what) {
			delete(p.givenUp, what)
		}
	}
	p.mu.Unlock()
	for more := heard; more; {
		var err error
		more, err = p.returnOne(ctx)
		p.problem(err)
	}
}

func (p *allocator) pending(what netip.Prefix) bool {
	_, block := p.returns[what]
	_, claim := p.unclaims[what.Addr()]
	return block || claim
}

func (p *allocator) resendReturn(ctx context.Context, prefix netip.Prefix) error {
	p.mu.Lock()
	b, pending := p.returns[prefix]
	p.mu.Unlock()
	if !pending {
		return nil
	}
	return p.persistReturn(ctx, b)
}

func (p *allocator) resendUnclaim(ctx context.Context, a netip.Addr) error {
	p.mu.Lock()
	c, pending := p.unclaims[a]
	if !pending || p.Locked(a) {
		p.mu.Unlock()
		return nil
	}
	p.Lock(a)
	p.mu.Unlock()
	defer p.endChange(a)
	return p.persistUnclaim(ctx, c)
}

// returnOne returns one block or claim that was unused for idleFor. more reports whether it
// did, so that there may be others.
func (p *allocator) returnOne(ctx context.Context) (more bool, err error) {
	p.mu.Lock()
	now := time.Now()
	c, claim := p.idleClaim(now)
	if claim {
		p.Lock(c.Addr)
		p.mu.Unlock()
		err = p.giveUp(ctx, c)
		return err == nil, err
	}
	b, block := p.surplusBlock(now)
	if block {
		p.leave(b)
		p.mu.Unlock()
		err = p.returnBlock(ctx, b)
		return err == nil, err
	}
	p.mu.Unlock()
	return false, nil
}

// surplusBlock finds the highest block that was empty for idleFor and without which half a block
// is still free, or half of what comes at once if this host asks ahead. Returning it thus does
// not make this host ask for another one. The caller holds mu.
func (p *allocator) surplusBlock(now time.Time) (netmap.Block, bool) {
	if p.releasing {
		return netmap.Block{}, false
	}
	for _, s := range slices.Backward(p.Blocks()) {
		if !p.Empty(s.Prefix) {
			delete(p.idle, s.Prefix)
			continue
		}
		since, known := p.idle[s.Prefix]
		if !known {
			p.idle[s.Prefix] = now
		}
		if known && now.Sub(since) >= idleFor && p.enoughWithout(s.Prefix) {
			delete(p.idle, s.Prefix)
			return s.Block, true
		}
	}
	return netmap.Block{}, false
}

// enoughWithout reports whether enough addresses are free without a block, in the area that the block
// is for.
func (p *allocator) enoughWithout(block netip.Prefix) bool {
	area := p.prefix
	if r := p.Subnet().Range; r.IsValid() && r.Overlaps(block) {
		area = r
	}
	own := netmap.Common(block, area)
	rest := p.Free(area) - min(p.Free(own), p.Free(area))
	if n := p.atOnce(area); n >= fewAtOnce {
		return rest >= n/2
	}
	return rest >= max(netmap.Size(block)/2, 1)
}

// idleClaim finds a claim that no container has used for idleFor. The caller holds mu.
func (p *allocator) idleClaim(now time.Time) (netmap.Claim, bool) {
	for _, c := range p.Claims() {
		a := c.Addr
		since, known := p.unused[a]
		switch {
		case p.IsHeld(a) || p.Locked(a) || p.releasing:
			delete(p.unused, a)
		case !known:
			p.unused[a] = now
		case now.Sub(since) >= idleFor:
			delete(p.unused, a)
			return c.Claim, true
		}
	}
	return netmap.Claim{}, false
}
