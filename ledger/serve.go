package ledger

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Names of the host-to-host requests.
const (
	requestDo            = "ledger.do"             // Command -> outcome
	requestJoin          = "ledger.join"           // invitation -> replicaStatus: become a keeper
	requestReplicaStatus = "ledger.replica-status" // nothing -> replicaStatus
	requestDismiss       = "ledger.dismiss"        // invitation -> nothing: be a keeper no more
)

// outcome is a host's answer to a command: the leader's reply, or whom to ask instead.
type outcome struct {
	Reply   *state.Reply     `json:"reply,omitempty"`
	Cluster netmap.ClusterID `json:"cluster"`
	Leader  Peer             `json:"leader"` // zero: none known
	Keepers []Peer           `json:"keepers,omitempty"`
}

// replicaStatus says how far a keeper's log is.
type replicaStatus struct {
	Keeps   bool   `json:"keeps"`
	Applied uint64 `json:"applied"`
	Last    uint64 `json:"last"` // index of its newest entry
}

// invitation is the leader's request to keep the ledger, or to stop.
type invitation struct {
	Cluster netmap.ClusterID `json:"cluster"`
	Leader  netmap.HostID    `json:"leader"`
	Host    netmap.HostID    `json:"host"` // who is meant; zero in a dismissal
	Keepers []netmap.HostID  `json:"keepers"`
	// Generation of the leader's log, if it is not the first.
	Generation uint64 `json:"generation,omitempty"`
	// After is the last entry of the leader's log.
	After uint64 `json:"after,omitempty"`
}

// serve registers the handlers of other hosts' requests, or removes them.
func (l *Ledger) serve(on bool) {
	for name, h := range map[string]func(context.Context, netip.AddrPort, []byte) ([]byte, error){
		requestDo: l.handleDo, requestJoin: l.handleJoin, requestReplicaStatus: l.handleReplicaStatus, requestDismiss: l.handleDismiss,
		requestReport: l.handleReport, requestConsent: l.handleConsent, requestHistory: l.handleHistory, requestVacate: l.handleVacate, requestStart: l.handleStart,
	} {
		if !on {
			h = nil
		}
		l.cfg.Underlay.Handle(name, h)
	}
}

func (l *Ledger) handleDo(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error) {
	cmd, err := state.DecodeCommand(body)
	if err != nil {
		var refusal *netmap.Refusal
		if !errors.As(err, &refusal) {
			refusal = netmap.Refuse(netmap.BadInput, "%s", err)
		}
		return nil, refusal
	}
	o, err := l.local(ctx, cmd, from.Addr().Unmap())
	if err != nil {
		return nil, err
	}
	return state.Encode(o)
}

// local decides here if this host leads, and otherwise says whom to ask. A refusal is final. from is where
// the command came from, zero if this host asks itself.
func (l *Ledger) local(ctx context.Context, cmd state.Command, from netip.Addr) (outcome, error) {
	if l.isDoubtful() {
		return outcome{}, netmap.Refuse(netmap.Busy, starting)
	}
	k := l.kept()
	if k == nil || k.generation < cmd.Known { // a keeper of an older generation may not decide
		return l.referral(), nil
	}
	if k.leads() {
		decided := cmd
		if from.IsValid() {
			var refusal *netmap.Refusal
			if decided, refusal = l.checkAsker(ctx, k, cmd, from); refusal != nil {
				return outcome{}, refusal
			}
		}
		if refusal := l.checkOff(ctx, k, decided); refusal != nil {
			return outcome{}, refusal
		}
		r, err := k.propose(ctx, decided)
		if err == nil && r.Refusal == nil && decided.Kind != cmd.Kind {
			err = netmap.Refuse(netmap.Busy, "host %s was admitted while it asked; try again", cmd.Host.Short())
		}
		if err == nil {
			return outcome{Reply: &r, Cluster: r.Cluster, Leader: Peer{ID: k.self, Addr: l.cfg.Addr}, Keepers: k.peers()}, nil
		}
		if !transient(err) {
			return outcome{}, err
		}
	}
	return outcome{Cluster: l.Cluster(), Leader: k.leaderPeer(), Keepers: k.peers()}, nil
}

// transient reports whether another try may succeed where this one failed.
func transient(err error) bool {
	for _, e := range []error{
		raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress, raft.ErrRaftShutdown,
		raft.ErrEnqueueTimeout, raft.ErrAbortedByRestore, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// referral returns what a host that keeps nothing knows of the keepers.
func (l *Ledger) referral() outcome {
	keepers := l.cfg.announced()
	l.mu.Lock()
	defer l.mu.Unlock()
	return outcome{Cluster: l.cluster, Leader: l.leader, Keepers: keepers}
}

func (l *Ledger) handleReplicaStatus(context.Context, netip.AddrPort, []byte) ([]byte, error) {
	k := l.kept()
	if k == nil {
		return state.Encode(replicaStatus{})
	}
	if err := k.machine.facts().halted; err != nil {
		return nil, err
	}
	return state.Encode(replicaStatus{Keeps: true, Applied: k.machine.facts().applied, Last: k.raft.LastIndex()})
}

func (l *Ledger) handleJoin(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error) {
	i, err := state.Decode[invitation](body, state.MaxCommand)
	if err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "%s", err)
	}
	known := l.Cluster()
	switch {
	case i.Host != l.cfg.Self:
		return nil, netmap.Refuse(netmap.Unknown, "this is host %s, not %s; try again", l.cfg.Self.Short(), i.Host.Short())
	case known.IsZero():
		return nil, netmap.Refuse(netmap.Foreign, "this host is in no cluster yet; wait until it has joined")
	case known != i.Cluster:
		return nil, netmap.Refuse(netmap.Foreign, "this host belongs to cluster %s, not to %s; see weft status on both", known, i.Cluster)
	}
	inviter, err := l.inviter(ctx, i, from.Addr().Unmap())
	if err != nil {
		return nil, err
	}
	if k := l.kept(); k != nil && k.generation < max(i.Generation, 1) {
		if _, err := l.AskGeneration(ctx, i.Generation); err != nil {
			return nil, netmap.Refuse(netmap.NoQuorum, "%s; try again", err)
		}
		if err := l.supersede(i.Generation); err != nil {
			return nil, err
		}
	}
	if err := l.stopKeeper(); err != nil {
		return nil, err
	}
	if err := l.keep(i.Cluster, i.Generation, nil); err != nil {
		return nil, err
	}
	if k := l.kept(); k != nil && !k.current() {
		if err := k.invitedBy(invite{By: inviter, After: i.After}); err != nil {
			return nil, err
		}
	}
	l.log.Info("ledger: this host keeps the ledger from now on", "peer", from.Addr().String(), "host", i.Leader.Short())
	return state.Encode(replicaStatus{Keeps: true})
}

// inviter returns who asks this host to keep the ledger. It accepts only a keeper that this
// host trusts, at the address where it knows it, and that confirms there that it keeps this
// generation.
func (l *Ledger) inviter(ctx context.Context, i invitation, from netip.Addr) (Peer, error) {
	for _, p := range l.trusted.list() {
		if p.ID != i.Leader || p.Addr.Addr().Unmap() != from {
			continue
		}
		t, err := askReport(ctx, l.cfg.Underlay, p.Addr, netmap.HostID{})
		if err == nil && t.ID == p.ID && t.keeps() && t.Generation == max(i.Generation, 1) {
			return p, nil
		}
	}
	l.trusted.refresh()
	return Peer{}, netmap.Refuse(netmap.Unknown, "host %s is none of the keepers that host %s knows; it asks those who the keepers are; try again", i.Leader.Short(), l.cfg.Self.Short())
}

// handleDismiss does not believe the sender: it asks the keepers before it sets the log aside.
func (l *Ledger) handleDismiss(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	i, err := state.Decode[invitation](body, state.MaxCommand)
	k := l.kept()
	switch {
	case err != nil:
		return nil, netmap.Refuse(netmap.BadInput, "%s", err)
	case k == nil:
		return nil, nil
	case i.Cluster != k.cluster || k.leads() || max(i.Generation, 1) != k.generation:
		return nil, netmap.Refuse(netmap.Conflict, "this host keeps the ledger of cluster %s and goes on; look at weft status on both hosts", k.cluster)
	}
	if slices.Contains(i.Keepers, k.self) {
		return nil, netmap.Refuse(netmap.Conflict, "host %s is among the keepers named, so it goes on; try again", k.self.Short())
	}
	if l.dismissing.CompareAndSwap(false, true) {
		l.background(func(ctx context.Context) {
			defer l.dismissing.Store(false)
			if l.isDismissed(ctx, k) {
				if err := l.retire(); err != nil {
					l.log.Warn("ledger: this host is no keeper any more, and could not stop in order", "err", err)
				}
			}
		})
	}
	return nil, nil
}

// isDismissed reports whether a majority of the present keepers says that this one is none of
// them.
func (l *Ledger) isDismissed(ctx context.Context, k *keeper) bool {
	c := l.trusted.ask(ctx, netmap.HostID{})
	best := c.best()
	return best.Generation == k.generation && best.Last >= k.raft.LastIndex() && c.most(func(t report) bool {
		return t.Generation == k.generation && !slices.ContainsFunc(t.Voters, func(p Peer) bool { return p.ID == k.self })
	})
}
