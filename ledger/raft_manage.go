package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/lease"
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

// manager keeps the set of keepers as membership says, while its keeper leads.
type manager struct {
	cfg     *Config
	log     *slog.Logger
	k       *keeper
	leaving *leavers
	trusted *trusted

	dead    map[netmap.HostID]time.Time // keepers, and since when
	refused map[netmap.HostID]time.Time // hosts that would not be keepers, and when they said so
	said    move                        // the change that was logged last
}

func newManager(l *Ledger, k *keeper) *manager {
	return &manager{cfg: &l.cfg, log: l.log, k: k, leaving: &l.leaving, trusted: l.trusted, dead: map[netmap.HostID]time.Time{}, refused: map[netmap.HostID]time.Time{}}
}

// run looks at the keepers again and again until ctx ends.
func (w *manager) run(ctx context.Context) {
	for round := 0; turn.Sleep(ctx, manageEvery); round++ {
		if err := w.k.machine.facts().halted; err != nil {
			w.k.raft.Shutdown() // a future; stop waits for it
			return
		}
		w.trusted.addLog(w.k)
		w.k.adjustPace()
		if !w.k.leads() {
			clear(w.dead)
			continue
		}
		if err := w.reconcile(ctx, round%pollEvery == 0); err != nil && ctx.Err() == nil {
			w.log.Warn("ledger: the keepers could not be changed; trying again", "err", err)
		}
		if round%removeEvery == removeEvery-1 {
			w.removeOverdue(ctx)
		}
	}
}

// reconcile makes one change to the set of keepers if one is due.
func (w *manager) reconcile(ctx context.Context, survey bool) error {
	s := w.observe()
	if len(s.Keepers) == 0 || s.Admitted == 0 {
		return nil // not founded yet
	}
	if s.Removed[s.Self] {
		return w.k.raft.LeadershipTransfer().Error()
	}
	w.pollReplicas(ctx, &s, survey)
	if s.handsOver() {
		return w.k.raft.LeadershipTransfer().Error()
	}
	m, due := s.next()
	if !due {
		w.said = move{}
		return nil
	}
	if m != w.said { // a change that fails is tried again without another line
		w.log.Info("ledger: changing the keepers", "change", string(m.Kind), "host", m.ID.Short(), "addr", m.Addr.String())
		w.said = m
	}
	err := w.carryOut(ctx, m)
	if m.Kind == moveInvite && err != nil { // meanwhile others are invited
		w.refused[m.ID] = time.Now()
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Busy}) {
			w.refused[m.ID] = time.Now().Add(inviteSoon - inviteAgain)
		}
	}
	return err
}

// observe collects what the choice of keepers depends on.
func (w *manager) observe() membership {
	f := w.k.machine.facts()
	s := membership{Self: w.k.self, Removed: f.removed, Admitted: len(f.admitted)}
	alive, addrs := map[netmap.HostID]bool{}, map[netmap.HostID]netip.AddrPort{}
	for _, m := range w.cfg.Members() {
		addrs[m.ID], alive[m.ID] = m.Addr, m.Alive
	}
	addrs[w.k.self], alive[w.k.self] = w.cfg.Addr, true
	leaving := w.leaving.list()
	for id, index := range f.admitted {
		s.Hosts = append(s.Hosts, candidate{ID: id, Addr: addrs[id], Index: index, Alive: alive[id], Refused: leaving[id] || w.refusedLately(id)})
		if leaving[id] {
			s.Admitted--
		}
	}
	now := time.Now()
	for _, p := range w.k.peers() {
		if _, admitted := f.admitted[p.ID]; !admitted && !f.removed[p.ID] {
			s.Admitted++ // one of the first keepers, about to be
		}
		m := member{ID: p.ID, Addr: w.cfg.current(p), Voter: p.Voter, Refused: w.refusedLately(p.ID), Leaving: leaving[p.ID]}
		if alive[p.ID] {
			delete(w.dead, p.ID)
		} else {
			if w.dead[p.ID].IsZero() {
				w.dead[p.ID] = now
			}
			m.Dead = max(now.Sub(w.dead[p.ID]), 1)
		}
		s.Keepers = append(s.Keepers, m)
	}
	return s
}

// refusedLately reports whether a host refused an invitation a short time ago, as one with a
// full disk does.
func (w *manager) refusedLately(id netmap.HostID) bool {
	at, ever := w.refused[id]
	return ever && time.Since(at) < inviteAgain
}

// pollReplicas asks the keepers how far they are, and dismisses hosts that believe wrongly that
// they are keepers.
func (w *manager) pollReplicas(ctx context.Context, s *membership, all bool) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	last := w.k.raft.LastIndex()
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
			answer, err := w.askReplicaStatus(ctx, m.Addr)
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
		w.dismissStrangers(ctx, s)
	}
}

func (w *manager) dismissStrangers(ctx context.Context, s *membership) {
	for _, m := range w.cfg.Members() {
		keeps := slices.ContainsFunc(s.Keepers, func(k member) bool { return k.ID == m.ID })
		if m.Keeper && m.Alive && !keeps && m.ID != s.Self {
			w.dismiss(ctx, m.Addr)
		}
	}
}

// carryOut makes one change and waits until it is decided.
func (w *manager) carryOut(ctx context.Context, m move) error {
	id, addr := raft.ServerID(m.ID.String()), w.k.configured(m)
	var f raft.IndexFuture
	switch m.Kind {
	case moveInvite:
		if err := w.invite(ctx, m.ID, m.Addr); err != nil {
			return fmt.Errorf("host %s does not become a keeper: %w", m.ID.Short(), err)
		}
		f = w.k.raft.AddNonvoter(id, addr, 0, membershipWait)
	case movePromote:
		f = w.k.raft.AddVoter(id, addr, 0, membershipWait)
	default:
		f = w.k.raft.RemoveServer(id, 0, membershipWait)
	}
	if err := f.Error(); err != nil {
		return fmt.Errorf("%s host %s: %w", m.Kind, m.ID.Short(), err)
	}
	if m.Kind == moveRemove {
		if at := w.cfg.addrOf(m.ID); at.IsValid() {
			w.dismiss(ctx, at)
		}
	}
	return nil
}

func (w *manager) askReplicaStatus(ctx context.Context, at netip.AddrPort) (replicaStatus, error) {
	b, err := w.cfg.Underlay.Call(ctx, at, requestReplicaStatus, nil)
	if err != nil {
		return replicaStatus{}, err
	}
	return state.Decode[replicaStatus](b, state.MaxReply)
}

// invite asks a host to keep the ledger. It names the host, since another one may be at the
// address of a host that was removed.
func (w *manager) invite(ctx context.Context, host netmap.HostID, at netip.AddrPort) error {
	return w.tell(ctx, at, requestJoin, host)
}

func (w *manager) dismiss(ctx context.Context, at netip.AddrPort) {
	if err := w.tell(ctx, at, requestDismiss, netmap.HostID{}); err != nil {
		w.log.Debug("ledger: a former keeper was not told", "addr", at.String(), "err", err)
	}
}

func (w *manager) tell(ctx context.Context, at netip.AddrPort, request string, host netmap.HostID) error {
	i := invitation{Cluster: w.k.cluster, Leader: w.k.self, Host: host, After: w.k.raft.LastIndex()}
	if w.k.generation > 1 {
		i.Generation = w.k.generation
	}
	for _, p := range w.k.peers() {
		i.Keepers = append(i.Keepers, p.ID)
	}
	b, err := state.Encode(i)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = w.cfg.Underlay.Call(ctx, at, request, b)
	return err
}

// removeOverdue removes the hosts whose leases ended RemoveAfter ago. It spares a host that the
// gossip still sees, since its containers run.
func (w *manager) removeOverdue(ctx context.Context) {
	if w.cfg.RemoveAfter <= 0 {
		return
	}
	alive := map[netmap.HostID]bool{w.k.self: true}
	for _, m := range w.cfg.Members() {
		alive[m.ID] = alive[m.ID] || m.Alive
	}
	for _, id := range w.k.machine.overdue(lease.Length + lease.Slack + w.cfg.RemoveAfter) {
		if alive[id] {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, attempt)
		r, err := w.k.propose(ctx, state.Command{
			Kind: state.KindRemove, Cluster: w.k.cluster, Host: w.cfg.Self, Start: w.cfg.Start, Nonce: w.cfg.Nonce, Remove: &state.Remove{Target: id},
		})
		cancel()
		if err == nil {
			err = r.Err()
		}
		w.log.Warn("ledger: a host was not heard since its lease ran out and is removed", "host", id.Short(), "after", w.cfg.RemoveAfter, "err", err)
	}
}
