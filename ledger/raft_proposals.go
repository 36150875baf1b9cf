package ledger

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// proposals are the entries that raft has not answered yet. raft v1.8 never answers
// what it has queued for the state machine when it is shut down (fsm.go, fsmMutateCh), so
// nobody proposes any more and all are answered before it is. Where the disk failed and
// ended raft's main goroutine, that answered what it had, the rest is not taken in time
// (enqueueWait), and the state machine goes on until raft is shut down.
type proposals struct {
	mu    sync.Mutex
	open  int
	ended chan struct{} // not nil: no more of them; closed when the last was answered
}

// answerWait bounds the wait for the answers: a leader that is cut off gives up after
// leaderLease, and one that is not decides.
const answerWait = 2 * leaderLease

// begin reports whether one more may be proposed; then done must follow.
func (p *proposals) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return false
	}
	p.open++
	return true
}

func (p *proposals) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open--; p.open == 0 && p.ended != nil {
		close(p.ended)
	}
}

// end lets nobody propose any more, and waits for the answers to what was proposed.
func (p *proposals) end() {
	p.mu.Lock()
	p.ended = make(chan struct{})
	ended := p.ended
	if p.open == 0 {
		close(ended)
	}
	p.mu.Unlock()
	patience := time.NewTimer(answerWait)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
	}
}

// propose has the leader decide. The error says that this keeper does not lead or
// lost the lead meanwhile: then the command may or may not be decided later.
func (k *keeper) propose(ctx context.Context, cmd state.Command) (state.Reply, error) {
	if refusal := cmd.CheckLevel(k.machine.level()); refusal != nil {
		k.layer.log.Warn("feature level", "ledger: a command was refused for its feature level", "kind", string(cmd.Kind), "host", cmd.Host.Short(), "err", refusal)
		return state.Reply{}, refusal
	}
	cmd.At, cmd.Leader = time.Now().UnixMilli(), state.Level
	cmd.Remove = k.machine.witness(cmd.Remove)
	b, err := state.EncodeCommand(cmd)
	if err != nil {
		return state.Reply{}, err
	}
	if len(b) > state.MaxCommand {
		return state.Reply{}, netmap.Refuse(netmap.BadInput, "the command %s has %d bytes, the limit is %d", cmd.Kind, len(b), state.MaxCommand)
	}
	if !k.proposals.begin() {
		return state.Reply{}, raft.ErrRaftShutdown
	}
	f := k.raft.Apply(b, enqueueWait)
	done := make(chan error, 1)
	go func() { // ends when the entry is decided, the lead is lost or raft is about to stop
		done <- f.Error()
		k.proposals.done()
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return state.Reply{}, ctx.Err()
	}
	if err != nil {
		return state.Reply{}, err
	}
	switch r := f.Response().(type) {
	case state.Reply:
		return r, nil
	case error:
		return state.Reply{}, r
	}
	return state.Reply{}, errors.New("ledger: raft gave no answer")
}
