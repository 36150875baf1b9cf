package lab

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("not yet")
		looks := 0
		third := func() error {
			if looks++; looks < 3 {
				return failed
			}
			return nil
		}
		if err := Until(t.Context(), time.Minute, third); err != nil || looks != 3 {
			t.Errorf("%v after %d looks, want success at the third", err, looks)
		}
		begin := time.Now()
		if err := Until(t.Context(), time.Minute, func() error { return failed }); !errors.Is(err, failed) || time.Since(begin) != time.Minute {
			t.Errorf("%v after %v, want the check's error after a minute", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Until(ctx, time.Minute, func() error { return failed }); !errors.Is(err, failed) {
			t.Errorf("%v with a context that ended", err)
		}
	})
}
