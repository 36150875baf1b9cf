package turn

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Keyed lets calls about the same thing happen one after the other, those about
// different things at once. A call that waits gives up when its context ends, so
// one hanging call makes the others late, never silent. Make it with NewKeyed. Safe for
// concurrent use.
type Keyed struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the key is free again
}

// NewKeyed is a Keyed of which nobody holds a key.
func NewKeyed() *Keyed { return &Keyed{taken: map[string]chan struct{}{}} }

// Lock waits for all keys and returns the function that releases them. It locks keys in
// sorted order, so two callers never wait for each other. The error names the key.
func (l *Keyed) Lock(ctx context.Context, keys ...string) (release func(), err error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	for i, key := range keys {
		if err := l.lockOne(ctx, key); err != nil {
			l.release(keys[:i])
			return nil, fmt.Errorf("an earlier call for %s is still under way; try again, and look at weft status if this lasts: %w", key, err)
		}
	}
	return func() { l.release(keys) }, nil
}

func (l *Keyed) lockOne(ctx context.Context, key string) error {
	for {
		l.mu.Lock()
		free, busy := l.taken[key]
		if !busy {
			l.taken[key] = make(chan struct{})
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Keyed) release(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		close(l.taken[key])
		delete(l.taken, key)
	}
}
