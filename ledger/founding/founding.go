package founding

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Names of the requests between hosts that found together.
const (
	requestPrepare = "founding.prepare" // question -> acceptor
	requestAccept  = "founding.accept"  // question -> acceptor
	requestChosen  = "founding.chosen"  // question -> nothing
)

// turnTime is how much longer each host waits, in the order of ids, than the one before it
// until it proposes too: the first host may not reach the others.
const turnTime = 4 * time.Second

// answerWait bounds the wait for one host's answer.
const answerWait = 1200 * time.Millisecond

// All as Config.Expect is as many hosts as Seeds has addresses.
const All = -1

// diskKey is the key under which the acceptor is on disk.
const diskKey = "acceptor"

// Disk keeps records; Commit returns when they are synced.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Underlay is what a founding needs of the hosts' own network.
type Underlay interface {
	Handle(name string, h func(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error))
	Call(ctx context.Context, to netip.AddrPort, name string, body []byte) ([]byte, error)
}

// Config is what a host needs to found a cluster with others.
type Config struct {
	Self   netmap.HostID
	Name   string
	Addr   netip.AddrPort // where the others reach this host
	Expect int            // hosts, or All; 0: this host takes part in no founding
	Ranges []netip.Prefix
	Free   func() error // nil if nothing on this host is in the way of Ranges

	// Seeds are the entries of WEFT_JOIN with the addresses that each stands for.
	Seeds func(ctx context.Context) map[string][]netip.AddrPort
	// Newcomers are the other live hosts that are in no cluster.
	Newcomers func() []Host
	// Cluster is this host's; zero: it is a newcomer.
	Cluster  func() netmap.ClusterID
	Underlay Underlay
	Disk     Disk
	Log      *slog.Logger
}

// Founder is a newcomer's part in founding a cluster together. Its methods are
// safe for concurrent use.
type Founder struct {
	cfg Config

	writing turn.Turn // held while the acceptor changes, disk included

	mu    sync.Mutex
	state acceptor
	since time.Time // a quorum has been in sight since
}

type question struct {
	Ballot ballot        `json:"ballot"`
	From   Host          `json:"from"`
	To     netmap.HostID `json:"to"` // who is meant: another may be at its address by now
	Expect int           `json:"expect"`
	Level  int           `json:"level"` // feature level of the proposer's release
	Plan   *Plan         `json:"plan,omitempty"`
}

// Open reads what this host promised in an earlier start, and answers other
// newcomers.
func Open(cfg Config) (*Founder, error) {
	f := &Founder{cfg: cfg, writing: turn.New()}
	kept, err := cfg.Disk.Load()
	if err != nil {
		return nil, fmt.Errorf("founding: what was promised at a founding: %w", err)
	}
	if raw, ok := kept[diskKey]; ok {
		if err := json.Unmarshal(raw, &f.state); err != nil {
			return nil, fmt.Errorf("founding: the record of a founding cannot be read; was it written by a newer release? %w", err)
		}
	}
	cfg.Underlay.Handle(requestPrepare, f.handle(func(a acceptor, q question) (acceptor, bool) { return a.prepare(q.Ballot) }))
	cfg.Underlay.Handle(requestAccept, f.handle(func(a acceptor, q question) (acceptor, bool) { return a.accept(q.Ballot, q.Plan) }))
	cfg.Underlay.Handle(requestChosen, f.handle(func(a acceptor, q question) (acceptor, bool) { return a.choose(q.Plan), true }))
	return f, nil
}

// handle answers a proposer with what this host has promised and accepted then.
func (f *Founder) handle(change func(acceptor, question) (acceptor, bool)) func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
	return func(ctx context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
		q, err := state.Decode[question](body, state.MaxCommand)
		if err != nil {
			return nil, netmap.Refuse(netmap.BadInput, "%s", err)
		}
		if q.Plan != nil {
			if refusal := q.Plan.check(); refusal != nil {
				return nil, refusal
			}
		}
		a, err := f.answer(ctx, q, change)
		if err != nil {
			return nil, err
		}
		return state.Encode(a)
	}
}

func (f *Founder) answer(ctx context.Context, q question, change func(acceptor, question) (acceptor, bool)) (acceptor, error) {
	if c := f.cfg.Cluster(); !c.IsZero() {
		return acceptor{}, netmap.Refuse(netmap.Foreign, "%s is in cluster %s already; join that", f.cfg.Name, c)
	}
	if q.To != f.cfg.Self {
		return acceptor{}, netmap.Refuse(netmap.Unknown, "host %s is not here any more, %s is; try again", q.To.Short(), f.cfg.Name)
	}
	if f.cfg.Expect != q.Expect {
		return acceptor{}, netmap.Refuse(netmap.Conflict, "%s has WEFT_EXPECT=%s and %s has WEFT_EXPECT=%s; set the same on all hosts", f.cfg.Name, shown(f.cfg.Expect), q.From.Name, shown(q.Expect))
	}
	if q.Level != state.Level {
		return acceptor{}, netmap.Refuse(netmap.Outdated, "%s runs a release of weft of feature level %d and %s one of level %d; install the same release on all hosts that found the cluster", f.cfg.Name, state.Level, q.From.Name, q.Level)
	}
	if err := f.cfg.Free(); err != nil {
		return acceptor{}, err
	}
	return f.change(ctx, func(a acceptor) (acceptor, bool) { return change(a, q) })
}

// shown is a number of hosts as WEFT_EXPECT has it.
func shown(expect int) string {
	if expect == All {
		return "agents"
	}
	return strconv.Itoa(expect)
}

// change writes a change of the acceptor to disk before it counts.
func (f *Founder) change(ctx context.Context, do func(acceptor) (acceptor, bool)) (acceptor, error) {
	end, err := f.writing.WaitWithin(ctx)
	if err != nil {
		return acceptor{}, fmt.Errorf("founding: %w", err)
	}
	defer end()
	f.mu.Lock()
	next, changed := do(f.state)
	f.mu.Unlock()
	if !changed {
		return next, nil
	}
	raw, err := json.Marshal(next)
	if err == nil {
		err = f.cfg.Disk.Commit(map[string][]byte{diskKey: raw})
	}
	if err != nil {
		return acceptor{}, fmt.Errorf("founding: a promise at the founding cannot be written down: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = next
	return next, nil
}

func (f *Founder) current() acceptor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// Plan returns the plan that this host must carry out if the cluster with this id was founded.
// It returns false if the host did not accept that plan, or is none of its keepers.
func (f *Founder) Plan(cluster netmap.ClusterID) (Plan, bool) {
	a := f.current()
	if a.Plan == nil || a.Plan.Cluster != cluster || !a.Plan.Keeps(f.cfg.Self) {
		return Plan{}, false
	}
	return *a.Plan, true
}

// Try makes one attempt to found a cluster. It returns the plan on the first keepers, which
// carry it out. Other hosts see the cluster as soon as those have. The error says what this
// host waits for.
func (f *Founder) Try(ctx context.Context) (Plan, error) {
	if a := f.current(); a.Chosen && a.Plan.Keeps(f.cfg.Self) {
		return *a.Plan, nil
	}
	self := Host{ID: f.cfg.Self, Name: f.cfg.Name, Addr: f.cfg.Addr}
	seen := append(f.cfg.Newcomers(), self)
	slices.SortFunc(seen, func(a, b Host) int { return a.ID.Compare(b.ID) })
	voters := electorate{expect: f.cfg.Expect}
	for peer, addrs := range f.cfg.Seeds(ctx) {
		voters.seeds = append(voters.seeds, seed{peer, addrs})
	}
	t := voters.count(seen, self.Addr.Addr().Is6())
	if err := f.awaitTurn(t, seen); err != nil {
		return Plan{}, err
	}
	return f.propose(ctx, self, seen, voters)
}

// awaitTurn returns an error that says what this host waits for, until it may propose.
func (f *Founder) awaitTurn(t tally, seen []Host) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !t.quorum() {
		f.since = time.Time{}
		return t.waiting(seen)
	}
	if f.since.IsZero() {
		f.since = time.Now()
	}
	rank := slices.IndexFunc(seen, func(h Host) bool { return h.ID == f.cfg.Self })
	if time.Since(f.since) < time.Duration(rank)*turnTime {
		return netmap.Refuse(netmap.NoQuorum, "all %d expected hosts are here (%s); waiting for %s to found the cluster", t.expect, hostNames(seen), seen[0].Name)
	}
	return nil
}

// waiting says who is there and who is missing.
func (t tally) waiting(seen []Host) *netmap.Refusal {
	text := fmt.Sprintf("no cluster is founded yet: this host sees %d of %d expected hosts: %s", len(seen), t.expect, hostNames(seen))
	switch {
	case t.expect == 0:
		text = "no cluster is founded yet: it is not known how many hosts there are"
	case len(seen) >= t.expect:
		text += fmt.Sprintf("; but only %d of the %d hosts in WEFT_JOIN are among them, and more than half must be", t.named, t.places)
	}
	if len(t.missing) > 0 {
		text += "; waiting for " + strings.Join(t.missing, ", ")
	} else {
		text += "; waiting for further hosts"
	}
	return netmap.Refuse(netmap.NoQuorum, "%s; start them, or set WEFT_JOIN and WEFT_EXPECT to the hosts that there are, the same on all", text)
}

func hostNames(hosts []Host) string {
	names := make([]string, 0, len(hosts))
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// propose runs one ballot.
func (f *Founder) propose(ctx context.Context, self Host, seen []Host, voters electorate) (Plan, error) {
	mine, err := f.change(ctx, func(a acceptor) (acceptor, bool) { return a.prepare(ballot{a.Promised.Round + 1, self.ID}) })
	if err != nil {
		return Plan{}, err
	}
	q := question{Ballot: mine.Promised, From: self, Expect: f.cfg.Expect, Level: state.Level}
	promises, quorum, errs := f.gather(ctx, requestPrepare, q, seen, func(a acceptor) bool { return a.Promised == q.Ballot })
	if t := voters.count(quorum, self.Addr.Addr().Is6()); !t.quorum() {
		f.catchUp(ctx, promises)
		return Plan{}, notAgreed(seen, errs)
	}
	q.Plan = choosePlan(promises, quorum, func() *Plan {
		p := &Plan{Keepers: firstKeepers(self.ID, quorum), Ranges: f.cfg.Ranges}
		_, _ = rand.Read(p.Cluster[:]) // never fails (crypto/rand)
		return p
	})
	_, quorum, errs = f.gather(ctx, requestAccept, q, quorum, func(a acceptor) bool { return a.Accepted == q.Ballot })
	keep := 0
	for _, k := range quorum {
		if q.Plan.Keeps(k.ID) {
			keep++
		}
	}
	if t := voters.count(quorum, self.Addr.Addr().Is6()); !t.quorum() || 2*keep <= len(q.Plan.Keepers) {
		return Plan{}, notAgreed(seen, errs)
	}
	_, _, _ = f.gather(ctx, requestChosen, q, seen, func(acceptor) bool { return true }) // who misses it sees the cluster
	f.cfg.Log.Info("founding a cluster together", "cluster", q.Plan.Cluster, "hosts", hostNames(quorum))
	if !q.Plan.Keeps(self.ID) {
		return Plan{}, netmap.Refuse(netmap.NoQuorum, "cluster %s is founded; waiting for its first keepers", q.Plan.Cluster)
	}
	return *q.Plan, nil
}

// catchUp makes the next ballot greater than those that other hosts have promised.
func (f *Founder) catchUp(ctx context.Context, promises map[netmap.HostID]acceptor) {
	most := uint64(0)
	for _, a := range promises {
		most = max(most, a.Promised.Round)
	}
	_, _ = f.change(ctx, func(a acceptor) (acceptor, bool) { // else the next attempt tries again
		return a.prepare(ballot{Round: min(most, a.Promised.Round+maxSkip)})
	})
}

func notAgreed(seen []Host, errs map[netmap.HostID]string) *netmap.Refusal {
	var parts []string
	for _, h := range seen {
		if why, ok := errs[h.ID]; ok {
			parts = append(parts, h.Name+": "+why)
		}
	}
	if len(parts) == 0 {
		parts = []string{"another host is about to found the cluster"}
	}
	return netmap.Refuse(netmap.NoQuorum, "the %d hosts that are here (%s) do not agree yet to found a cluster: %s; trying again", len(seen), hostNames(seen), strings.Join(parts, "; "))
}

// gather asks hosts, including this one, and returns their answers and who agreed.
func (f *Founder) gather(ctx context.Context, request string, q question, hosts []Host, agreed func(acceptor) bool) (answers map[netmap.HostID]acceptor, yes []Host, errs map[netmap.HostID]string) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	answers, errs = map[netmap.HostID]acceptor{}, map[netmap.HostID]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() {
			q := q
			q.To = h.ID
			a, err := f.ask(ctx, request, q, h)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs[h.ID] = why(err)
				return
			}
			answers[h.ID] = a
			if agreed(a) {
				yes = append(yes, h)
			}
		})
	}
	all.Wait()
	slices.SortFunc(yes, func(a, b Host) int { return a.ID.Compare(b.ID) })
	return answers, yes, errs
}

func why(err error) string {
	if refusal, ok := errors.AsType[*netmap.Refusal](err); ok {
		return refusal.Text
	}
	return "does not answer"
}

func (f *Founder) ask(ctx context.Context, request string, q question, h Host) (acceptor, error) {
	if h.ID == f.cfg.Self {
		return f.answer(ctx, q, map[string]func(acceptor, question) (acceptor, bool){
			requestPrepare: func(a acceptor, _ question) (acceptor, bool) { return a, false }, // it did before
			requestAccept:  func(a acceptor, q question) (acceptor, bool) { return a.accept(q.Ballot, q.Plan) },
			requestChosen:  func(a acceptor, q question) (acceptor, bool) { return a.choose(q.Plan), true },
		}[request])
	}
	b, err := state.Encode(q)
	if err != nil {
		return acceptor{}, err
	}
	answer, err := f.cfg.Underlay.Call(ctx, h.Addr, request, b)
	if err != nil {
		return acceptor{}, err
	}
	return state.Decode[acceptor](answer, state.MaxCommand)
}
