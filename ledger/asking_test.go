package ledger

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestASlowRequestIsNotOvertakenBeyondMemory keeps the oldest request open while
// others go on: the window closes in time, the slow one is still decided, and
// then it goes on.
func TestASlowRequestIsNotOvertakenBeyondMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		var a asking
		a.init()
		slow, settled, _ := a.begin(t.Context())
		for n := 1; ; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			request, upTo, ok := a.begin(ctx)
			cancel()
			if !ok {
				if n != maxAnswered {
					t.Errorf("the window closed after %d requests, want %d", n, maxAnswered)
				}
				break
			}
			c.ok(Command{Kind: KindRenew, Host: hostID(1), Request: request, Settled: upTo})
			a.end(request)
		}
		c.ok(Command{Kind: KindRenew, Host: hostID(1), Request: slow, Settled: settled})
		time.AfterFunc(time.Second, func() { a.end(slow) })
		if _, _, ok := a.begin(t.Context()); !ok {
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
		type open struct{ request, settled uint64 }
		var waiting []open
		for range 2000 {
			if len(waiting) < maxOpen {
				if request, settled, ok := a.begin(ended); ok {
					waiting = append(waiting, open{request, settled})
				}
			}
			if len(waiting) == 0 || r.IntN(2) == 0 && len(waiting) < maxOpen {
				continue
			}
			i := len(waiting) - 1 // mostly the newest: the others are slow
			if r.IntN(40) == 0 || a.last-waiting[0].request >= maxAnswered-1 {
				i = 0
			}
			w := waiting[i]
			cmd := Command{Kind: KindRenew, Host: hostID(1), Request: w.request, Settled: w.settled}
			if first, again := c.ok(cmd), c.ok(cmd); first.Index != again.Index {
				t.Fatalf("seed %d: request %d was decided twice", seed, w.request)
			}
			a.end(w.request)
			waiting = append(waiting[:i], waiting[i+1:]...)
		}
	}
}
