package ledger

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/netmap"
)

// replaceAfter is how long a keeper is dead before it makes room for another.
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

// membership is all that the choice of keepers depends on.
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

// next is the one change to make now, if any. It is pure; carried out again and
// again it comes to rest. Each change is safe by raft's own rules; the order makes
// the time with an even number of voters, which tolerates less, short.
func (s membership) next() (move, bool) {
	for _, rule := range []func() (move, bool){s.dropGone, s.dropLost, s.promote, s.dropLeaving, s.dropDead, s.dropSpare, s.invite} {
		if m, ok := rule(); ok {
			return m, true
		}
	}
	return move{}, false
}

// wanted is the number of voters to have: odd, because one more tolerates no more
// deaths. Five are wanted only while there are five to sit, so that the dead among
// five are dropped and not waited for.
func (s membership) wanted() int {
	switch {
	case s.Admitted >= founding.MostKeepers && s.reachable() >= founding.MostKeepers:
		return founding.MostKeepers
	case s.Admitted >= founding.FewKeepers:
		return founding.FewKeepers
	}
	return 1
}

// reachable are the hosts that keep the ledger or could.
func (s membership) reachable() (n int) {
	for _, k := range s.Keepers {
		if k.Dead < replaceAfter && !s.Removed[k.ID] && !k.Leaving {
			n++
		}
	}
	return n + len(s.free())
}

// free are the live hosts that keep nothing and would.
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

// dropGone removes keepers that were removed from the cluster.
func (s membership) dropGone() (move, bool) {
	return s.dropIf(func(k member) bool { return s.Removed[k.ID] })
}

// dropLost removes voters that have lost their disk: such a one has forgotten
// what it voted for. A non-voter that has lost it is invited again, if it will.
func (s membership) dropLost() (move, bool) {
	for _, k := range s.Keepers {
		if k.Lost && !k.Voter && !k.Refused && k.Dead == 0 {
			return move{Kind: moveInvite, ID: k.ID, Addr: k.Addr}, true
		}
	}
	return s.dropIf(func(k member) bool { return k.Lost && (k.Voter || k.Refused) })
}

// promote makes non-voters vote. From an odd number it goes to the next one at once:
// two are no better than one, nor four than three, and worse when one of them dies.
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

// dropLeaving removes keepers that are about to leave the cluster, once others make
// up the number.
func (s membership) dropLeaving() (move, bool) {
	_, live := s.voters()
	return s.dropIf(func(k member) bool { return k.Leaving && (!k.Voter || live >= s.wanted()) })
}

// handsOver reports whether the leader itself is about to leave, and others are ready.
func (s membership) handsOver() bool {
	_, live := s.voters()
	return live >= s.wanted() && slices.ContainsFunc(s.Keepers, func(k member) bool { return k.ID == s.Self && k.Leaving })
}

// dropDead removes keepers that are dead for long: voters once others make up the
// number, non-voters at once.
func (s membership) dropDead() (move, bool) {
	_, live := s.voters()
	return s.dropIf(func(k member) bool {
		return k.Dead >= replaceAfter && (!k.Voter || live >= s.wanted())
	})
}

// dropSpare removes voters beyond the number, the dead and then the host admitted
// last first.
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

// decidesWithout reports whether the voters that are there at this moment are a
// majority when one is gone: who died just now still counts.
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

// invite adds the live host that was admitted first. It waits until there are
// enough live hosts to reach the number.
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
