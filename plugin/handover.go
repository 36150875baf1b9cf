package plugin

import (
	"context"
	"errors"
	"sync"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// handover passes Docker's calls on to the agent of the moment. A host that goes on as
// another one misses none of them: while there is no agent they wait, and what the
// old identity may not answer any more is put to the new one. That matters most when
// a machine starts that was removed while it was off: dockerd starts its containers
// at once, and tries each only once. Safe for concurrent use.
type handover struct {
	mu      sync.Mutex
	now     *Agent // nil between two
	routes  map[string]rpc.Handler
	calls   *sync.WaitGroup // under way in now
	changed chan struct{}   // closed and replaced with now
}

func newHandover() *handover { return &handover{changed: make(chan struct{})} }

// open lets calls through to an agent.
func (f *handover) open(a *Agent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.routes, f.calls = a, a.Routes(), &sync.WaitGroup{}
	close(f.changed)
	f.changed = make(chan struct{})
}

// shut holds calls back and returns when none is in the agent any more.
func (f *handover) shut() {
	f.mu.Lock()
	calls := f.calls
	f.now = nil
	f.mu.Unlock()
	calls.Wait()
}

// handlers are the methods of both plugin protocols, of whichever agent there is.
func (f *handover) handlers(a *Agent) map[string]rpc.Handler {
	out := map[string]rpc.Handler{}
	for method := range a.Routes() {
		out[method] = rpc.Relay(func(ctx context.Context, call func(rpc.Handler) (any, error)) (any, error) {
			return f.pass(ctx, method, call)
		})
	}
	return out
}

func (f *handover) pass(ctx context.Context, method string, call func(rpc.Handler) (any, error)) (any, error) {
	for {
		a, h, done, err := f.enter(ctx, method)
		if err != nil {
			return nil, err
		}
		answer, err := call(h)
		done()
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Removed}) || !f.succeeded(ctx, a) {
			return answer, err
		}
	}
}

// enter waits for an agent and counts a call in it, until done is called.
func (f *handover) enter(ctx context.Context, method string) (a *Agent, h rpc.Handler, done func(), err error) {
	for {
		f.mu.Lock()
		if f.now != nil {
			defer f.mu.Unlock()
			f.calls.Add(1)
			return f.now, f.routes[method], f.calls.Done, nil
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, h, nil, netmap.Refuse(netmap.Busy, "the agent of this host starts again at this moment; try again")
		}
	}
}

// succeeded waits for the agent that comes after another one; false if none came in
// time, as when the order to be another host cannot be written down.
func (f *handover) succeeded(ctx context.Context, a *Agent) bool {
	for {
		f.mu.Lock()
		other, changed := f.now != a, f.changed
		f.mu.Unlock()
		if other {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
