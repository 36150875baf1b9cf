package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrClosed is wrapped by the errors of commits after Close.
var ErrClosed = errors.New("the store is closed")

// maxGroup bounds the changes that share one sync.
const maxGroup = 1024

// grouper lets concurrent changes share one write. Invariant: while changes are pending,
// exactly one caller is the leader, which writes or is about to write. Afterwards it makes
// the first of those that came meanwhile the leader. So a single caller never waits, and
// no caller keeps writing on behalf of others.
type grouper struct {
	write func([]change) error

	mu      sync.Mutex
	idle    sync.Cond
	leading bool
	pending []*waiter
	broken  error // set by a failed sync: it is not known what is on disk
	failed  error // of the last write
	closed  bool
}

type waiter struct {
	change change
	done   chan error // carries the result, or errLead once
}

// errLead tells a waiting caller that it is the leader now.
var errLead = errors.New("lead")

func newGrouper(write func([]change) error) *grouper {
	g := &grouper{write: write}
	g.idle.L = &g.mu
	return g
}

// do writes a change, and returns when it is on disk or has failed.
func (g *grouper) do(c change) error {
	if err := c.check(); err != nil {
		return err
	}
	w := &waiter{change: c, done: make(chan error, 1)}
	lead, err := g.enter(w)
	if err != nil {
		return err
	}
	if !lead {
		if err := <-w.done; !errors.Is(err, errLead) {
			return err
		}
	}
	g.lead()
	return <-w.done
}

// enter queues a caller and reports whether it is the leader.
func (g *grouper) enter(w *waiter) (lead bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return false, fmt.Errorf("store: write: %w", ErrClosed)
	case g.broken != nil:
		return false, g.broken
	}
	g.pending = append(g.pending, w)
	lead = !g.leading
	g.leading = true
	return lead, nil
}

// lead writes one group and makes the next caller the leader.
func (g *grouper) lead() {
	g.mu.Lock()
	n := min(len(g.pending), maxGroup)
	group := g.pending[:n:n]
	g.pending = g.pending[n:]
	err := g.broken
	g.mu.Unlock()

	if err == nil {
		err = explain(g.write(changesOf(group)))
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && !noRoom(err) {
		g.broken = err
	}
	g.failed = err
	for _, w := range group {
		w.done <- err
	}
	if len(g.pending) > 0 {
		g.pending[0].done <- errLead
		return
	}
	g.leading = false
	g.idle.Broadcast()
}

// close refuses new changes and waits for those under way. It returns false if one of
// them failed so that it is not known what is on disk.
func (g *grouper) close() (sound bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.leading {
		g.idle.Wait()
	}
	return g.broken == nil
}

func (g *grouper) problem() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		return ""
	}
	return g.failed.Error()
}

func changesOf(group []*waiter) []change {
	cs := make([]change, len(group))
	for i, w := range group {
		cs[i] = w.change
	}
	return cs
}

// explain adds to the error of a write what it means and what to do about it.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case noRoom(err):
		return fmt.Errorf("store: the disk of the state directory is full, nothing was changed; make room there: %w", err)
	default:
		return fmt.Errorf("store: write failed, nothing more is written until the agent is restarted; look at the disk: %w", err)
	}
}

// noRoom reports whether a write failed only because there is no space. bbolt v1.5 keeps
// only the text of some errors (db.go, grow).
func noRoom(err error) bool {
	for _, e := range []unix.Errno{unix.ENOSPC, unix.EDQUOT} {
		if errors.Is(err, e) || err != nil && strings.Contains(err.Error(), e.Error()) {
			return !errors.Is(err, errBroken)
		}
	}
	return false
}
