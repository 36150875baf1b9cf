package ledger

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

func renewal() state.Command { return state.Command{Kind: state.KindRenew, Host: hostID(1)} }

// TestWhatWasGivenUpIsNotDecidedLater: another request is open since before, and what
// was given up arrives after what was asked for since then. It would take a subnet that
// is in use.
func TestWhatWasGivenUpIsNotDecidedLater(t *testing.T) {
	c := newCluster(t, 1)
	var a asking
	a.init()
	number := func(cmd state.Command) state.Command {
		a.begin(t.Context(), &cmd)
		return cmd
	}
	slow := number(renewal())
	stuck := number(state.Command{Kind: state.KindUseSubnets, Host: hostID(1), UseSubnets: &state.UseSubnets{}})
	a.end(stuck.Request)
	c.ok(number(ensure(1, web)))
	b := c.ok(number(grant(1, web))).Block
	c.refused(stuck, netmap.BadInput, "too late")
	if !slices.ContainsFunc(c.state.Changes(), func(f netmap.Change) bool { return f.Key == netmap.BlockKey(b.Prefix) && f.Value != nil }) {
		t.Errorf("%s was taken from its owner", b.Prefix)
	}
	c.ok(slow)
}

// TestASlowRequestIsNotOvertakenBeyondMemory keeps the oldest request open while
// others go on: the window closes in time, the slow one is still decided, and
// then it goes on.
func TestASlowRequestIsNotOvertakenBeyondMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		var a asking
		a.init()
		slow, other := renewal(), renewal()
		a.begin(t.Context(), &slow)
		for n := 1; ; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			ok := a.begin(ctx, &other)
			cancel()
			if !ok {
				if n != state.MaxAnswered {
					t.Errorf("the window closed after %d requests, want %d", n, state.MaxAnswered)
				}
				break
			}
			c.ok(other)
			a.end(other.Request)
		}
		c.ok(slow)
		time.AfterFunc(time.Second, func() { a.end(slow.Request) })
		if !a.begin(t.Context(), &other) {
			t.Error("the window stays closed")
		}
	})
}

// TestNoOpenRequestIsEverTooLate decides the requests of many askers in random
// order: whatever is still open is answered, and a copy of it the same.
func TestNoOpenRequestIsEverTooLate(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newCluster(t, 1)
		var a asking
		a.init()
		ended, cancel := context.WithCancel(t.Context())
		cancel() // begin does not wait
		var waiting []state.Command
		for range 2000 {
			if len(waiting) < maxOpen {
				if cmd := renewal(); a.begin(ended, &cmd) {
					waiting = append(waiting, cmd)
				}
			}
			if len(waiting) == 0 || r.IntN(2) == 0 && len(waiting) < maxOpen {
				continue
			}
			i := len(waiting) - 1 // mostly the newest: the others are slow
			if r.IntN(40) == 0 || a.last-waiting[0].Request >= state.MaxAnswered-1 {
				i = 0
			}
			cmd := waiting[i]
			if first, again := c.ok(cmd), c.ok(cmd); first.Index != again.Index {
				t.Fatalf("seed %d: request %d was decided twice", seed, cmd.Request)
			}
			a.end(cmd.Request)
			waiting = append(waiting[:i], waiting[i+1:]...)
		}
	}
}
