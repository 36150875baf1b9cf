package ledger

import (
	"context"
	"slices"
	"sync"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/turn"
)

// asking numbers the requests of this start of the agent.
type asking struct {
	slots chan struct{}
	admit turn.Turn // one host asks for admission once at a time

	mu       sync.Mutex
	last     uint64
	open     []uint64
	ended    chan struct{} // closed and replaced whenever a request ends
	admitted bool
}

func (a *asking) init() {
	a.slots, a.admit, a.ended = make(chan struct{}, maxOpen), turn.New(), make(chan struct{})
}

// begin numbers a command. Every earlier request that is not open has been answered or given
// up. begin waits while a request is open that is state.MaxAnswered older: the state remembers
// that many answers, and would take a slow request for one that was given up. It returns false
// if ctx ends first.
func (a *asking) begin(ctx context.Context, cmd *state.Command) (ok bool) {
	for {
		a.mu.Lock()
		next := a.last + 1
		if len(a.open) == 0 || next-slices.Min(a.open) < state.MaxAnswered {
			a.last = next
			a.open = append(a.open, next)
			cmd.Number(next, a.open)
			a.mu.Unlock()
			return true
		}
		ended := a.ended
		a.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return false
		}
	}
}

func (a *asking) end(request uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = slices.DeleteFunc(a.open, func(r uint64) bool { return r == request })
	close(a.ended)
	a.ended = make(chan struct{})
}

func (a *asking) setAdmitted() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.admitted = true
}

func (a *asking) isAdmitted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.admitted
}
