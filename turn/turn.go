// Package turn has a lock for work that takes long, such as writing to a disk or asking
// other hosts. Unlike with a mutex, a caller can wait for it until a context ends, and a
// waiting caller is durably blocked for testing/synctest, so that virtual time advances
// while the holder waits for something. Sleep is a pause that a context ends, Poke wakes a
// loop.
package turn

import (
	"context"
	"time"
)

// Turn is held by one caller at a time. It is safe for concurrent use. The zero Turn
// blocks forever; New makes a usable one.
type Turn chan struct{}

// New returns a Turn that nobody holds.
func New() Turn { return make(Turn, 1) }

// Wait blocks until the caller holds the turn.
func (t Turn) Wait() (end func()) {
	t <- struct{}{}
	return t.end
}

// WaitWithin blocks until the caller holds the turn or the context ends. If the context
// has ended already, it does not take the turn.
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

// Try takes the turn if nobody holds it.
func (t Turn) Try() (end func(), ok bool) {
	select {
	case t <- struct{}{}:
		return t.end, true
	default:
		return nil, false
	}
}

func (t Turn) end() { <-t }

// Poke puts a token into c, which has space for one, unless there is one already. It never
// blocks.
func Poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Sleep waits for d, or until ctx ends. It returns false if ctx has ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
