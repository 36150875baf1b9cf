// Package turn has a lock for what takes its time: a disk is written, other hosts are
// asked. Unlike a mutex it can be waited for until a context ends, and who waits for it
// lets virtual time go on (testing/synctest), in which the one who has it waits himself.
// Sleep is a pause that a context ends.
package turn

import (
	"context"
	"time"
)

// Turn is had by one at a time. It is safe for concurrent use; the zero Turn is nobody's
// ever.
type Turn chan struct{}

// New is a Turn that nobody has.
func New() Turn { return make(Turn, 1) }

// Wait takes the turn, however long that takes.
func (t Turn) Wait() (end func()) {
	t <- struct{}{}
	return t.end
}

// WaitWithin takes the turn unless the context ends before, or has ended.
func (t Turn) WaitWithin(ctx context.Context) (end func(), err error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	select {
	case t <- struct{}{}:
		return t.end, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Try takes the turn if nobody has it.
func (t Turn) Try() (end func(), ok bool) {
	select {
	case t <- struct{}{}:
		return t.end, true
	default:
		return nil, false
	}
}

func (t Turn) end() { <-t }

// Sleep waits for d, or until ctx ends. It reports whether ctx goes on.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
