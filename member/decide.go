package member

import (
	"context"
	"fmt"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Decide asks the ledger and waits until this host's own facts include the decision, so that
// the caller reads its own writes.
func (m *Member) Decide(ctx context.Context, c state.Command) (state.Reply, error) {
	if m.HasLeft() {
		return state.Reply{}, netmap.Refuse(netmap.Removed, "%s", m.departure())
	}
	if err := m.awaitMembership(ctx); err != nil {
		return state.Reply{}, err
	}
	generation := m.Generation()
	if err := m.ensureDeclared(ctx); err != nil {
		m.endIfFenced(ctx, err)
		return state.Reply{}, err
	}
	r, err := m.ledger.Do(ctx, c)
	if err != nil {
		m.endIfFenced(ctx, err)
		return r, err
	}
	if err := r.Err(); err != nil {
		return r, err
	}
	return r, m.ReadOwn(ctx, generation, r.Index)
}

// ReadOwn waits until this host's own facts include a decision that was made under a generation
// of the ledger.
func (m *Member) ReadOwn(ctx context.Context, generation, index uint64) error {
	if err := m.cluster.Gossip.WaitDecided(ctx, index); err != nil {
		return fmt.Errorf("decision %d was made, its facts have not arrived here; try again, and look at weft status if this lasts: %w", index, err)
	}
	return m.StillIn(generation)
}

// Generation returns the ledger's generation, as far as this host has heard.
func (m *Member) Generation() uint64 { return max(1, m.cluster.Gossip.View().Generation) }

// StillIn refuses an answer from an earlier generation than the current one. This host may have
// declared to the recovered ledger what it holds before the answer came.
func (m *Member) StillIn(generation uint64) error {
	if now := m.Generation(); now != generation {
		return netmap.Refuse(netmap.Busy, "the ledger was recovered while this host waited for it (generation %d is over, %d has begun), and the answer may count no more; try again", generation, now)
	}
	return nil
}
