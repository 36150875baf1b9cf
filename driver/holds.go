package driver

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// holds lets calls about the same thing happen one after the other, those about
// different things at once. A call that waits gives up when its context ends, so
// one hanging call makes the others late, never silent. Safe for concurrent use.
type holds struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the key is free again
}

// take waits for all keys and answers with the way to give them back. Keys are
// taken in sorted order, so two callers never wait for each other.
func (h *holds) take(ctx context.Context, keys ...string) (release func(), err error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	for i, key := range keys {
		if err := h.takeOne(ctx, key); err != nil {
			h.release(keys[:i])
			return nil, fmt.Errorf("an earlier call for %s is still under way; try again, and look at weft status if this lasts: %w", key, err)
		}
	}
	return func() { h.release(keys) }, nil
}

func (h *holds) takeOne(ctx context.Context, key string) error {
	for {
		h.mu.Lock()
		free, busy := h.taken[key]
		if !busy {
			h.taken[key] = make(chan struct{})
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *holds) release(keys []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		close(h.taken[key])
		delete(h.taken, key)
	}
}
