package e2e

import (
	"sync"
	"testing"
	"time"
)

const (
	// atOnce is how many tests work at once: they share the processors, and have deadlines.
	atOnce = 3
	// stormCounts is for how many of them a storm or an attack counts while it lasts.
	stormCounts = 2
)

// places limits how many tests work at the same time, and serialises those that need the members
// alone.
type places struct {
	mu      sync.Mutex
	changed *sync.Cond
	free    int
	storms  int        // that wait for places: nobody else gets one before
	storm   sync.Mutex // held while one lasts

	alone sync.WaitGroup // tests of onMembersAlone that have not ended
	turn  sync.Mutex     // held by the one of them that runs
}

func newPlaces() *places {
	p := &places{free: atOnce}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// take waits for a test's place.
func (p *places) take() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.free < 1 || p.storms > 0 {
		p.changed.Wait()
	}
	p.free--
}

func (p *places) give(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free += n
	p.changed.Broadcast()
}

// beginStorm waits until the calling test, which has a place, can be the only storm. After the storm
// the test calls endStorm and has its place again. While it waits it has no place: two storms that
// kept theirs could wait for each other for ever.
//
// A storm gets places before tests that wait for one. With a semaphore that serves its callers in the
// order of their requests, storms would begin after all tests that already wait, and end long after
// them.
func (p *places) beginStorm() {
	p.give(1)
	p.storm.Lock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.storms++
	for p.free < stormCounts {
		p.changed.Wait()
	}
	p.storms--
	p.free -= stormCounts
	p.changed.Broadcast() // one place may be left
}

func (p *places) endStorm() {
	p.storm.Unlock()
	p.give(stormCounts - 1)
}

// onMembersAlone begins a test that must have the members for itself: it takes hosts, agents
// or links down, or counts what happens there. Such tests run first, one at a time.
func onMembersAlone(t *testing.T) *scene {
	t.Helper()
	p := up(t).places
	p.alone.Add(1) // before any test of onMembers goes on
	t.Parallel()
	p.turn.Lock()
	t.Cleanup(func() {
		p.turn.Unlock()
		p.alone.Done()
	})
	s := stage(t)
	s.work()
	return s
}

// onMembers begins a test that shares the members with others.
func onMembers(t *testing.T) *scene {
	t.Helper()
	p := up(t).places
	t.Parallel()
	p.alone.Wait()
	s := stage(t)
	s.work()
	return s
}

// onSpares begins a test that uses only hosts that it borrows. It runs beside all others.
func onSpares(t *testing.T) *scene {
	t.Helper()
	s := stage(t)
	t.Parallel()
	return s
}

// work waits for the test's place among those that work.
func (s *scene) work() {
	if !s.working {
		s.places.take()
		s.working, s.began = true, time.Now()
	}
}

// loud waits until the test, which has its place, is the only storm, so that it may use most of the
// processors' time. The storm ends when done is called, or with the test.
func (s *scene) loud() (done func()) {
	s.places.beginStorm()
	done = sync.OnceFunc(s.places.endStorm)
	s.t.Cleanup(done)
	return done
}

// rest gives the place up, because what is left of the test mostly waits.
func (s *scene) rest() {
	if s.working {
		s.working = false
		s.t.Logf("had its place for %.0f s", time.Since(s.began).Seconds())
		s.places.give(1)
	}
}
