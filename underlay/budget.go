package underlay

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
)

// Limits of the bodies that are in memory at once, in bytes. Frames up to smallFrame do
// not count: pendingConns and the slots bound them.
const (
	maxBodies     = 64 << 20
	maxBodiesFrom = 32 << 20 // from one source
	smallFrame    = 32 << 10
)

// budget is memory, or something else with a number, that sources share; one alone never
// gets all of it. Safe for concurrent use.
type budget struct {
	perSource int

	mu    sync.Mutex
	left  int
	taken map[netip.Prefix]int
	freed chan struct{} // closed and replaced when some is given back
}

func newBudget(all, perSource int) *budget {
	return &budget{perSource: perSource, left: all, taken: map[netip.Prefix]int{}, freed: make(chan struct{})}
}

// try takes n for a source if so much is left; else it returns a channel that is closed
// when some is given back.
func (b *budget) try(from netip.Prefix, n int) (ok bool, freed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left || n > b.perSource-b.taken[from] {
		return false, b.freed
	}
	b.left -= n
	b.taken[from] += n
	return true, nil
}

// take waits until n is left or ctx ends.
func (b *budget) take(ctx context.Context, from netip.Prefix, n int) error {
	for {
		ok, freed := b.try(from, n)
		if ok {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return fmt.Errorf("no memory for %d bytes, others are being received: %w", n, ctx.Err())
		}
	}
}

// give returns what was taken.
func (b *budget) give(from netip.Prefix, n int) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
	if b.taken[from] -= n; b.taken[from] == 0 {
		delete(b.taken, from)
	}
	close(b.freed)
	b.freed = make(chan struct{})
}
