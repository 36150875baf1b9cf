// Package loglimit bounds the lines that other hosts can cause in the log. A topic is
// logged at once, then at most once a minute, with the number of lines left out. All
// topics together have a limit, too.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Every is the least time between two lines of one topic.
const Every = time.Minute

// MaxTopics bounds the topics that are distinguished within Every, and so the lines.
// Further topics share one.
const MaxTopics = 64

// Limiter logs events that other hosts may cause any number of times. It is safe for
// concurrent use.
type Limiter struct {
	log *slog.Logger

	mu     sync.Mutex
	topics map[string]*topic
}

type topic struct {
	last    time.Time
	skipped int
}

// New makes a Limiter that writes to log.
func New(log *slog.Logger) *Limiter {
	return &Limiter{log: log, topics: map[string]*topic{}}
}

// Warn logs a warning under a topic, which should name a cause and a peer.
func (l *Limiter) Warn(about, msg string, args ...any) {
	l.Log(slog.LevelWarn, about, msg, args...)
}

// Log logs at a level under a topic. A line below the log's own level costs no topic.
func (l *Limiter) Log(level slog.Level, about, msg string, args ...any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	skipped, now := l.due(about)
	if !now {
		return
	}
	if skipped > 0 {
		args = append(args, "similar", skipped)
	}
	l.log.Log(context.Background(), level, msg, args...)
}

func (l *Limiter) due(about string) (skipped int, now bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topic(about)
	if time.Since(t.last) < Every {
		t.skipped++
		return 0, false
	}
	skipped = t.skipped
	t.last, t.skipped = time.Now(), 0
	return skipped, true
}

// topic finds a topic, or adds it if there are fewer than MaxTopics. The caller holds mu.
func (l *Limiter) topic(about string) *topic {
	if t := l.topics[about]; t != nil {
		return t
	}
	if len(l.topics) >= MaxTopics {
		for key, t := range l.topics {
			if time.Since(t.last) >= Every {
				delete(l.topics, key)
			}
		}
	}
	if len(l.topics) >= MaxTopics {
		about = "" // shared
	}
	t := l.topics[about]
	if t == nil {
		t = &topic{}
		l.topics[about] = t
	}
	return t
}
