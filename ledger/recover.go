package ledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/netmap"
)

// Requests of a recovery.
const (
	requestTestify = "ledger.testify" // nothing -> testimony
	requestConsent = "ledger.consent" // consentAsk -> nothing
)

const (
	recoverTry  = 2500 * time.Millisecond // the ledger gets so long to show that it works
	testifyWait = 1500 * time.Millisecond
	consentFor  = time.Minute // a host takes part in one recovery at once
)

// Facts is what a host was told of the ledger's decisions.
type Facts struct {
	Generation uint64
	Decided    uint64
	Keepers    []netmap.HostID // by their own word, the dead ones too
	Changes    []netmap.Change // everything that is decided
}

// Recovery asks to go on without a majority that is gone for good.
type Recovery struct {
	Off    []netmap.HostID // keepers that are off for good, by an operator's word
	DryRun bool            // only say what would happen
}

// Recovered says what came of it, or what would.
type Recovered struct {
	Generation uint64
	Decided    uint64          // newest decision that is known
	Lost       []netmap.HostID // keepers that are gone, removed from the cluster
	Keeps      []netmap.HostID // keepers that are left
	Awaited    []netmap.HostID // members that are to show what they hold
}

// testimony is what a host knows of the ledger and its keepers.
type testimony struct {
	Keeps      bool            `json:"keeps"`
	NoRoom     bool            `json:"no_room,omitempty"` // its log is there, and its disk is full
	Generation uint64          `json:"generation"`
	Term       uint64          `json:"term"` // of the last entry of its log
	Last       uint64          `json:"last"` // index of that
	Voters     []Peer          `json:"voters,omitempty"`
	Sees       []netmap.HostID `json:"sees,omitempty"` // alive, by its gossip
	Decided    uint64          `json:"decided"`        // by its facts
	Life       uint64          `json:"life"`           // generation of those
}

// knows orders testimonies by how much is known. Of two logs the one that raft would
// elect has everything that was ever decided in either; what was applied says
// nothing after a restart.
func (t testimony) knows(o testimony) int {
	switch {
	case t.Keeps != o.Keeps:
		return boolOrder(t.Keeps)
	case t.Keeps && t.Generation != o.Generation:
		return boolOrder(t.Generation > o.Generation)
	case t.Keeps:
		return cmp.Or(cmp.Compare(t.Term, o.Term), cmp.Compare(t.Last, o.Last))
	}
	return cmp.Or(cmp.Compare(t.Life, o.Life), cmp.Compare(t.Decided, o.Decided))
}

func boolOrder(greater bool) int {
	if greater {
		return 1
	}
	return -1
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

// Recover makes this host the one keeper of a ledger that lost the majority of its
// keepers for good, from what it knows itself. It refuses while a majority may be
// there, on a host that knows less than another, and where nobody said that the
// lost keepers are off. It may take some seconds longer than Do.
func (l *Ledger) Recover(ctx context.Context, r Recovery) (Recovered, error) {
	if l.Cluster().IsZero() {
		return Recovered{}, netmap.Refuse(netmap.Unknown, "this host is in no cluster yet, so it has no ledger to recover")
	}
	if refusal := l.provenDead(ctx); refusal != nil {
		return Recovered{}, refusal
	}
	c := l.investigate(ctx)
	out, refusal := c.verdict(r)
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

// provenDead asks for a decision that changes nothing: if that works, there is
// nothing to recover.
func (l *Ledger) provenDead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recoverTry)
	defer cancel()
	_, err := l.decide(ctx, Command{Kind: KindRenew})
	var refusal *netmap.Refusal
	switch {
	case err == nil:
		return netmap.Refuse(netmap.Conflict, "the ledger works: a majority of its keepers answers, so there is nothing to recover; see weft status")
	case errors.As(err, &refusal) && refusal.Kind == netmap.NoQuorum:
		return nil
	}
	return fmt.Errorf("ledger: it answers, so there is nothing to recover: %w", err)
}

// inquiry is what all hosts say that can be reached.
type inquiry struct {
	self    netmap.HostID
	names   map[netmap.HostID]Member
	answers map[netmap.HostID]testimony
	facts   Facts
	state   *State // of this keeper, nil if it keeps nothing
}

func (l *Ledger) investigate(ctx context.Context) *inquiry {
	ctx, cancel := context.WithTimeout(ctx, testifyWait)
	defer cancel()
	c := &inquiry{
		self: l.cfg.Self, facts: l.cfg.Facts(), answers: map[netmap.HostID]testimony{l.cfg.Self: l.testify()},
		names: map[netmap.HostID]Member{l.cfg.Self: {ID: l.cfg.Self, Name: l.cfg.Name, Addr: l.cfg.Addr}},
	}
	if k := l.kept(); k != nil {
		c.state = k.everything()
	}
	for _, ch := range c.facts.Changes {
		if h, is := ch.Value.(netmap.HostEntry); is && h.ID != l.cfg.Self {
			c.names[h.ID] = Member{ID: h.ID, Name: h.Name}
		}
	}
	for _, p := range c.answers[l.cfg.Self].Voters {
		if p.ID != l.cfg.Self {
			c.names[p.ID] = Member{ID: p.ID, Name: c.names[p.ID].Name, Addr: p.Addr}
		}
	}
	for _, p := range l.Status().Keepers { // as last heard, where nothing is kept
		c.facts.Keepers = append(c.facts.Keepers, p.ID)
	}
	for _, m := range l.cfg.Members() {
		if m.ID != l.cfg.Self {
			c.names[m.ID] = m
		}
		if m.Keeper {
			c.facts.Keepers = append(c.facts.Keepers, m.ID)
		}
	}
	slices.SortFunc(c.facts.Keepers, compareID)
	c.facts.Keepers = slices.Compact(c.facts.Keepers)
	c.hearAll(ctx, l.cfg.Underlay)
	return c
}

// hearAll asks every host of which an address is known, whether the gossip believes
// it alive or not.
func (c *inquiry) hearAll(ctx context.Context, u Underlay) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for id, m := range c.names {
		if id == c.self || !m.Addr.IsValid() {
			continue
		}
		all.Go(func() {
			b, err := u.Call(ctx, m.Addr, requestTestify, id[:])
			if err != nil {
				return
			}
			if t, err := decode[testimony](b, maxReply); err == nil {
				mu.Lock()
				defer mu.Unlock()
				c.answers[id] = t
			}
		})
	}
	all.Wait()
}

func (c *inquiry) list(ids []netmap.HostID) string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		m := c.names[id]
		switch {
		case m.Name == "":
			out = append(out, "host "+id.Short())
		case m.Addr.IsValid():
			out = append(out, fmt.Sprintf("%s (%s, %s)", m.Name, id.Short(), m.Addr))
		default:
			out = append(out, fmt.Sprintf("%s (%s)", m.Name, id.Short()))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// best is the answer that knows most, this host's own among equals.
func (c *inquiry) best() netmap.HostID {
	best := c.self
	for _, id := range sortedKeys(c.answers) {
		if c.answers[id].knows(c.answers[best]) > 0 {
			best = id
		}
	}
	return best
}

func sortedKeys(m map[netmap.HostID]testimony) []netmap.HostID {
	out := make([]netmap.HostID, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, compareID)
	return out
}

// voters are the keepers that are to be a majority, by whoever knows most.
func (c *inquiry) voters() (out []netmap.HostID) {
	if best := c.answers[c.best()]; best.Keeps {
		for _, p := range best.Voters {
			if p.Voter {
				out = append(out, p.ID)
			}
		}
		return out
	}
	return c.facts.Keepers
}

// verdict decides whether the ledger may be recovered on this host. It is pure.
func (c *inquiry) verdict(r Recovery) (Recovered, *netmap.Refusal) {
	best, voters := c.best(), c.voters()
	var out Recovered
	var silent []netmap.HostID
	for _, id := range voters {
		switch t, answers := c.answers[id]; {
		case answers && (t.Keeps || t.NoRoom):
			out.Keeps = append(out.Keeps, id)
		case answers: // it lost its log, and is a member all the same
		case slices.Contains(r.Off, id):
			out.Lost = append(out.Lost, id)
		default:
			silent = append(silent, id)
		}
	}
	switch {
	case len(voters) == 0:
		return out, netmap.Refuse(netmap.Unknown, "it is not known here who kept the ledger, so it cannot be known whether they are gone; run this on a host that kept it, or that ran before they were lost")
	case 2*len(out.Keeps) > len(voters):
		return out, netmap.Refuse(netmap.Conflict, "a majority of the keepers is there: %s; wait until they agree who leads (some seconds), and look at weft status on them if they do not", c.list(out.Keeps))
	}
	if refusal := c.contradicted(r.Off, voters); refusal != nil {
		return out, refusal
	}
	switch {
	case len(silent) > 0:
		return out, netmap.Refuse(netmap.NoQuorum, "whether %s is gone for good cannot be known from here: nobody who answers can reach it; if it only cannot be reached, repair that and nothing is lost; if its machine is off and its disk will not come back, say so (weft ledger recover%s)", c.list(silent), offFlags(silent, c.names))
	case best != c.self:
		return out, netmap.Refuse(netmap.Conflict, "%s knows more of the ledger (decision %d) than this host (decision %d); run this there", c.list([]netmap.HostID{best}), c.answers[best].known(), c.answers[c.self].known())
	}
	return c.outcome(out), nil
}

func (t testimony) known() uint64 {
	if t.Keeps {
		return t.Last
	}
	return t.Decided
}

func offFlags(ids []netmap.HostID, names map[netmap.HostID]Member) (out string) {
	for _, id := range ids {
		word := names[id].Name
		if word == "" {
			word = id.Short()
		}
		out += " --is-off " + word
	}
	return out
}

// contradicted refuses an operator's word that somebody can see is wrong.
func (c *inquiry) contradicted(off, voters []netmap.HostID) *netmap.Refusal {
	for _, id := range off {
		if !slices.Contains(voters, id) {
			return netmap.Refuse(netmap.BadInput, "%s does not keep the ledger, so it is in nobody's way here; remove it afterwards (weft host rm HOST --is-off)", c.list([]netmap.HostID{id}))
		}
		if _, answers := c.answers[id]; answers {
			return netmap.Refuse(netmap.Conflict, "%s is not off: it answers", c.list([]netmap.HostID{id}))
		}
		for _, by := range sortedKeys(c.answers) {
			if slices.Contains(c.answers[by].Sees, id) {
				return netmap.Refuse(netmap.Conflict, "%s is not off, or was there a moment ago: %s sees it; look at it there, or wait until its end is noticed (half a minute)", c.list([]netmap.HostID{id}), c.list([]netmap.HostID{by}))
			}
		}
	}
	return nil
}

// outcome is the state to go on from, in words.
func (c *inquiry) outcome(out Recovered) Recovered {
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	last := c.facts.Generation
	for _, t := range c.answers {
		last = max(last, t.Generation, t.Life)
	}
	out.Generation = nextGeneration(last, binary.BigEndian.Uint32(nonce[:]))
	s := c.rebuilt()
	out.Decided = s.applied
	for _, h := range s.sortedHosts() {
		if !h.Removed && !slices.Contains(out.Lost, h.ID) {
			out.Awaited = append(out.Awaited, h.ID)
		}
	}
	return out
}

// rebuilt is the newest state that this host knows: its own log's, and what it was
// told after that.
func (c *inquiry) rebuilt() *State {
	s := c.state
	if s == nil || s.generation < c.facts.Generation {
		s = NewState()
		s.generation = c.facts.Generation
	}
	if s.generation == c.facts.Generation {
		s.adopt(c.facts.Changes, c.facts.Decided)
	}
	return s
}

// askConsent asks everybody who answered to take part, so that of two operators on
// one side of a cut only one goes on.
func (l *Ledger) askConsent(ctx context.Context, c *inquiry, generation uint64) error {
	ctx, cancel := context.WithTimeout(ctx, testifyWait)
	defer cancel()
	q := consentAsk{Generation: generation, By: l.cfg.Self}
	b, err := encode(q)
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(c.answers) {
		if id == l.cfg.Self {
			err = l.giveConsent(q)
		} else {
			_, err = l.cfg.Underlay.Call(ctx, c.names[id].Addr, requestConsent, b)
		}
		if err != nil {
			return fmt.Errorf("ledger: %s does not take part in the recovery: %w", c.list([]netmap.HostID{id}), err)
		}
	}
	return nil
}

func (l *Ledger) giveConsent(q consentAsk) error {
	known := max(l.Generation(), l.cfg.Facts().Generation)
	l.consent.mu.Lock()
	defer l.consent.mu.Unlock()
	other := l.consent.given.By != q.By && time.Since(l.consent.at) < consentFor && !l.consent.at.IsZero()
	switch {
	case q.Generation <= known:
		return netmap.Refuse(netmap.Conflict, "the ledger was recovered meanwhile; look at weft status")
	case other:
		return netmap.Refuse(netmap.Conflict, "a recovery is under way on host %s; wait for it", l.consent.given.By.Short())
	}
	l.consent.given, l.consent.at = q, time.Now()
	return nil
}

func (l *Ledger) handleConsent(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	q, err := decode[consentAsk](body, MaxCommand)
	if err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "%s", err)
	}
	return nil, l.giveConsent(q)
}

func (l *Ledger) handleTestify(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	if !slices.Equal(body, l.cfg.Self[:]) {
		return nil, netmap.Refuse(netmap.Unknown, "host %s is not here any more", l.cfg.Self.Short())
	}
	return encode(l.testify())
}

func (l *Ledger) testify() testimony {
	f := l.cfg.Facts()
	l.mu.Lock()
	t := testimony{Decided: f.Decided, Life: f.Generation, NoRoom: l.ailment != nil && isFull(l.ailment)}
	l.mu.Unlock()
	for _, m := range l.cfg.Members() {
		if m.Alive && m.ID != l.cfg.Self {
			t.Sees = append(t.Sees, m.ID)
		}
	}
	if k := l.kept(); k != nil && k.machine.facts().halted == nil {
		t.Keeps, t.Generation, t.Voters = true, k.generation, k.peers()
		t.Term, t.Last = k.newest()
	}
	return t
}

// recoverHere carries a verdict out.
func (l *Ledger) recoverHere(c *inquiry, out Recovered) (Recovered, error) {
	s := c.rebuilt()
	term, last := l.reach()
	s.cluster = l.Cluster()
	s.recover(out.Generation, max(last, s.applied)+recoveryGap, out.Lost)
	if err := s.verify(); err != nil {
		return Recovered{}, fmt.Errorf("ledger: what is known here makes no whole: %w", err)
	}
	self := Peer{ID: l.cfg.Self, Addr: l.cfg.Addr, Voter: true}
	if err := writeRecovered(l.cfg.Dir+halfDir, s.cluster, self, term+1, s); err != nil {
		return Recovered{}, err
	}
	if err := l.stopForRecovery(); err != nil {
		return Recovered{}, err
	}
	if err := replaceDir(l.cfg.Dir); err != nil {
		return Recovered{}, errors.Join(err, l.keep(s.cluster, 0, nil)) // as before
	}
	l.log.Warn("ledger: recovered without the majority of its keepers", "generation", out.Generation, "decided", out.Decided, "lost", c.list(out.Lost))
	if err := l.Heed(out.Generation); err != nil {
		return Recovered{}, err
	}
	return out, l.keep(s.cluster, out.Generation, nil)
}

// reach is how far the log went that this host keeps: what was added to it and not
// decided counts.
func (l *Ledger) reach() (term, last uint64) {
	k := l.kept()
	if k == nil {
		return 1, 0
	}
	term = 1
	_ = k.log.within(func() error { // without an answer any term will do: nobody votes in this log again
		known, err := k.log.GetUint64(keyTerm)
		term = max(term, known)
		return err
	})
	return term, k.raft.LastIndex()
}

// stopForRecovery ends the old keeper.
func (l *Ledger) stopForRecovery() error {
	l.lifecycle.Lock()
	defer l.lifecycle.Unlock()
	k := l.kept()
	if k == nil {
		return nil
	}
	l.mu.Lock()
	l.keeper = nil
	l.mu.Unlock()
	l.cfg.OnKeeper(false)
	return k.stop()
}

// newest is term and index of the last entry of a keeper's log.
func (k *keeper) newest() (term, index uint64) {
	index = k.raft.LastIndex()
	term, err := strconv.ParseUint(k.raft.Stats()["last_log_term"], 10, 64)
	if err != nil {
		return 0, index
	}
	return term, index
}

// everything is the state with all entries of the log carried out: which of the last
// ones were decided nobody can say any more, so all of them count.
func (k *keeper) everything() *State {
	s := k.machine.copyState()
	if s == nil || k.log.within(func() error { return k.replay(s) }) != nil {
		return nil
	}
	return s
}

func (k *keeper) replay(s *State) error {
	for i := s.applied + 1; i <= k.raft.LastIndex(); i++ {
		var entry raft.Log
		if err := k.log.GetLog(i, &entry); err != nil || entry.Type != raft.LogCommand {
			continue // none of the ledger's, or in the snapshot that the state came from
		}
		cmd, err := DecodeCommand(entry.Data)
		var refusal *netmap.Refusal
		if err != nil && !errors.As(err, &refusal) {
			return err // of a newer release
		}
		s.Apply(i, cmd)
	}
	return nil
}

// copyState is a state of one's own, equal to the machine's.
func (m *machine) copyState() *State {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.state.Encode()
	if err != nil {
		return nil
	}
	s, err := DecodeState(b)
	if err != nil {
		return nil
	}
	return s
}
