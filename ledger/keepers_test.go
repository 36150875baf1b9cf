package ledger

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

func at(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 7950)
}

// among makes a membership of hosts 1 to n, all alive, led by host 1.
func among(n int, keepers ...member) membership {
	s := membership{Self: hostID(1), Keepers: keepers, Removed: map[netmap.HostID]bool{}, Admitted: n}
	for i := 1; i <= n; i++ {
		s.Hosts = append(s.Hosts, candidate{ID: hostID(i), Addr: at(i), Index: uint32(i), Alive: true})
	}
	return s
}

// absent is the same with one host that is not alive.
func absent(n int, s membership) membership {
	s.Hosts[n-1].Alive = false
	return s
}

// refuses is the same with one host that would be no keeper.
func refuses(n int, s membership) membership {
	s.Hosts[n-1].Refused = true
	return s
}

// staying counts as admitted only those that do not leave.
func staying(n int, s membership) membership {
	s.Admitted = n
	return s
}

func voter(n int) member { return member{ID: hostID(n), Addr: at(n), Voter: true} }

func ready(n int) member { return member{ID: hostID(n), Addr: at(n), CaughtUp: true} }

func dead(k member, d time.Duration) member {
	k.Dead = d
	return k
}

func lost(k member) member {
	k.Lost = true
	return k
}

func leaving(k member) member {
	k.Leaving = true
	return k
}

// moveCase is a membership and what the leader does next.
type moveCase struct {
	name string
	s    membership
	kind moveKind // empty: at rest
	host int
}

func nextMoves(t *testing.T, cases []moveCase) {
	t.Helper()
	for _, c := range cases {
		m, due := c.s.next()
		if due != (c.kind != "") || m.Kind != c.kind || due && m.ID != hostID(c.host) {
			t.Errorf("%s: got %+v", c.name, m)
		}
	}
}

func TestNextMove(t *testing.T) {
	refused := func(k member) member { k.Refused = true; return k }
	nextMoves(t, []moveCase{
		{"one host", among(1, voter(1)), "", 0},
		{"two hosts", among(2, voter(1)), "", 0},
		{"three hosts", among(3, voter(1)), moveInvite, 2},
		{"the second is invited before the first votes", among(3, voter(1), ready(2)), moveInvite, 3},
		{"waits for both", among(3, voter(1), ready(2), member{ID: hostID(3), Addr: at(3)}), "", 0},
		{"both are ready", among(3, voter(1), ready(2), ready(3)), movePromote, 2},
		{"one is left", among(3, voter(1), voter(2), ready(3)), movePromote, 3},
		{"three keepers", among(4, voter(1), voter(2), voter(3)), "", 0},
		{"dead for a moment", among(4, voter(1), voter(2), dead(voter(3), time.Second)), "", 0},
		{"dead for long", among(4, voter(1), voter(2), dead(voter(3), replaceAfter)), moveInvite, 4},
		{"its heir is ready", among(4, voter(1), voter(2), dead(voter(3), replaceAfter), ready(4)), movePromote, 4},
		{"its heir votes", among(4, voter(1), voter(2), dead(voter(3), replaceAfter), voter(4)), moveRemove, 3},
		{"a dead non-voter", among(4, voter(1), voter(2), voter(3), dead(member{ID: hostID(4), Addr: at(4)}, replaceAfter)), moveRemove, 4},
		{"a voter lost its disk", among(4, voter(1), lost(voter(2)), voter(3)), moveRemove, 2},
		{"a non-voter lost its disk", among(3, voter(1), lost(member{ID: hostID(2), Addr: at(2)}), ready(3)), moveInvite, 2},
		{"a non-voter's disk is full", among(3, voter(1), refused(lost(member{ID: hostID(2), Addr: at(2)})), ready(3)), moveRemove, 2},
		{"a full disk is left alone", refuses(4, among(5, voter(1), voter(2), lost(voter(3)))), moveRemove, 3},
		{"and another host is invited", refuses(3, among(4, voter(1), voter(2))), moveInvite, 4},
		{"too many", among(4, voter(1), voter(2), voter(3), voter(4)), moveRemove, 4},
	})
	gone := among(4, voter(1), voter(2), voter(3))
	gone.Removed[hostID(2)] = true
	if m, _ := gone.next(); m.Kind != moveRemove || m.ID != hostID(2) {
		t.Errorf("a removed host: %+v", m)
	}
}

func TestNextMoveAmongFive(t *testing.T) {
	nextMoves(t, []moveCase{
		{"five hosts", among(5, voter(1), voter(2), voter(3)), moveInvite, 4},
		{"the fourth waits for the fifth", among(5, voter(1), voter(2), voter(3), ready(4)), moveInvite, 5},
		{"waits for both again", among(5, voter(1), voter(2), voter(3), ready(4), member{ID: hostID(5), Addr: at(5)}), "", 0},
		{"the fourth and the fifth are ready", among(5, voter(1), voter(2), voter(3), ready(4), ready(5)), movePromote, 4},
		{"four is no number", among(5, voter(1), voter(2), voter(3), voter(4), ready(5)), movePromote, 5},
		{"five keepers", among(9, voter(1), voter(2), voter(3), voter(4), voter(5)), "", 0},
		{"one of five is dead for a moment", among(5, voter(1), voter(2), voter(3), voter(4), dead(voter(5), time.Second)), "", 0},
		{"one of five is dead, and another host is there", among(6, voter(1), voter(2), voter(3), voter(4), dead(voter(5), replaceAfter)), moveInvite, 6},
		{"one of five is dead, and no other host is there", absent(5, among(5, voter(1), voter(2), voter(3), voter(4), dead(voter(5), replaceAfter))), moveRemove, 5},
		{"then four are one too many", absent(5, among(5, voter(1), voter(2), voter(3), voter(4))), moveRemove, 4},
		{"then three are left", absent(5, among(5, voter(1), voter(2), voter(3))), "", 0},
	})
}

func TestNextMoveWhenHostsGo(t *testing.T) {
	nextMoves(t, []moveCase{
		{"one of four leaves", staying(3, among(4, voter(1), leaving(voter(2)), voter(3))), moveInvite, 4},
		{"its heir is ready before it goes", staying(3, among(4, voter(1), leaving(voter(2)), voter(3), ready(4))), movePromote, 4},
		{"it goes", staying(3, among(4, voter(1), leaving(voter(2)), voter(3), voter(4))), moveRemove, 2},
		{"one of three leaves, two are left", staying(2, among(3, voter(1), leaving(voter(2)), voter(3))), moveRemove, 2},
		{"the only keeper leaves", staying(1, among(2, leaving(voter(1)))), moveInvite, 2},
		{"the heir of the only keeper is ready", staying(1, among(2, leaving(voter(1)), ready(2))), movePromote, 2},
		{"the leader does not remove itself", staying(1, among(2, leaving(voter(1)), voter(2))), "", 0},
		{"two hosts are left", among(2, voter(1), voter(2)), moveRemove, 2},
		{"one of two that are left died just now", among(2, voter(1), voter(2), dead(voter(3), time.Second)), moveRemove, 3},
		{"two of four died just now", among(3, voter(1), dead(voter(2), time.Second), voter(3), dead(voter(4), time.Second)), moveRemove, 2},
	})
}

// TestMovesComeToRest carries moves out until there are none: the leader keeps
// its place, and live hosts end up with the wanted number of voters.
func TestMovesComeToRest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(rt, "hosts")
		s := among(n, voter(1))
		alive := 1
		for i := 2; i <= n; i++ {
			up := rapid.Bool().Draw(rt, "alive")
			s.Hosts[i-1].Alive = up
			if up {
				alive++
			}
			k := member{ID: hostID(i), Addr: at(i), Voter: rapid.Bool().Draw(rt, "voter"), CaughtUp: up}
			if !up {
				k.Dead = replaceAfter
			}
			if rapid.Bool().Draw(rt, "kept") {
				s.Keepers = append(s.Keepers, k)
			}
		}
		for moves := 0; ; moves++ {
			m, due := s.next()
			if !due {
				break
			}
			if moves > 30 || m.ID == s.Self {
				rt.Fatalf("move %d is %+v in %+v", moves, m, s.Keepers)
			}
			i := slices.IndexFunc(s.Keepers, func(k member) bool { return k.ID == m.ID })
			switch m.Kind {
			case moveInvite:
				s.Keepers = append(s.Keepers, member{ID: m.ID, Addr: m.Addr, CaughtUp: true})
			case movePromote:
				s.Keepers[i].Voter = true
			case moveRemove:
				s.Keepers = slices.Delete(s.Keepers, i, i+1)
			default:
				rt.Fatalf("unexpected %+v", m)
			}
		}
		if _, live := s.voters(); alive >= s.wanted() && live != s.wanted() {
			rt.Fatalf("%d live voters of %d live hosts among %d: %+v", live, alive, n, s.Keepers)
		}
	})
}
