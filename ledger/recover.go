package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Requests of a recovery.
const (
	requestReport  = "ledger.report"  // about whom -> report
	requestConsent = "ledger.consent" // consentAsk -> nothing
)

const (
	recoverTry = 2500 * time.Millisecond // the ledger gets so long to show that it works
	reportWait = 1500 * time.Millisecond
	consentFor = time.Minute // a host takes part in one recovery at once
)

// Facts has what this host was told of the ledger's decisions.
type Facts struct {
	Generation uint64
	Decided    uint64
	Keepers    []netmap.HostID // that say so themselves, the dead ones too
	Changes    []netmap.Change // everything that is decided
}

// Recovery asks to go on without a majority that is gone for good.
type Recovery struct {
	Off    []netmap.HostID // keepers that are off for good, as an operator says
	DryRun bool            // only say what would happen
}

// Recovered says what a recovery did, or would do.
type Recovered struct {
	Generation uint64
	Decided    uint64          // newest decision that is known
	Lost       []netmap.HostID // keepers that are gone, removed from the cluster
	Keeps      []netmap.HostID // keepers that are left
	Awaited    []netmap.HostID // members that are to declare what they hold
}

type consentAsk struct {
	Generation uint64        `json:"generation"`
	By         netmap.HostID `json:"by"`
}

// consent is the recovery that this host takes part in.
type consent struct {
	mu    sync.Mutex
	given consentAsk
	at    time.Time
}

// Recover makes this host the only keeper of a ledger whose majority of keepers is lost for
// good, from what this host knows. It refuses while a majority may still exist, on a host that
// knows less than another one, and until the operator says that the lost keepers are off. It
// may take some seconds longer than Do.
func (l *Ledger) Recover(ctx context.Context, r Recovery) (Recovered, error) {
	if l.Cluster().IsZero() {
		return Recovered{}, netmap.Refuse(netmap.Unknown, "this host is in no cluster yet, so it has no ledger to recover; run this on a host that was a member")
	}
	l.opening.Wait() // some seconds at most: the log on this host's disk may be its own
	if refusal := l.provenDead(ctx); refusal != nil {
		return Recovered{}, refusal
	}
	c := l.survey(ctx)
	out, refusal := c.decide(r)
	if refusal != nil || r.DryRun {
		return out, asError(refusal)
	}
	if err := l.askConsent(ctx, c, out.Generation); err != nil {
		return Recovered{}, err
	}
	return l.recoverHere(c, out)
}

// asError keeps a nil refusal a nil error.
func asError(r *netmap.Refusal) error {
	if r == nil {
		return nil
	}
	return r
}

// provenDead asks for a decision that changes nothing. If that succeeds, there is nothing to
// recover.
func (l *Ledger) provenDead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recoverTry)
	defer cancel()
	_, err := l.decide(ctx, state.Command{Kind: state.KindRenew})
	var refusal *netmap.Refusal
	switch {
	case err == nil:
		return netmap.Refuse(netmap.Conflict, "the ledger works: a majority of its keepers answers, so there is nothing to recover; see weft status")
	case errors.As(err, &refusal) && refusal.Kind == netmap.NoQuorum:
		return nil
	}
	return fmt.Errorf("ledger: it answers, so there is nothing to recover: %w", err)
}

// askConsent asks every host that answered to take part. So of two operators on one side of a
// partition only one can go on.
func (l *Ledger) askConsent(ctx context.Context, c *survey, generation uint64) error {
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	q := consentAsk{Generation: generation, By: l.cfg.Self}
	b, err := state.Encode(q)
	if err != nil {
		return err
	}
	for _, id := range slices.SortedFunc(maps.Keys(c.answers), netmap.ID.Compare) {
		if id == l.cfg.Self {
			err = l.consent.give(q, l.generationHeard())
		} else {
			_, err = l.cfg.Underlay.Call(ctx, c.names[id].Addr, requestConsent, b)
		}
		if err != nil {
			return fmt.Errorf("ledger: %s does not take part in the recovery: %w", c.list([]netmap.HostID{id}), err)
		}
	}
	return nil
}

// give lets this host take part in a recovery, if it knows no newer generation and takes part
// in no other one.
func (c *consent) give(q consentAsk, known uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	other := c.given.By != q.By && time.Since(c.at) < consentFor && !c.at.IsZero()
	switch {
	case q.Generation <= known:
		return netmap.Refuse(netmap.Conflict, "the ledger was recovered meanwhile; look at weft status")
	case other:
		return netmap.Refuse(netmap.Conflict, "a recovery is under way on host %s; wait for it", c.given.By.Short())
	}
	c.given, c.at = q, time.Now()
	return nil
}

func (l *Ledger) handleConsent(_ context.Context, from netip.AddrPort, body []byte) ([]byte, error) {
	q, err := state.Decode[consentAsk](body, state.MaxCommand)
	if err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "%s", err)
	}
	if !l.isMember(q.By) || !l.isAt(q.By, from.Addr().Unmap()) {
		return nil, netmap.Refuse(netmap.Unknown, "no member %s of this cluster is known here at %s; see weft status on both hosts", q.By.Short(), from.Addr())
	}
	return nil, l.consent.give(q, l.generationHeard())
}

func (l *Ledger) handleReport(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	if len(body) != len(netmap.HostID{}) {
		return nil, netmap.Refuse(netmap.BadInput, "%d bytes are no id of a host; look at weft status on both", len(body))
	}
	return state.Encode(l.report(netmap.HostID(body)))
}

// report returns what this host knows of the ledger and, if it keeps it, of a host.
func (l *Ledger) report(about netmap.HostID) report {
	f := l.cfg.Facts()
	l.mu.Lock()
	t := report{ID: l.cfg.Self, Decided: f.Decided, FactsGeneration: f.Generation, NoRoom: l.fault != nil && raftlog.Full(l.fault)}
	l.mu.Unlock()
	for _, m := range l.cfg.Members() {
		if m.Alive && m.ID != l.cfg.Self {
			t.Sees = append(t.Sees, m.ID)
		}
	}
	if k := l.kept(); k != nil && k.machine.facts().halted == nil && !k.behind() {
		t.Keeps, t.Generation, t.Voters = true, k.generation, k.peers()
		t.Term, t.Last = k.newest()
		t.Removed, t.AllApplied = k.machine.removed(about)
	}
	if t.Fenced = l.cfg.Fenced != nil && l.cfg.Fenced(); !t.keeps() {
		t.Trusted = l.trusted.list()
	}
	return t
}

// recoverHere writes the recovered ledger and starts its keeper.
func (l *Ledger) recoverHere(c *survey, out Recovered) (Recovered, error) {
	s := c.rebuilt()
	term, last := l.kept().reach()
	if max(term, last, s.Applied()) > math.MaxUint64/2 {
		return Recovered{}, netmap.Refuse(netmap.Conflict, "what is on this host's disk names term %d and decision %d, which no ledger ever reaches; run this on another host", term, max(last, s.Applied()))
	}
	s.Recover(l.Cluster(), out.Generation, last, time.Now().UnixMilli(), out.Lost)
	if err := s.Verify(); err != nil {
		return Recovered{}, fmt.Errorf("ledger: what is known here makes no whole: %w", err)
	}
	self := Peer{ID: l.cfg.Self, Addr: l.cfg.Addr, Voter: true}
	if err := writeRecovered(l.cfg.Dir+raftlog.HalfDir, s.Cluster(), self, term+1, s); err != nil {
		return Recovered{}, err
	}
	if err := l.cease(anyKeeper, func(*keeper) error { return nil }); err != nil {
		return Recovered{}, err
	}
	if err := raftlog.Replace(l.cfg.Dir); err != nil {
		return Recovered{}, errors.Join(err, l.keep(s.Cluster(), 0, nil)) // as before
	}
	l.log.Warn("ledger: recovered without the majority of its keepers", "generation", out.Generation, "decided", out.Decided, "lost", c.list(out.Lost))
	if err := l.ObserveGeneration(out.Generation); err != nil {
		return Recovered{}, err
	}
	return out, l.keep(s.Cluster(), out.Generation, nil)
}

// reach returns the term and the last index of a keeper's log, decided or not; without a
// keeper, those of an empty log.
func (k *keeper) reach() (term, last uint64) {
	if k == nil {
		return 1, 0
	}
	term = 1
	_ = k.log.Within(func() error { // without an answer any term will do: nobody votes in this log again
		known, err := k.log.GetUint64(keyTerm)
		term = max(term, known)
		return err
	})
	return term, k.raft.LastIndex()
}

// newest returns term and index of the last entry of a keeper's log.
func (k *keeper) newest() (term, index uint64) {
	index = k.raft.LastIndex()
	term, err := strconv.ParseUint(k.raft.Stats()["last_log_term"], 10, 64)
	if err != nil {
		return 0, index
	}
	return term, index
}

// everything returns the state with all entries of the log applied. Nobody can tell any more
// which of the last ones were decided, so all of them count.
func (k *keeper) everything() *state.State {
	s := k.machine.copyState()
	if s == nil || k.log.Within(func() error { return k.log.Replay(s) }) != nil {
		return nil
	}
	return s
}

// copyState returns a copy of the machine's state.
func (m *machine) copyState() *state.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.state.Encode()
	if err != nil {
		return nil
	}
	s, err := state.DecodeState(b)
	if err != nil {
		return nil
	}
	return s
}
