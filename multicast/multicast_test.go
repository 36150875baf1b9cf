package multicast

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// TestARouteIsMadeOnce as soon as the interface is in its container, and again for another
// sandbox; a failure shows until it is over.
func TestARouteIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var tried []netmap.MAC
		inside, answer := "", error(nil)
		problem, restored := "", ""
		members := []Member{{"a", "/run/a", netmap.MAC{1}, true}}
		set := func(fn func()) { mu.Lock(); defer mu.Unlock(); fn() }
		r := New(Config{
			Members: func() (out []Member) { set(func() { out = slices.Clone(members) }); return out },
			Open:    func(string) (*netns.Namespace, error) { return netns.Open("/proc/self/ns/net") },
			Route: func(_ *netns.Namespace, mac netmap.MAC, _ bool) (name string, err error) {
				set(func() { tried, name, err = append(tried, mac), inside, answer })
				return name, err
			},
			Restore: func(_ context.Context, _ Member, _ *netns.Namespace, name string) error { restored = name; return nil },
			Problem: func(_, sentence string) { set(func() { problem = sentence }) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		times := func(what string, least, most int) {
			t.Helper()
			synctest.Wait()
			set(func() {
				if n := len(tried); n < least || n > most {
					t.Errorf("%s: tried %d times, want %d to %d", what, n, least, most)
				}
				tried = nil
			})
		}
		time.Sleep(100 * time.Millisecond)
		times("while Docker moves the interface", 4, 8)
		set(func() { inside = "eth3" })
		r.Changed()
		times("once it is there", 1, 1)
		time.Sleep(time.Minute)
		times("later", 0, 0)
		if n := r.Restore(ctx, []netmap.EndpointID{"a", "b"}); n != 1 || restored != "eth3" {
			t.Errorf("%d interfaces were made again, the last is %q; want eth3", n, restored)
		}
		times("for a new interface", 1, 1)
		set(func() { members[0].Sandbox = "/run/b"; answer = errors.New("no permission") })
		r.Changed()
		times("in another sandbox", 1, 1)
		if problem == "" {
			t.Error("a failure is not shown")
		}
		set(func() { answer = nil })
		time.Sleep(longPause)
		times("after a failure", 1, 1)
		if problem != "" {
			t.Errorf("it still shows %q", problem)
		}
		cancel()
		running.Wait()
	})
}
