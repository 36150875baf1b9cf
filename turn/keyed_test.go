package turn

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeysTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewKeyed()
		release, err := l.Lock(t.Context(), "b", "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.Lock(ctx, "0", "b")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "call for b") {
			t.Errorf("took b twice: %v", err)
		}
		other, err := l.Lock(t.Context(), "0") // given back by the call that gave up
		if err != nil {
			t.Fatal(err)
		}
		other()
		release()
		if len(l.taken) != 0 {
			t.Errorf("left: %v", l.taken)
		}
	})
}

// TestKeysNeverWaitInACircle: many callers take several keys in any order; inside
// a bubble a circle of waiters would be found as a deadlock.
func TestKeysNeverWaitInACircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewKeyed()
		keys := []string{"a", "b", "c", "d"}
		inside := map[string]*atomic.Int32{}
		for _, k := range keys {
			inside[k] = new(atomic.Int32)
		}
		var callers sync.WaitGroup
		for seed := range uint64(50) {
			callers.Go(func() {
				r := rand.New(rand.NewPCG(seed, 1))
				for range 20 {
					want := []string{keys[r.IntN(4)], keys[r.IntN(4)], keys[r.IntN(4)]}
					release, err := l.Lock(t.Context(), want...)
					if err != nil {
						t.Error(err)
						return
					}
					distinct := map[string]bool{want[0]: true, want[1]: true, want[2]: true}
					for k := range distinct {
						if n := inside[k].Add(1); n != 1 {
							t.Errorf("%d hold %s", n, k)
						}
					}
					time.Sleep(time.Millisecond)
					for k := range distinct {
						inside[k].Add(-1)
					}
					release()
				}
			})
		}
		callers.Wait()
		if len(l.taken) != 0 {
			t.Errorf("left: %v", l.taken)
		}
	})
}
