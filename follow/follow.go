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
	// Subscribe returns a channel that holds a token while View may have changed.
	Subscribe() (changed <-chan struct{}, cancel func())
}

// When says what leads to a look besides a change of the facts.
type When struct {
	Every time.Duration   // a look is due this often
	Wake  <-chan struct{} // a token asks for a look; nil: nobody asks
}

// Look is one round of a follower.
type Look struct {
	Due   bool // When.Every has passed; the first look is not due
	Woken bool // When.Wake held a token

	source Source
	again  *time.Timer
}

// View returns the facts as they are now.
func (l Look) View() *netmap.View { return l.source.View() }

// Again asks for another look after d, unless there is one before that for another reason.
func (l Look) Again(d time.Duration) { l.again.Reset(d) }

// Facts yields a Look at once, and then one when the facts have changed, when it is due, when
// it is woken, and when the last Look asked for it. It ends when ctx ends or the caller breaks
// off. However much happens while the caller works on a Look, it leads to one more.
func Facts(ctx context.Context, source Source, when When) iter.Seq[Look] {
	return func(yield func(Look) bool) {
		changed, unsubscribe := source.Subscribe()
		defer unsubscribe()
		tick := time.NewTicker(when.Every)
		defer tick.Stop()
		again := time.NewTimer(when.Every)
		defer again.Stop()
		look := Look{source: source, again: again}
		for ctx.Err() == nil {
			// All that is there is taken: which of several events a select sees is chance.
			again.Stop()
			took(changed)
			look.Due, look.Woken = took(tick.C) || look.Due, took(when.Wake) || look.Woken
			if !yield(look) {
				return
			}
			look.Due, look.Woken = false, false
			select {
			case <-ctx.Done():
			case <-changed:
			case <-again.C:
			case <-tick.C:
				look.Due = true
			case <-when.Wake:
				look.Woken = true
			}
		}
	}
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
