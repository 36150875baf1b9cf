package follow_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// source is facts that a test changes.
type source struct {
	changed chan struct{}
	rest    chan struct{}
	decided uint64
	hosts   []netmap.HostView
	left    int // how often a subscription ended
}

func newSource() *source {
	s := &source{changed: make(chan struct{}, 1), rest: make(chan struct{}, 1)}
	s.changed <- struct{}{} // as a subscription to gossip begins
	s.rest <- struct{}{}
	return s
}

func (s *source) View() *netmap.View {
	return &netmap.View{Decided: s.decided, Generation: s.decided, Hosts: s.hosts}
}

func (s *source) Subscribe() (facts, rest <-chan struct{}, cancel func()) {
	return s.changed, s.rest, func() { s.left++ }
}

func (s *source) change() {
	s.decided++
	turn.Poke(s.changed)
}

// seen is one Look, and when it was.
type seen struct {
	at         time.Duration
	decided    uint64
	due, woken bool
}

// followed records the looks at a source until ctx ends.
func followed(ctx context.Context, s *source, when follow.When, work func(follow.Look)) *[]seen {
	begin := time.Now()
	out := &[]seen{}
	go func() {
		for l := range follow.Facts(ctx, s, when) {
			*out = append(*out, seen{time.Since(begin), l.View().Decided, l.Due, l.Woken})
			work(l)
		}
	}()
	synctest.Wait()
	return out
}

func equal(t *testing.T, got *[]seen, want ...seen) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(*got, want) {
		t.Errorf("looks\n%v\nwant\n%v", *got, want)
	}
}

func TestLooksAtOnceAfterChangesAndWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, wake := newSource(), make(chan struct{}, 1)
		got := followed(ctx, s, follow.When{Every: time.Minute, Wake: wake}, func(follow.Look) {})
		want := []seen{{}}
		equal(t, got, want...)

		time.Sleep(10 * time.Second)
		s.change()
		want = append(want, seen{at: 10 * time.Second, decided: 1})
		equal(t, got, want...)

		time.Sleep(10 * time.Second)
		turn.Poke(wake)
		want = append(want, seen{at: 20 * time.Second, decided: 1, woken: true})
		equal(t, got, want...)

		time.Sleep(110 * time.Second)
		want = append(want, seen{at: time.Minute, decided: 1, due: true}, seen{at: 2 * time.Minute, decided: 1, due: true})
		equal(t, got, want...)

		cancel()
		synctest.Wait()
		s.change()
		time.Sleep(time.Hour)
		equal(t, got, want...)
		if s.left != 1 {
			t.Errorf("the subscription ended %d times", s.left)
		}
	})
}

// TestWhatHappensMeanwhileIsOneLook: a look that takes long is never joined by another one,
// and all that happened meanwhile leads to one more.
func TestWhatHappensMeanwhileIsOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, wake := newSource(), make(chan struct{}, 1)
		at := 0
		got := followed(t.Context(), s, follow.When{Every: time.Minute, Wake: wake}, func(follow.Look) {
			if at++; at > 1 {
				t.Error("two looks at once")
			}
			turn.Sleep(t.Context(), 70*time.Second)
			at--
		})
		for range 5 {
			time.Sleep(time.Second)
			s.change()
			turn.Poke(wake)
		}
		time.Sleep(100 * time.Second)
		equal(t, got, seen{}, seen{at: 70 * time.Second, decided: 5, due: true, woken: true})
	})
}

// TestAskForAnotherLook: what a look asks for comes once, and not after another look.
func TestAskForAnotherLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, looks := newSource(), 0
		got := followed(t.Context(), s, follow.When{Every: time.Minute}, func(l follow.Look) {
			if looks++; looks%2 == 1 {
				l.Again(10 * time.Second)
			}
		})
		time.Sleep(5 * time.Second)
		s.change() // its look is the one that the first asked for
		time.Sleep(15 * time.Second)
		s.change()
		time.Sleep(30 * time.Second)
		equal(t, got, seen{}, seen{at: 5 * time.Second, decided: 1}, seen{at: 20 * time.Second, decided: 2}, seen{at: 30 * time.Second, decided: 2})
	})
}

func TestEndsWhenItsCallerDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		for range follow.Facts(t.Context(), s, follow.When{Every: time.Minute}) {
			break
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range follow.Facts(ended, s, follow.When{Every: time.Minute}) {
			t.Error("a look after the end")
		}
		if s.left != 2 {
			t.Errorf("%d subscriptions ended, want 2", s.left)
		}
	})
}

// TestOnlyWhatItAskedForLeadsToALook: other changes are told to it with the next look.
func TestOnlyWhatItAskedForLeadsToALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		var told []netmap.Changes
		when := follow.When{Every: time.Minute, Of: func(c netmap.Changes) bool { return len(c.Hosts) > 0 }}
		got := followed(t.Context(), s, when, func(l follow.Look) {
			_, changes := l.Changes()
			told = append(told, changes)
		})
		time.Sleep(10 * time.Second)
		s.change()
		want := []seen{{}}
		equal(t, got, want...)

		time.Sleep(10 * time.Second)
		s.hosts = []netmap.HostView{{ID: netmap.HostID{1}}}
		s.change()
		want = append(want, seen{at: 20 * time.Second, decided: 2})
		equal(t, got, want...)

		turn.Poke(s.rest)
		want = append(want, want[1])
		equal(t, got, want...)

		time.Sleep(40 * time.Second)
		equal(t, got, append(want, seen{at: time.Minute, decided: 2, due: true})...)
		if hosts := len(told[1].Hosts); hosts != 1 || !told[0].None() || !told[1].Ledger || !told[2].None() || !told[3].None() {
			t.Errorf("told %+v", told)
		}
	})
}

// TestAWakeThatIsOfNoInterestKeepsWhatWasAskedFor: the look that the last one asked for comes.
func TestAWakeThatIsOfNoInterestKeepsWhatWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, looks := newSource(), 0
		when := follow.When{Every: time.Minute, Of: func(netmap.Changes) bool { return false }}
		got := followed(t.Context(), s, when, func(l follow.Look) {
			if looks++; looks == 1 {
				l.Again(10 * time.Second)
			}
		})
		time.Sleep(5 * time.Second)
		s.change()
		time.Sleep(10 * time.Second)
		equal(t, got, seen{}, seen{at: 10 * time.Second, decided: 1})
	})
}
