package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Pace of the leader's care for the set of keepers.
const (
	manageEvery  = 500 * time.Millisecond
	pollEvery    = 10  // of those rounds: also ask the keepers that seem well
	removeEvery  = 120 // of those rounds: also look for hosts to remove
	pollWait     = time.Second
	inviteAgain  = 30 * time.Second
	inviteSoon   = 2 * time.Second // a host that said no, but not for its disk
	lagTolerated = 8               // entries that a non-voter may be behind and vote
)

// manage keeps the set of keepers as membership says, while this keeper leads.
func (l *Ledger) manage(ctx context.Context, k *keeper) {
	watch := &watcher{dead: map[netmap.HostID]time.Time{}, refused: map[netmap.HostID]time.Time{}}
	for round := 0; turn.Sleep(ctx, manageEvery); round++ {
		if err := k.machine.facts().halted; err != nil {
			k.raft.Shutdown() // a future; stop waits for it
			return
		}
		l.trustLog(k)
		if !k.leads() {
			clear(watch.dead)
			continue
		}
		if err := l.reconcile(ctx, k, watch, round%pollEvery == 0); err != nil && ctx.Err() == nil {
			l.log.Warn("ledger: the keepers could not be changed; trying again", "err", err)
		}
		if round%removeEvery == removeEvery-1 {
			l.removeOverdue(ctx, k)
		}
	}
}

// watcher remembers since when keepers have been dead, and who would not be one.
type watcher struct {
	dead    map[netmap.HostID]time.Time
	refused map[netmap.HostID]time.Time
	said    move
}

// reconcile makes one change to the set of keepers if one is due.
func (l *Ledger) reconcile(ctx context.Context, k *keeper, watch *watcher, survey bool) error {
	s := l.observe(k, watch)
	if len(s.Keepers) == 0 || s.Admitted == 0 {
		return nil // not founded yet
	}
	if s.Removed[s.Self] {
		return k.raft.LeadershipTransfer().Error()
	}
	l.pollReplicas(ctx, k, &s, survey)
	if s.handsOver() {
		return k.raft.LeadershipTransfer().Error()
	}
	m, due := s.next()
	if !due {
		watch.said = move{}
		return nil
	}
	if m != watch.said { // a change that fails is tried again without a word
		l.log.Info("ledger: changing the keepers", "change", string(m.Kind), "host", m.ID.Short(), "addr", m.Addr.String())
		watch.said = m
	}
	err := l.carryOut(ctx, k, m)
	if m.Kind == moveInvite && err != nil { // meanwhile others are invited
		watch.refused[m.ID] = time.Now()
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Busy}) {
			watch.refused[m.ID] = time.Now().Add(inviteSoon - inviteAgain)
		}
	}
	return err
}

// observe gathers what the choice of keepers depends on.
func (l *Ledger) observe(k *keeper, watch *watcher) membership {
	f := k.machine.facts()
	s := membership{Self: k.self, Removed: f.removed, Admitted: len(f.admitted)}
	alive, addrs := map[netmap.HostID]bool{}, map[netmap.HostID]netip.AddrPort{}
	for _, m := range l.cfg.Members() {
		addrs[m.ID], alive[m.ID] = m.Addr, m.Alive
	}
	addrs[k.self], alive[k.self] = l.cfg.Addr, true
	leaving := l.vacating()
	for id, index := range f.admitted {
		s.Hosts = append(s.Hosts, candidate{ID: id, Addr: addrs[id], Index: index, Alive: alive[id], Refused: leaving[id] || watch.refusedLately(id)})
		if leaving[id] {
			s.Admitted--
		}
	}
	now := time.Now()
	for _, p := range k.peers() {
		if _, admitted := f.admitted[p.ID]; !admitted && !f.removed[p.ID] {
			s.Admitted++ // one of the first keepers, about to be
		}
		m := member{ID: p.ID, Addr: l.current(p), Voter: p.Voter, Refused: watch.refusedLately(p.ID), Leaving: leaving[p.ID]}
		if alive[p.ID] {
			delete(watch.dead, p.ID)
		} else {
			if watch.dead[p.ID].IsZero() {
				watch.dead[p.ID] = now
			}
			m.Dead = max(now.Sub(watch.dead[p.ID]), 1)
		}
		s.Keepers = append(s.Keepers, m)
	}
	return s
}

// refusedLately reports whether a host said no when it was invited, as one with a full
// disk does, and is to be left alone.
func (w *watcher) refusedLately(id netmap.HostID) bool {
	at, ever := w.refused[id]
	return ever && time.Since(at) < inviteAgain
}

// pollReplicas asks the keepers how they are, and tells hosts that think they are
// keepers and are not.
func (l *Ledger) pollReplicas(ctx context.Context, k *keeper, s *membership, all bool) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	last := k.raft.LastIndex()
	type report struct {
		index  int
		answer replicaStatus
		err    error
	}
	reports := make(chan report, len(s.Keepers))
	asked := 0
	for i, m := range s.Keepers {
		if m.ID == s.Self || m.Dead > 0 || m.Voter && !all {
			continue
		}
		asked++
		go func() {
			answer, err := l.askReplicaStatus(ctx, m.Addr)
			reports <- report{i, answer, err}
		}()
	}
	for range asked {
		r := <-reports // each ends with ctx
		if r.err != nil {
			continue
		}
		s.Keepers[r.index].Lost = !r.answer.Keeps
		s.Keepers[r.index].CaughtUp = r.answer.Keeps && r.answer.Applied > 0 && r.answer.Last+lagTolerated >= last
	}
	if all {
		l.dismissStrangers(ctx, s)
	}
}

func (l *Ledger) dismissStrangers(ctx context.Context, s *membership) {
	for _, m := range l.cfg.Members() {
		keeps := slices.ContainsFunc(s.Keepers, func(k member) bool { return k.ID == m.ID })
		if m.Keeper && m.Alive && !keeps && m.ID != s.Self {
			l.dismiss(ctx, m.Addr)
		}
	}
}

// carryOut makes one change and waits until it is decided.
func (l *Ledger) carryOut(ctx context.Context, k *keeper, m move) error {
	id, addr := raft.ServerID(m.ID.String()), k.configured(m)
	var f raft.IndexFuture
	switch m.Kind {
	case moveInvite:
		if err := l.invite(ctx, m.ID, m.Addr, k); err != nil {
			return fmt.Errorf("host %s does not become a keeper: %w", m.ID.Short(), err)
		}
		f = k.raft.AddNonvoter(id, addr, 0, membershipWait)
	case movePromote:
		f = k.raft.AddVoter(id, addr, 0, membershipWait)
	default:
		f = k.raft.RemoveServer(id, 0, membershipWait)
	}
	if err := f.Error(); err != nil {
		return fmt.Errorf("%s host %s: %w", m.Kind, m.ID.Short(), err)
	}
	if m.Kind == moveRemove {
		if at := l.addrOf(m.ID); at.IsValid() {
			l.dismiss(ctx, at)
		}
	}
	return nil
}

// propose has the leader decide. The error says that this keeper does not lead or
// lost the lead meanwhile: then the command may or may not be decided later.
func (k *keeper) propose(ctx context.Context, cmd state.Command) (state.Reply, error) {
	if refusal := cmd.CheckLevel(k.machine.level()); refusal != nil {
		return state.Reply{}, refusal
	}
	cmd.At = time.Now().UnixMilli()
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
