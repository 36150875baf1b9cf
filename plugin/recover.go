package plugin

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// recoverTimeout is what an operator waits for a recovery.
const recoverTimeout = 20 * time.Second

// ledgerFacts is what this host was told of the ledger's decisions.
func (a *Agent) ledgerFacts() ledger.Facts {
	view := a.gossip.View()
	f := ledger.Facts{Generation: view.Generation, Decided: view.Decided}
	add := func(noun any) {
		key, _ := netmap.KeyOf(noun)
		f.Changes = append(f.Changes, netmap.Change{Key: key, Value: noun})
	}
	for _, r := range view.Ranges {
		add(r)
	}
	for _, h := range view.Hosts {
		if !h.Entry.ID.IsZero() {
			add(h.Entry)
		}
	}
	f.Keepers = view.Keepers()
	for _, s := range view.Subnets {
		add(s)
	}
	for _, b := range view.Blocks {
		add(b)
	}
	for _, c := range view.Claims {
		add(c)
	}
	for _, n := range view.Networks {
		add(n)
	}
	return f
}

// shownKey is where the generation is on disk to which this host has shown what it
// holds.
const shownKey = "shown"

// showAgain is longer than any request to the ledger takes.
const showAgain = 10 * time.Second

// showing is the generation of the ledger that has seen what this host holds. Safe
// for concurrent use.
type showing struct {
	mu   sync.Mutex
	read bool
	last uint64
	// again is when it is shown once more: what the older ledger granted at the last
	// moment may have been on its way to this host's disk. Zero: it was.
	again time.Time
	busy  chan struct{} // closed when the one that shows has ended; nil: nobody does
}

// heedGeneration has a recovered ledger see what this host holds, before it is asked
// for anything. In the first generation there is nothing to do.
func (a *Agent) heedGeneration(ctx context.Context) error {
	heard := a.gossip.View().Generation
	if heard <= 1 {
		return nil
	}
	generation, err := a.ledger.AskGeneration(ctx, heard) // facts can be forged
	a.problem("generation", unconfirmedGeneration(err))
	if generation <= 1 {
		return nil
	}
	if err := a.ledger.Heed(generation); err != nil {
		return err
	}
	for {
		done, busy, err := a.shown.begin(a, generation)
		if done || err != nil {
			return err
		}
		if busy == nil {
			return a.showAll(ctx, generation)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return fmt.Errorf("plugin: what this host holds is being shown to the recovered ledger; try again: %w", ctx.Err())
		}
	}
}

// unconfirmedGeneration says what to do about a recovery that no keeper confirms; empty
// without an error.
func unconfirmedGeneration(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("whether the ledger was recovered is not known, and this host goes on as before: %v. If it was (weft ledger recover), name here one of the keepers that weft status shows where that was done: weft connect HOST", err)
}

// begin reports whether it was done, or who does it; else the caller has to.
func (s *showing) begin(a *Agent, generation uint64) (done bool, busy <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read {
		kept, err := a.store.Bucket("recovery").Load()
		if err != nil {
			return false, nil, err
		}
		if raw := kept[shownKey]; len(raw) == 8 {
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

// unsure reports whether the ledger may not have seen yet all that the disk holds.
func (s *showing) unsure() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.again.IsZero()
}

func (s *showing) end(generation uint64, ok bool) {
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
		s.again = time.Now().Add(showAgain)
	}
}

// showAll shows what this host holds by its own disk. The ledger may have forgotten
// this start of the agent, or the host: it is admitted first.
func (a *Agent) showAll(ctx context.Context, generation uint64) (err error) {
	defer func() { a.shown.end(generation, err == nil) }()
	if _, err := a.ledger.Admit(ctx); err != nil {
		return err
	}
	show := &ledger.Show{}
	for _, p := range a.ipam.Inventory() {
		h := ledger.Holding{Subnet: p.Subnet, Claims: p.Claims}
		for _, b := range p.Blocks {
			h.Blocks = append(h.Blocks, b.Block)
		}
		show.Holdings = append(show.Holdings, h)
	}
	for _, r := range a.attach.Networks() {
		if !r.Deleted && !r.Stray {
			show.Networks = append(show.Networks, r.Network)
		}
	}
	r, err := a.ledger.Do(ctx, ledger.Command{Kind: ledger.KindShow, Show: show})
	if err != nil {
		return err
	}
	if r.Host != nil && r.Host.Removed {
		return removed(a.fact.Name)
	}
	a.log.Info("the ledger was recovered; it has seen what this host holds", "generation", generation)
	return a.store.Bucket("recovery").Commit(map[string][]byte{shownKey: binary.BigEndian.AppendUint64(nil, generation)})
}

// RecoverLedger goes on without a majority of keepers that is gone for good. It
// implements api.Agent.
func (a *Agent) RecoverLedger(ctx context.Context, r api.Recovery) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	var off []netmap.HostID
	view := a.gossip.View()
	keepers := map[netmap.HostID]bool{}
	for _, k := range a.ledger.Status().Keepers {
		keepers[k.ID] = true
	}
	for _, id := range a.ledgerFacts().Keepers {
		keepers[id] = true
	}
	for _, word := range r.Off {
		id, err := only(view, keepers).FindHost(word)
		if err != nil {
			id, err = view.FindHost(word)
		}
		if err != nil {
			return "", err
		}
		off = append(off, id)
	}
	out, err := a.ledger.Recover(ctx, ledger.Recovery{Off: off, DryRun: r.DryRun})
	if err != nil {
		return "", err
	}
	return a.recovered(view, out, r.DryRun), nil
}

// only is a view of some hosts.
func only(view *netmap.View, ids map[netmap.HostID]bool) *netmap.View {
	some := &netmap.View{}
	for _, h := range view.Hosts {
		if ids[h.ID] {
			some.Hosts = append(some.Hosts, h)
		}
	}
	return some
}

func (a *Agent) recovered(view *netmap.View, out ledger.Recovered, dryRun bool) string {
	names := func(ids []netmap.HostID) string {
		words := make([]string, 0, len(ids))
		for _, id := range ids {
			words = append(words, view.HostName(id)+" ("+id.Short()+")")
		}
		if len(words) == 0 {
			return "none"
		}
		return strings.Join(words, ", ")
	}
	will := "the ledger goes on from decision %d with this host as its keeper, under a new generation; others follow by themselves. Removed from the cluster for good: %s. Nothing new is given out until these have shown what they hold, which they do as soon as they are reached: %s"
	if dryRun {
		will = "nothing was changed. The ledger would go on from decision %d with this host as its keeper, under a new generation. These would be removed from the cluster for good: %s. Nothing new would be given out until these have shown what they hold: %s"
	}
	return fmt.Sprintf(will, out.Decided, names(out.Lost), names(out.Awaited))
}
