package ledger

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Pace of a host that asks for a decision.
const (
	doLimit    = 4500 * time.Millisecond // for callers without a deadline: Docker waits five seconds
	attempt    = 1200 * time.Millisecond // for one host to answer
	firstPause = 20 * time.Millisecond
	lastPause  = 400 * time.Millisecond
	maxOpen    = 64 // requests under way; more wait their turn
)

// Do asks for a decision, from whichever host this is, and fills in who asks.
// Before the first command it has this start of the host admitted. It ends with
// ctx, or after 4.5 s if ctx has no deadline.
//
// The error is a *netmap.Refusal (errors.As): the state machine's own, with the
// Reply beside it, or NoQuorum, which names the keepers that did not answer. After
// NoQuorum the command may still be decided; to ask again for the same is safe,
// and commands that this start sends later are decided after it or instead of it.
func (l *Ledger) Do(ctx context.Context, cmd state.Command) (state.Reply, error) {
	if err := l.beAdmitted(ctx); err != nil {
		return state.Reply{}, err
	}
	if err := l.checkLevel(ctx, cmd); err != nil {
		return state.Reply{}, err
	}
	return l.decide(ctx, cmd)
}

// checkLevel refuses a command that is above the cluster's feature level: a host of an older
// release could not even read it.
func (l *Ledger) checkLevel(ctx context.Context, cmd state.Command) error {
	if cmd.CheckLevel(l.knownLevel()) == nil {
		return nil
	}
	if _, err := l.decide(ctx, state.Command{Kind: state.KindRenew}); err != nil { // the answer has the present level
		return err
	}
	if refusal := cmd.CheckLevel(l.knownLevel()); refusal != nil {
		return refusal
	}
	return nil
}

func (l *Ledger) beAdmitted(ctx context.Context) error {
	if l.asking.isAdmitted() {
		return nil
	}
	end, err := l.asking.admit.WaitWithin(ctx)
	if err != nil {
		return l.noQuorum(map[netmap.HostID]string{})
	}
	defer end()
	if l.asking.isAdmitted() {
		return nil
	}
	_, err = l.Admit(ctx)
	return err
}

// decide sends a command to one host after the other until one leads and answers.
func (l *Ledger) decide(ctx context.Context, cmd state.Command) (state.Reply, error) {
	if _, ok := ctx.Deadline(); !ok {
		limited, cancel := context.WithTimeout(ctx, doLimit)
		defer cancel()
		ctx = limited
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)() // Close ends it as well
	failures := map[netmap.HostID]string{}
	select {
	case l.asking.slots <- struct{}{}:
		defer func() { <-l.asking.slots }()
	case <-ctx.Done():
		return state.Reply{}, l.noQuorum(failures)
	}
	cmd.Host, cmd.Start, cmd.Nonce, cmd.Cluster = l.cfg.Self, l.cfg.Start, l.cfg.Nonce, l.Cluster()
	if !l.asking.begin(ctx, &cmd) {
		return state.Reply{}, l.noQuorum(failures)
	}
	defer l.asking.end(cmd.Request)
	cmd.Known = l.generationKnown()
	if err := cmd.Check(); err != nil {
		return state.Reply{}, err
	}
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		r, done, err := l.round(ctx, cmd, failures)
		if err == nil {
			err = r.Err()
		}
		if done || err != nil {
			return r, err
		}
		if !turn.Sleep(ctx, wait) || l.ctx.Err() != nil {
			return state.Reply{}, l.noQuorum(failures)
		}
	}
}

// knownLevel returns the feature level of the cluster as this host last heard it. The level
// never falls, so an old value is safe.
func (l *Ledger) knownLevel() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.level, 1)
}

// round asks each host that may lead or may know the leader, the likeliest first.
func (l *Ledger) round(ctx context.Context, cmd state.Command, failures map[netmap.HostID]string) (state.Reply, bool, error) {
	tried := map[Peer]bool{}
	for queue := l.likely(); len(queue) > 0 && ctx.Err() == nil && l.ctx.Err() == nil; {
		to := queue[0]
		queue = queue[1:]
		if to.Voter = false; to.ID == l.cfg.Self && to.Addr == l.cfg.Addr {
			to.Addr = netip.AddrPort{} // this one is asked once
		}
		if tried[to] {
			continue
		}
		tried[to] = true
		o, err := l.ask(ctx, to, cmd)
		if why := l.excuse(to, err); why != "" {
			failures[to.ID] = why
			l.forgetLeader(to.ID)
			continue
		}
		if err != nil {
			return state.Reply{}, true, err
		}
		if o.Reply != nil {
			l.learn(o)
			return *o.Reply, true, nil
		}
		failures[to.ID] = leaderless
		l.learn(o)
		if !o.Leader.ID.IsZero() {
			failures[to.ID] = "is not the leader"
			queue = append(l.cfg.places(o.Leader), queue...)
		}
		for _, p := range o.Keepers {
			queue = append(queue, Peer{ID: p.ID, Addr: l.cfg.current(p)})
		}
	}
	return state.Reply{}, false, nil
}

// excuse returns why a host gave no answer although another one may give one. It is empty if
// the host answered, also with a refusal.
func (l *Ledger) excuse(to Peer, err error) string {
	var refusal *netmap.Refusal
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &refusal):
		return "does not answer"
	case refusal.Kind == netmap.Foreign && to.ID != l.cfg.Self:
		return "refuses: " + refusal.Text
	case refusal.Kind == netmap.Busy:
		return refusal.Text
	}
	return ""
}

// likely returns the hosts to ask: this one if it keeps the ledger, the last known leader, the
// keepers, then some other live hosts, as they may know the keepers.
func (l *Ledger) likely() []Peer {
	l.mu.Lock()
	leader, keeps := l.leader, l.keeper != nil
	l.mu.Unlock()
	var out []Peer
	if keeps {
		out = append(out, Peer{ID: l.cfg.Self})
	}
	if !leader.ID.IsZero() {
		out = append(out, l.cfg.places(leader)...)
	}
	members := slices.Clone(l.cfg.Members())
	rank := func(m Member) int {
		switch {
		case m.Keeper && m.Alive:
			return 0
		case m.Alive:
			return 1
		case m.Keeper:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(members, func(a, b Member) int { return rank(a) - rank(b) })
	others := 0
	for _, m := range members {
		if m.ID == l.cfg.Self || !m.Addr.IsValid() || rank(m) == 3 {
			continue
		}
		if rank(m) == 1 {
			if others++; others > 3 { // three are enough to learn who the keepers are
				continue
			}
		}
		out = append(out, Peer{ID: m.ID, Addr: m.Addr})
	}
	return out
}

// ask sends a command to one host.
func (l *Ledger) ask(ctx context.Context, to Peer, cmd state.Command) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	if to.ID == l.cfg.Self && !to.Addr.IsValid() {
		return l.local(ctx, cmd, netip.Addr{})
	}
	b, err := state.EncodeCommand(cmd)
	if err != nil {
		return outcome{}, err
	}
	answer, err := l.cfg.Underlay.Call(ctx, to.Addr, requestDo, b)
	if err != nil {
		return outcome{}, err
	}
	return state.Decode[outcome](answer, state.MaxReply)
}

// learn records what an answer says about the keepers and the cluster.
func (l *Ledger) learn(o outcome) {
	decided := o.Reply != nil && o.Reply.Refusal == nil
	if decided {
		l.trusted.heardOf(o.Keepers)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !o.Leader.ID.IsZero() {
		l.leader = o.Leader
	}
	if decided {
		l.cluster = cmp.Or(l.cluster, o.Reply.Cluster)
		l.level = max(l.level, o.Reply.Level)
	}
	if len(o.Keepers) > 0 { // also of one that knows no leader: who is missing is among these
		l.known = l.known[:0]
		for _, p := range o.Keepers {
			if p.Voter {
				l.known = append(l.known, p.ID)
			}
		}
	}
}

func (l *Ledger) forgetLeader(id netmap.HostID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leader.ID == id {
		l.leader = Peer{}
	}
}
