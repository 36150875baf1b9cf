package underlay

import (
	"log/slog"
	"sync"
	"time"
)

// sparseEvery is the least time between two lines of a sparse log.
const sparseEvery = 10 * time.Second

// sparse logs what strangers can cause: at most one line in ten seconds, with
// the number of those left out.
type sparse struct {
	log *slog.Logger

	mu      sync.Mutex
	next    time.Time
	skipped int
}

func (s *sparse) warn(msg string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.next) {
		s.skipped++
		return
	}
	if s.skipped > 0 {
		args = append(args, "similar", s.skipped)
	}
	s.next, s.skipped = now.Add(sparseEvery), 0
	s.log.Warn("underlay: "+msg, args...)
}
