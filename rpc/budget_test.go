package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBudgetIsNeverOverdrawn(t *testing.T) {
	b := newBudget()
	var back []func()
	for range 4 {
		giveBack, err := b.take(t.Context(), maxBody)
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, giveBack)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.take(over, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("more than there is: %v", err)
	}
	back[0]()
	if _, err := b.take(t.Context(), maxBody/2); err != nil {
		t.Error(err)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := b.take(late, maxBody); !errors.Is(err, context.DeadlineExceeded) { // half of it is taken, and given back
		t.Errorf("more than is left: %v", err)
	}
	if _, err := b.take(t.Context(), maxBody/2); err != nil {
		t.Error(err)
	}
}

// TestALargeBodyIsNotWaitedForTooLong: the answer comes when the call's time is over, and
// says why.
func TestALargeBodyIsNotWaitedForTooLong(t *testing.T) {
	s, dial := impatient(t, 16, time.Minute, time.Second)
	giveBack, err := s.large.take(t.Context(), 4*maxBody)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"Text":"` + strings.Repeat("x", smallBody) + `"}`
	for _, want := range []string{"HTTP/1.1 503 Service Unavailable", "HTTP/1.1 200 OK"} {
		conn := dial()
		if _, err := fmt.Fprintf(conn, request, len(body), body); err != nil {
			t.Fatal(err)
		}
		if got := answer(conn); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		giveBack()
		giveBack = func() {}
	}
}
