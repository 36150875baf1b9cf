package turn_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/turn"
)

// TestOneAtATime: who waits gets it when it ends, or gives up with his context; and time
// goes on meanwhile.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := turn.New()
		end := one.Wait()
		if _, ok := one.Try(); ok {
			t.Error("two have it")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begin := time.Now()
		if _, err := one.WaitWithin(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Hour {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		waited := make(chan time.Duration)
		go func() {
			defer one.Wait()()
			waited <- time.Since(begin)
		}()
		time.Sleep(time.Hour)
		end()
		if got := <-waited; got != 2*time.Hour {
			t.Errorf("it came after %v", got)
		}
		synctest.Wait()
		if _, err := one.WaitWithin(ctx); err == nil {
			t.Error("taken though the context had ended")
		}
		for range 2 {
			end, ok := one.Try()
			if !ok {
				t.Fatal("nobody has it, and it is not to be had")
			}
			end()
		}
	})
}

// TestSleep: it takes its time, or ends with its context, also with one that has ended.
func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
		defer cancel()
		begin := time.Now()
		for _, want := range []struct {
			goesOn bool
			after  time.Duration
		}{{true, time.Hour}, {false, 90 * time.Minute}, {false, 90 * time.Minute}} {
			if goesOn := turn.Sleep(ctx, time.Hour); goesOn != want.goesOn || time.Since(begin) != want.after {
				t.Errorf("%t after %v, want %t after %v", goesOn, time.Since(begin), want.goesOn, want.after)
			}
		}
	})
}
