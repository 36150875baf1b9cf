package loglimit

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestATopicIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			l.Warn("one", "it went wrong", "err", "x")
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%d lines, want 1:\n%s", n, out.String())
		}
		time.Sleep(Every)
		l.Warn("one", "it went wrong", "err", "x")
		if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "similar=999") {
			t.Errorf("%d lines, want 2 and similar=999:\n%s", n, out.String())
		}
		l.Log(slog.LevelDebug, "two", "not logged")
		if len(l.topics) != 1 {
			t.Errorf("%d topics, want 1", len(l.topics))
		}
	})
}

// TestInventedTopicsShareOne: whoever sends may choose what tells topics apart.
func TestInventedTopicsShareOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&out, nil)))
		for minute := range 3 {
			for i := range 4000 {
				l.Warn(fmt.Sprint(minute, i), "it went wrong")
			}
			time.Sleep(Every)
		}
		if n := strings.Count(out.String(), "\n"); n > 3*(MaxTopics+1) {
			t.Errorf("%d lines in three minutes", n)
		}
		if len(l.topics) > MaxTopics+1 {
			t.Errorf("%d topics", len(l.topics))
		}
		l.Warn("honest", "is logged")
		if !strings.Contains(out.String(), "is logged") {
			t.Error("a new topic is not logged a minute after the flood")
		}
	})
}
