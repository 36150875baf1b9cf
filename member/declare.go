package member

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/weftnet/weft/ledger/state"
)

// declaredKey holds the generation to which this host has declared what it holds.
const declaredKey = "declared"

// declareAgain is longer than any request to the ledger takes.
const declareAgain = 10 * time.Second

// declaration is the generation of the ledger to which this host has declared what it holds.
// Safe for concurrent use.
type declaration struct {
	mu   sync.Mutex
	read bool
	last uint64
	// again is when the host declares once more: a grant of the older ledger may have been on
	// its way when it declared first. Zero: it has.
	again time.Time
	busy  chan struct{} // closed when the caller that declares has ended; nil: nobody does
}

// ensureDeclared tells a recovered ledger what this host holds before anything else is asked of
// it. In the first generation there is nothing to do.
func (m *Member) ensureDeclared(ctx context.Context) error {
	heard := m.cluster.Gossip.View().Generation
	if heard <= 1 {
		return nil
	}
	generation, err := m.ledger.AskGeneration(ctx, heard) // facts can be forged
	m.problem("generation", unconfirmedGeneration(err))
	if generation <= 1 {
		return nil
	}
	if err := m.ledger.ObserveGeneration(generation); err != nil {
		return err
	}
	for {
		done, busy, err := m.declared.begin(m, generation)
		if done || err != nil {
			return err
		}
		if busy == nil {
			return m.declareAll(ctx, generation)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return fmt.Errorf("member: this host is declaring to the recovered ledger what it holds; try again: %w", ctx.Err())
		}
	}
}

// unconfirmedGeneration says what to do if no keeper confirms a recovery; it is empty without
// an error.
func unconfirmedGeneration(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("whether the ledger was recovered is not known, and this host goes on as before: %v. If it was (weft ledger recover), name here one of the keepers that weft status shows where that was done: weft connect HOST", err)
}

// begin reports whether the declaration is done, or returns a channel that is closed when the
// caller that makes it has ended. Otherwise the caller has to make it.
func (s *declaration) begin(m *Member, generation uint64) (done bool, busy <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read {
		kept, err := m.cfg.Bucket("recovery").Load()
		if err != nil {
			return false, nil, err
		}
		if raw := kept[declaredKey]; len(raw) == 8 {
			s.last = binary.BigEndian.Uint64(raw)
		}
		s.read = true
	}
	if s.last >= generation && (s.again.IsZero() || time.Now().Before(s.again)) {
		return true, nil, nil
	}
	if s.busy != nil {
		return false, s.busy, nil
	}
	s.busy = make(chan struct{})
	return false, nil, nil
}

// unsure reports whether the ledger may not know yet all that the disk holds.
func (s *declaration) unsure() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.again.IsZero()
}

func (s *declaration) end(generation uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy)
	s.busy = nil
	if !ok {
		return
	}
	first := s.last < generation
	s.last, s.again = max(s.last, generation), time.Time{}
	if first {
		s.again = time.Now().Add(declareAgain)
	}
}

// declareAll declares what this host holds by its own disk. The ledger may have forgotten this
// start of the agent, or the host, so it is admitted first.
func (m *Member) declareAll(ctx context.Context, generation uint64) (err error) {
	defer func() { m.declared.end(generation, err == nil) }()
	if _, err := m.ledger.Admit(ctx); err != nil {
		return err
	}
	all := &state.DeclareHoldings{}
	for _, p := range m.own.IPAM.Inventory() {
		h := state.Holding{Subnet: p.Subnet, Claims: p.Claims}
		for _, b := range p.Blocks {
			h.Blocks = append(h.Blocks, b.Block)
		}
		all.Holdings = append(all.Holdings, h)
	}
	for _, r := range m.own.Attachments.Networks() {
		if !r.Deleted && !r.Unregistered {
			all.Networks = append(all.Networks, r.Network)
		}
	}
	r, err := m.ledger.Do(ctx, state.Command{Kind: state.KindDeclareHoldings, DeclareHoldings: all})
	if err != nil {
		return err
	}
	if r.Host != nil && r.Host.Removed {
		return removed(m.cfg.Name)
	}
	m.cfg.Log.Info("the ledger was recovered, and this host has declared to it what it holds", "generation", generation)
	return m.cfg.Bucket("recovery").Commit(map[string][]byte{declaredKey: binary.BigEndian.AppendUint64(nil, generation)})
}
