package ledger

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/netmap"
)

// replaceAfter is how long a keeper must be unreachable before another host replaces it.
const replaceAfter = 60 * time.Second

// member is one place among the keepers.
type member struct {
	ID    netmap.HostID
	Addr  netip.AddrPort
	Voter bool

	// What the leader observed:
	Dead     time.Duration // unreachable for so long
	CaughtUp bool          // a non-voter that has the whole log
	Lost     bool          // says that it keeps no log
	Refused  bool          // was invited just now and said no
	Leaving  bool          // is about to leave the cluster
}

// candidate is a host that could become a keeper.
type candidate struct {
	ID    netmap.HostID
	Addr  netip.AddrPort
	Index uint32 // lowest first
	Alive bool

	Refused bool // was invited just now and said no, or is about to leave
}

// membership has everything that the choice of keepers depends on.
type membership struct {
	Self     netmap.HostID
	Keepers  []member
	Removed  map[netmap.HostID]bool // removed from the cluster
	Hosts    []candidate            // admitted, the keepers too
	Admitted int
}

type moveKind string

const (
	moveInvite  moveKind = "invite"  // add as non-voter
	movePromote moveKind = "promote" // make it vote
	moveRemove  moveKind = "remove"
)

// move is one change of the keepers.
type move struct {
	Kind moveKind
	ID   netmap.HostID
	Addr netip.AddrPort
}

// next returns the one change to make now, if any. It is pure, and applied again and again it
// ends. Each change is safe by raft's own rules. The order of the rules keeps short the time
// with an even number of voters, which tolerates fewer failures.
func (s membership) next() (move, bool) {
	for _, rule := range []func() (move, bool){s.dropGone, s.dropLost, s.promote, s.dropLeaving, s.dropDead, s.dropSpare, s.invite} {
		if m, ok := rule(); ok {
			return m, true
		}
	}
	return move{}, false
}

// wanted returns how many voters there should be. The number is odd, because one voter more
// tolerates no more failures. Five are wanted only while five hosts can be reached: so the dead
// ones among five are removed, and nobody waits for them.
func (s membership) wanted() int {
	switch {
	case s.Admitted >= founding.MostKeepers && s.reachable() >= founding.MostKeepers:
		return founding.MostKeepers
	case s.Admitted >= founding.FewKeepers:
		return founding.FewKeepers
	}
	return 1
}

// reachable counts the hosts that keep the ledger or could.
func (s membership) reachable() (n int) {
	for _, k := range s.Keepers {
		if k.Dead < replaceAfter && !s.Removed[k.ID] && !k.Leaving {
			n++
		}
	}
	return n + len(s.free())
}

// free returns the live hosts that do not keep the ledger and would.
func (s membership) free() (out []candidate) {
	for _, h := range s.Hosts {
		keeps := slices.ContainsFunc(s.Keepers, func(k member) bool { return k.ID == h.ID })
		if h.Alive && !h.Refused && !keeps && h.Addr.IsValid() {
			out = append(out, h)
		}
	}
	return out
}

func (s membership) voters() (all, live int) {
	for _, k := range s.Keepers {
		if k.Voter {
			all++
			if k.Dead < replaceAfter && !k.Lost && !k.Leaving {
				live++
			}
		}
	}
	return all, live
}

func (s membership) dropIf(ok func(member) bool) (move, bool) {
	for _, k := range s.Keepers {
		if k.ID != s.Self && ok(k) {
			return move{Kind: moveRemove, ID: k.ID}, true
		}
	}
	return move{}, false
}

// dropGone removes a keeper that was removed from the cluster.
func (s membership) dropGone() (move, bool) {
	return s.dropIf(func(k member) bool { return s.Removed[k.ID] })
}

// dropLost removes a voter that has lost its disk, as it has forgotten what it voted for. A
// non-voter that has lost it is invited again, unless it refuses.
func (s membership) dropLost() (move, bool) {
	for _, k := range s.Keepers {
		if k.Lost && !k.Voter && !k.Refused && k.Dead == 0 {
			return move{Kind: moveInvite, ID: k.ID, Addr: k.Addr}, true
		}
	}
	return s.dropIf(func(k member) bool { return k.Lost && (k.Voter || k.Refused) })
}

// promote lets a non-voter vote. It goes from one odd number to the next at once: two voters
// are no better than one, nor four than three, and they are worse when one of them dies.
func (s membership) promote() (move, bool) {
	_, live := s.voters()
	ready := 0
	for _, k := range s.Keepers {
		if !k.Voter && k.CaughtUp {
			ready++
		}
	}
	if live >= s.wanted() || live%2 == 1 && ready < 2 {
		return move{}, false
	}
	for _, k := range s.Keepers {
		if !k.Voter && k.CaughtUp {
			return move{Kind: movePromote, ID: k.ID, Addr: k.Addr}, true
		}
	}
	return move{}, false
}

// dropLeaving removes a keeper that is about to leave the cluster, once others make up the
// number.
func (s membership) dropLeaving() (move, bool) {
	_, live := s.voters()
	return s.dropIf(func(k member) bool { return k.Leaving && (!k.Voter || live >= s.wanted()) })
}

// handsOver reports whether the leader itself is about to leave and the others are ready.
func (s membership) handsOver() bool {
	_, live := s.voters()
	return live >= s.wanted() && slices.ContainsFunc(s.Keepers, func(k member) bool { return k.ID == s.Self && k.Leaving })
}

// dropDead removes a keeper that has been dead for long: a non-voter at once, a voter once
// others make up the number.
func (s membership) dropDead() (move, bool) {
	_, live := s.voters()
	return s.dropIf(func(k member) bool {
		return k.Dead >= replaceAfter && (!k.Voter || live >= s.wanted())
	})
}

// dropSpare removes a voter beyond the wanted number: a dead one first, then the host that was
// admitted last.
func (s membership) dropSpare() (move, bool) {
	all, live := s.voters()
	if all <= s.wanted() || live <= s.wanted() {
		return move{}, false
	}
	index := map[netmap.HostID]uint32{}
	for _, h := range s.Hosts {
		index[h.ID] = h.Index
	}
	spare := slices.SortedFunc(slices.Values(s.Keepers), func(a, b member) int {
		return cmp.Or(cmp.Compare(b.Dead, a.Dead), cmp.Compare(index[b.ID], index[a.ID]))
	})
	for _, k := range spare {
		if k.Voter && k.ID != s.Self && s.decidesWithout(k.ID) {
			return move{Kind: moveRemove, ID: k.ID}, true
		}
	}
	return move{}, false
}

// decidesWithout reports whether the voters that can be reached now are a majority without this
// one. A voter that died a moment ago still counts as one that is needed.
func (s membership) decidesWithout(id netmap.HostID) bool {
	all, here := 0, 0
	for _, k := range s.Keepers {
		if k.Voter && k.ID != id {
			all++
			if k.Dead == 0 && !k.Lost {
				here++
			}
		}
	}
	return 2*here > all
}

// invite adds the live host that was admitted first. It waits until there are enough live hosts
// to reach the wanted number.
func (s membership) invite() (move, bool) {
	_, live := s.voters()
	for _, k := range s.Keepers {
		if !k.Voter && !k.Leaving {
			live++
		}
	}
	free := s.free()
	if live >= s.wanted() || len(free) == 0 || live+len(free) < s.wanted() {
		return move{}, false
	}
	slices.SortFunc(free, func(a, b candidate) int { return cmp.Compare(a.Index, b.Index) })
	return move{Kind: moveInvite, ID: free[0].ID, Addr: free[0].Addr}, true
}
