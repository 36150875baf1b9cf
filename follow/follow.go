// Package follow has the loop of everything that this host keeps equal to the facts of the
// cluster: the kernel, Docker's networks, the lease.
package follow

import (
	"context"
	"iter"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Source is what is followed. *gossip.Gossip is one.
type Source interface {
	View() *netmap.View
	// Subscribe returns a channel that holds a token while View may have changed, and one that
	// holds a token while what else the source tells may have: who is a member, whether the
	// facts are complete. The function ends both.
	Subscribe() (facts, rest <-chan struct{}, cancel func())
}

// When says what leads to a look.
type When struct {
	Every time.Duration             // a look is due this often
	Wake  <-chan struct{}           // a token asks for a look; nil: nobody asks
	Of    func(netmap.Changes) bool // whether changes of the facts lead to a look; nil: all do
}

// Look is one round of a follower.
type Look struct {
	Due   bool // When.Every has passed; the first look is not due
	Woken bool // When.Wake held a token
	Rest  bool // what else the source tells may have changed, such as its members; so it is at first

	source Source
	last   **netmap.View // that Changes has told
	again  *time.Timer
}

// View returns the facts as they are now.
func (l Look) View() *netmap.View { return l.source.View() }

// Changes returns the facts as they are now, and what differs from those that it returned to
// this follower before. At first everything is new.
func (l Look) Changes() (*netmap.View, netmap.Changes) {
	view := l.source.View()
	changes := view.Since(*l.last)
	*l.last = view
	return view, changes
}

// Again asks for another look after d, unless there is one before that for another reason.
func (l Look) Again(d time.Duration) { l.again.Reset(d) }

// Facts yields a Look at once, and then one when the facts have changed in what the follower
// asked for, when the rest of the source has, when it is due, when it is woken, and when the
// last Look asked for it. It ends when ctx ends or the caller breaks off. However much happens
// while the caller works on a Look, it leads to one more.
func Facts(ctx context.Context, source Source, when When) iter.Seq[Look] {
	return func(yield func(Look) bool) {
		facts, rest, unsubscribe := source.Subscribe()
		defer unsubscribe()
		tick := time.NewTicker(when.Every)
		defer tick.Stop()
		again := time.NewTimer(when.Every)
		defer again.Stop()
		f := filter{source: source, of: when.Of}
		look := Look{source: source, last: new(*netmap.View), again: again, Rest: true}
		for ctx.Err() == nil {
			// All that is there is taken: which of several events a select sees is chance.
			again.Stop()
			took(facts)
			look.Rest = took(rest) || look.Rest
			look.Due, look.Woken = took(tick.C) || look.Due, took(when.Wake) || look.Woken
			f.concerned()
			if !yield(look) {
				return
			}
			look.Due, look.Woken, look.Rest = false, false, false
			for waiting := true; waiting; {
				waiting = false
				select {
				case <-ctx.Done():
				case <-facts:
					waiting = !f.concerned()
				case <-rest:
					look.Rest = true
				case <-again.C:
				case <-tick.C:
					look.Due = true
				case <-when.Wake:
					look.Woken = true
				}
			}
		}
	}
}

// filter decides which changes of the facts lead to a look.
type filter struct {
	source Source
	of     func(netmap.Changes) bool
	last   *netmap.View // that it was asked about
}

// concerned reports whether the follower asked for what has changed since the last call.
func (f *filter) concerned() bool {
	if f.of == nil {
		return true
	}
	last := f.last
	f.last = f.source.View()
	return f.of(f.last.Since(last))
}

// took reports whether a channel held a token, and takes it.
func took[T any](c <-chan T) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
