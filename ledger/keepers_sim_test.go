package ledger_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

func TestAKeeperThatIsDeadForLongIsReplaced(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(4)
		before := s.voters()
		victim := s.hosts[int(before[1][0])]
		victim.crash()
		took := s.eventually("another host votes in its place", 2*time.Minute, func() bool {
			v := s.voters()
			return len(v) == 3 && !slices.Contains(v, hostID(victim.n))
		})
		if took < 60*time.Second {
			s.t.Errorf("replaced after %s only", took)
		}
		victim.reboot()
		s.eventually("the former keeper learns that it is none", 30*time.Second, func() bool { return !victim.keeps() })
		victim.do(ensure())
		if hasFiles(s.t, s.dir, victim.n) {
			s.t.Error("its log is still there")
		}
	})
}

func hasFiles(t testing.TB, dir string, n int) bool {
	t.Helper()
	_, err := os.Stat(fmt.Sprintf("%s/%d/raft.db", dir, n))
	return err == nil
}

func TestKeepersMayChangeTheirAddress(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		h := s.hosts[2]
		h.crash()
		h.addr = netip.MustParseAddr("198.51.100.2")
		h.reboot()
		h.do(ensure())
		s.eventually("the keepers know the new address", 10*time.Second, func() bool {
			l := s.leader()
			if l == nil {
				return false
			}
			return slices.ContainsFunc(l.ledger.Status().Keepers, func(p ledger.Peer) bool { return p.ID == hostID(2) && p.Addr.Addr() == h.addr })
		})
		s.agree()
	})
}

func TestAllKeepersMayChangeTheirAddressAtOnce(t *testing.T) {
	bubble(t, 3, lan, func(s *sim) {
		s.found()
		s.grow(3)
		for n := 1; n <= 3; n++ {
			s.hosts[n].crash()
		}
		for n := 1; n <= 3; n++ {
			s.hosts[n].addr = netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
			s.hosts[n].reboot()
		}
		s.eventually("a leader is found", 15*time.Second, func() bool { return s.leader() != nil })
		s.hosts[3].do(ensure())
	})
}

func TestRemovedHostsStopKeeping(t *testing.T) {
	bubble(t, 4, lan, func(s *sim) {
		s.found()
		s.grow(4)
		victim := s.hosts[int(s.voters()[2][0])]
		if victim == s.leader() {
			victim = s.hosts[int(s.voters()[0][0])]
		}
		leader, remove := s.leader(), state.Command{Kind: state.KindRemove, Remove: &state.Remove{Target: hostID(victim.n), IsOff: true}}
		if _, err := leader.ledger.Do(s.t.Context(), remove); !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}) || !strings.Contains(err.Error(), "is not off: it answers at") {
			s.t.Errorf("a host that runs was removed as off: %v", err)
		}
		s.net.Cut(leader.addr, victim.addr)
		leader.do(remove)
		leader.do(remove)
		s.net.HealAll()
		s.eventually("the removed host is no keeper and another is", 30*time.Second, func() bool {
			return len(s.voters()) == 3 && !slices.Contains(s.voters(), hostID(victim.n))
		})
		_, err := victim.ledger.Do(s.t.Context(), ensure())
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Removed}) {
			s.t.Errorf("the removed host got %v", err)
		}
	})
}

// TestSilentHostsAreRemoved: RemoveAfter after their lease, unless they are alive.
func TestSilentHostsAreRemoved(t *testing.T) {
	seeded(t, 1, 2, lan, func(s *sim) {
		s.removeAfter = 2 * time.Hour
		s.found()
		s.grow(2)
		h := s.hosts[2]
		h.do(ensure())
		time.Sleep(lease.Length + lease.Slack + s.removeAfter + 2*time.Minute)
		h.do(ensure()) // it did not renew, but it is alive
		h.crash()
		s.eventually("it is removed", 5*time.Minute, func() bool {
			h.sim.hosts[1].mu.Lock()
			defer h.sim.hosts[1].mu.Unlock()
			e, _ := s.hosts[1].facts[netmap.HostEntryKey(hostID(2))].(netmap.HostEntry)
			return e.Removed
		})
		h.reboot()
		_, err := h.ledger.Do(s.t.Context(), ensure())
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Removed}) {
			s.t.Errorf("the removed host got %v", err)
		}
	})
}

// TestFiveKeepersLoseTwoAtOnce: three go on deciding, become the keepers, and five
// keep again when the two are back.
func TestFiveKeepersLoseTwoAtOnce(t *testing.T) {
	bubble(t, 5, lan, func(s *sim) {
		s.found()
		s.grow(5)
		var lost []*simHost
		for _, n := range s.numbers() {
			if h := s.hosts[n]; h != s.leader() && len(lost) < 2 {
				lost = append(lost, h)
			}
		}
		for _, h := range lost {
			h.crash()
		}
		s.leader().do(ensure())
		s.eventually("three keepers are left", 3*time.Minute, func() bool { return len(s.voters()) == 3 })
		s.leader().do(grant())
		for _, h := range lost {
			h.reboot()
		}
		s.eventually("five keepers vote again", time.Minute, func() bool { return len(s.voters()) == 5 })
		s.agree()
	})
}
