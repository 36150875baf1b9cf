package plugin

import (
	"context"
	"errors"
	"sync"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// handover passes Docker's calls to the current agent. While one agent replaces another, calls
// wait, and a call that the old agent refuses because its identity was removed is repeated with
// the new one. So no call is lost. This matters most when a machine starts that was removed
// while it was off: dockerd starts its containers at once, and tries each only once. Safe for
// concurrent use.
type handover struct {
	mu      sync.Mutex
	now     *Agent // nil while one agent replaces another
	routes  map[string]rpc.Handler
	calls   *sync.WaitGroup // that are in now
	changed chan struct{}   // closed and replaced with now
}

func newHandover() *handover { return &handover{changed: make(chan struct{})} }

// open passes calls to an agent from now on.
func (h *handover) open(a *Agent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now, h.routes, h.calls = a, a.Routes(), &sync.WaitGroup{}
	close(h.changed)
	h.changed = make(chan struct{})
}

// shut makes new calls wait, and returns when no call is in the agent any more.
func (h *handover) shut() {
	h.mu.Lock()
	calls := h.calls
	h.now = nil
	h.mu.Unlock()
	calls.Wait()
}

// handlers returns the methods of both plugin protocols, which call the current agent.
func (h *handover) handlers(a *Agent) map[string]rpc.Handler {
	out := map[string]rpc.Handler{}
	for method := range a.Routes() {
		out[method] = rpc.Relay(func(ctx context.Context, call func(rpc.Handler) (any, error)) (any, error) {
			return h.pass(ctx, method, call)
		})
	}
	return out
}

func (h *handover) pass(ctx context.Context, method string, call func(rpc.Handler) (any, error)) (any, error) {
	for {
		a, handler, done, err := h.enter(ctx, method)
		if err != nil {
			return nil, err
		}
		answer, err := call(handler)
		done()
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Removed}) || !h.succeeded(ctx, a) {
			return answer, err
		}
	}
}

// enter waits for an agent and counts a call in it. The caller calls done when the call has
// ended.
func (h *handover) enter(ctx context.Context, method string) (a *Agent, handler rpc.Handler, done func(), err error) {
	for {
		h.mu.Lock()
		if h.now != nil {
			defer h.mu.Unlock()
			h.calls.Add(1)
			return h.now, h.routes[method], h.calls.Done, nil
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, handler, nil, netmap.Refuse(netmap.Busy, "the agent of this host starts again at this moment; try again")
		}
	}
}

// succeeded waits for the agent that replaces a. It returns false if ctx ends first, as it does
// when the new identity cannot be written to disk.
func (h *handover) succeeded(ctx context.Context, a *Agent) bool {
	for {
		h.mu.Lock()
		other, changed := h.now != a, h.changed
		h.mu.Unlock()
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
