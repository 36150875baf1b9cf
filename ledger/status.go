package ledger

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/netmap"
)

// Peer is a keeper.
type Peer struct {
	ID    netmap.HostID  `json:"id"`
	Addr  netip.AddrPort `json:"addr"`
	Voter bool           `json:"voter"`
}

// peersOf returns the first keepers, which all vote.
func peersOf(first []founding.Keeper) (out []Peer) {
	for _, k := range first {
		out = append(out, Peer{ID: k.ID, Addr: k.Addr, Voter: true})
	}
	return out
}

// Status is what this host knows of the ledger.
type Status struct {
	Cluster    netmap.ClusterID `json:"cluster"`
	Generation uint64           `json:"generation"` // 0 where nothing is kept
	Role       string           `json:"role"`       // none, follower, candidate, leader
	Leader     netmap.HostID    `json:"leader"`     // zero: none known
	Keepers    []Peer           `json:"keepers"`    // on keepers from the log, elsewhere as last heard
	Applied    uint64           `json:"applied"`    // index of the newest decision known here
	Problem    string           `json:"problem,omitempty"`
}

// Status returns what this host knows at this moment.
func (l *Ledger) Status() Status {
	s := l.picture()
	if s.Problem == "" {
		s.Problem = l.trouble(s)
	}
	if s.Problem == "" {
		if s.Problem = l.trusted.problem(); s.Problem != "" {
			l.trusted.refresh()
		}
	}
	return s
}

func (l *Ledger) picture() Status {
	l.mu.Lock()
	s := Status{Cluster: l.cluster, Role: "none", Leader: l.leader.ID}
	if l.fault != nil {
		s.Problem = raftlog.FaultText(l.fault, l.cfg.Dir)
	}
	k, known := l.keeper, slices.Clone(l.known)
	l.mu.Unlock()
	if k == nil {
		for _, id := range known {
			s.Keepers = append(s.Keepers, Peer{ID: id, Addr: l.cfg.addrOf(id), Voter: true})
		}
		return s
	}
	s.Keepers, s.Leader, s.Role = k.peers(), k.leaderPeer().ID, roleName(k.raft.State())
	f := k.machine.facts()
	s.Generation, s.Applied = f.generation, f.applied
	switch {
	case f.halted != nil:
		s.Problem = f.halted.Error()
	case f.undeclared != "":
		s.Problem = "the ledger was recovered, and no further block is given out until " + f.undeclared + " has declared what it holds: start it, or if the machine is off for good, remove it (weft host rm HOST --is-off)"
	}
	return s
}

func roleName(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Follower:
		return "follower"
	}
	return "none"
}

// peers returns the keepers of this keeper's newest configuration, each at the address of its
// last start that the ledger heard of.
func (k *keeper) peers() []Peer {
	var out []Peer
	for _, s := range k.servers() {
		id, addr, err := parseServer(s.Address)
		if err != nil {
			continue
		}
		if at := k.machine.addrOf(id); at.IsValid() {
			addr = at
		}
		out = append(out, Peer{ID: id, Addr: addr, Voter: s.Suffrage == raft.Voter})
	}
	return out
}

// leaderPeer returns the leader as this keeper knows it, zero if there is none.
func (k *keeper) leaderPeer() Peer {
	addr, _ := k.raft.LeaderWithID()
	id, at, err := parseServer(addr)
	if err != nil {
		return Peer{}
	}
	return Peer{ID: id, Addr: at, Voter: true}
}
