package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// world has sandboxes and the servers in them.
type world struct {
	mu       sync.Mutex
	members  []Member
	exists   map[string]bool
	serving  map[string]*fake
	began    int
	broken   error
	problems string
	moved    func()
}

type fake struct {
	w        *world
	path     string
	networks func() []netmap.NetworkID
	lost     bool // what put it in charge is gone
	renewed  int
	ended    string
}

func (f *fake) Refresh() error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.renewed++
	if f.lost {
		return errors.New("the rules are gone")
	}
	return nil
}

func (f *fake) AskDocker(context.Context, *wire.Msg) (*wire.Msg, error) {
	return new(wire.Msg).SetQuestion(f.path+".", wire.TypeA), nil
}

func (f *fake) end(how string) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.ended = how
	if f.w.serving[f.path] == f {
		delete(f.w.serving, f.path)
	}
	return nil
}

func (f *fake) Close() error { return f.end("closed") }
func (f *fake) Stop() error  { return f.end("stopped") }

func play(t *testing.T, story func(w *world, s *Sandboxes)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{exists: map[string]bool{}, serving: map[string]*fake{}}
		opened := "" // Open and Serve of one sandbox follow each other
		s := New(Config{
			Members: func() []Member { return w.with(func() any { return slices.Clone(w.members) }).([]Member) },
			Open: func(path string) (*netns.Namespace, error) {
				opened = path
				if ok := w.with(func() any { return w.exists[path] }).(bool); !ok {
					return nil, netns.ErrNotExist
				}
				return netns.Open("/proc/self/ns/net")
			},
			Serve: func(_ *netns.Namespace, _ bool, networks func() []netmap.NetworkID) (Server, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.broken != nil {
					return nil, w.broken
				}
				w.began++
				f := &fake{w: w, path: opened, networks: networks}
				w.serving[opened] = f
				return f, nil
			},
			Watch: func(ctx context.Context, moved func()) {
				w.with(func() any { w.moved = moved; return nil })
				<-ctx.Done()
			},
			Problem: func(_, sentence string) { w.with(func() any { w.problems = sentence; return nil }) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		synctest.Wait()
		story(w, s)
		cancel()
		running.Wait()
		if len(w.serving) > 0 {
			t.Errorf("at the end %d sandboxes are served", len(w.serving))
		}
	})
}

func (w *world) with(do func() any) any {
	w.mu.Lock()
	defer w.mu.Unlock()
	return do()
}

func (w *world) server(path string) *fake {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serving[path]
}

func (w *world) set(members ...Member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = members
}

func (w *world) make(path string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exists[path] = is
}

// TestASandboxIsServedAtOnce where it exists when an endpoint enters it, and else as soon as an interface is
// moved into it.
func TestASandboxIsServedAtOnce(t *testing.T) {
	play(t, func(w *world, s *Sandboxes) {
		w.make("28", true)
		w.set(Member{Sandbox: "28", Network: 1}, Member{Sandbox: "20", Network: 1}, Member{Network: 1})
		s.Serve()
		if w.server("28") == nil || w.server("20") != nil || len(w.serving) != 1 {
			t.Errorf("served are %v, want 28 alone", w.serving)
		}
		w.make("20", true)
		w.moved()
		synctest.Wait()
		if w.server("20") == nil {
			t.Error("a sandbox that exists now is not served")
		}
		if w.began != 2 {
			t.Errorf("%d servers were started, want 2", w.began)
		}
	})
}

// TestNetworksInTheOrderOfTheContainer: the first of its settings, then by name; a network that it is connected to
// later is there with the next question.
func TestNetworksInTheOrderOfTheContainer(t *testing.T) {
	play(t, func(w *world, s *Sandboxes) {
		w.make("box", true)
		w.set(Member{Sandbox: "box", Network: 3, Name: "c"}, Member{Sandbox: "box", Network: 1, Name: "z", First: true})
		s.Serve()
		box := w.server("box")
		for _, step := range []struct {
			members []Member
			want    string
		}{
			{w.members, "[1 3]"},
			{append(slices.Clone(w.members), Member{Sandbox: "box", Network: 2, Name: "b"}), "[1 2 3]"},
			{[]Member{{Sandbox: "box", Network: 2, Name: "b"}}, "[2]"},
		} {
			w.set(step.members...)
			s.Changed()
			synctest.Wait()
			if got := fmt.Sprint(box.networks()); got != step.want {
				t.Errorf("networks are %s, want %s", got, step.want)
			}
		}
		w.set()
		s.Changed()
		synctest.Wait()
		if box.ended != "closed" {
			t.Errorf("the server of a container without networks is %q", box.ended)
		}
	})
}

// TestServersStayInCharge: they are refreshed, and started again when something took their place away.
func TestServersStayInCharge(t *testing.T) {
	play(t, func(w *world, s *Sandboxes) {
		w.make("box", true)
		w.set(Member{Sandbox: "box", Network: 1})
		s.Serve()
		box := w.server("box")
		time.Sleep(3 * Refresh)
		synctest.Wait()
		w.mu.Lock()
		if box.renewed != 3 {
			t.Errorf("refreshed %d times in three times the period", box.renewed)
		}
		box.lost = true
		w.mu.Unlock()
		time.Sleep(Refresh)
		synctest.Wait()
		if again := w.server("box"); again == nil || again == box || box.ended != "closed" {
			t.Errorf("a server that is not in charge any more stays: %+v", again)
		}
	})
}

func TestASandboxThatCannotBeServedIsShown(t *testing.T) {
	play(t, func(w *world, s *Sandboxes) {
		w.make("box", true)
		w.set(Member{Sandbox: "box", Network: 1})
		w.with(func() any { w.broken = errors.New("no nf_tables"); return nil })
		s.Serve()
		if w.problems == "" {
			t.Error("nothing is shown")
		}
		w.with(func() any { w.broken = nil; return nil })
		s.Serve() // a container that starts does not wait for those that cannot be served
		if w.problems == "" || w.server("box") != nil {
			t.Error("it was tried again at once")
		}
		time.Sleep(Refresh)
		synctest.Wait()
		if w.problems != "" || w.server("box") == nil {
			t.Errorf("shown is %q", w.problems)
		}
	})
}

// TestDockerIsAskedInASandboxOfTheNetwork and in no other one.
func TestDockerIsAskedInASandboxOfTheNetwork(t *testing.T) {
	play(t, func(w *world, s *Sandboxes) {
		w.make("a", true)
		w.make("b", true)
		w.make("none", true)
		w.set(Member{Sandbox: "a", Network: 1, Docker: true}, Member{Sandbox: "b", Network: 2, Docker: true}, Member{Sandbox: "c", Network: 3, Docker: true},
			Member{Sandbox: "none", Network: 4})
		s.Serve()
		if reply, err := s.AskDocker(t.Context(), 2, nil); err != nil || reply.Question[0].Name != "b." {
			t.Errorf("%v, %v", reply, err)
		}
		if _, err := s.AskDocker(t.Context(), 3, nil); !errors.Is(err, ErrNone) {
			t.Errorf("a sandbox that is not there was asked: %v", err)
		}
		if _, err := s.AskDocker(t.Context(), 4, nil); !errors.Is(err, ErrNone) {
			t.Errorf("a sandbox without Docker's resolver was asked: %v", err)
		}
	})
}

// TestServersStopWithTheAgent: they leave the rules for the agent that comes next.
func TestServersStopWithTheAgent(t *testing.T) {
	var box *fake
	play(t, func(w *world, s *Sandboxes) {
		w.make("box", true)
		w.set(Member{Sandbox: "box", Network: 1})
		s.Serve()
		box = w.server("box")
	})
	if box.ended != "stopped" {
		t.Errorf("the server is %q", box.ended)
	}
}
