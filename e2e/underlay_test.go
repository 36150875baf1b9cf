package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// uplink is the interface of a lab host that leads to the others.
const uplink = "eth0"

// uplinkOf is what a DHCP client gave a lab host.
type uplinkOf struct {
	host      *lab.Host
	bits, via string
}

// uplink has the host's address and default route restored when the test ends.
func (s *scene) uplink(h *lab.Host) uplinkOf {
	s.t.Helper()
	out, err := h.Exec(s.t.Context(), "sh", "-c", "ip -4 -o addr show dev "+uplink+" scope global; ip -4 route show default")
	must(s.t, err)
	lines := strings.Split(out, "\n")
	_, bits, _ := strings.Cut(strings.Fields(lines[0])[3], "/")
	u := uplinkOf{h, bits, lines[1]}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), answerWithin)
		defer cancel()
		if err := u.lease(ctx, h.Addr4()); err != nil {
			s.t.Error(err)
		}
	})
	return u
}

// lease changes the host's IPv4 address as a DHCP client does, all at once, or only takes
// it away if the new one is zero.
func (u uplinkOf) lease(ctx context.Context, addr netip.Addr) error {
	script := "set -e; ip -4 addr flush dev " + uplink + " scope global"
	if addr.IsValid() {
		script += fmt.Sprintf("; ip addr add %s/%s dev %s; ip route replace %s", addr, u.bits, uplink, u.via)
	}
	_, err := u.host.Exec(ctx, "sh", "-c", script)
	return err
}

// well is nil when all members see each other alive at the addresses that they have, keep
// the ledger, and none has a problem.
func (s *scene) well(ctx context.Context, at map[string]netip.Addr) error {
	return each(s.members(), func(h *lab.Host) error {
		report, err := s.report(ctx, h)
		if err != nil {
			return err
		}
		wrong := len(report.Problems) > 0 || len(report.Ledger.Keepers) != members || report.Ledger.Leader.IsZero()
		for _, seen := range report.Hosts {
			wrong = wrong || seen.State != "alive" || seen.Underlay.Addr() != at[seen.Name]
		}
		if wrong {
			return fmt.Errorf("%s sees %+v, ledger %+v, problems %q; want addresses %v", h.Name(), report.Hosts, report.Ledger, report.Problems, at)
		}
		return nil
	})
}

// TestIntegrationTheUnderlayChanges changes the leader's address, another host's address while its
// dockerd starts, and an MTU, while agents run. Containers reach each other again within seconds, new
// ones get the MTU that the underlay carries, and no problem is left.
func TestIntegrationTheUnderlayChanges(t *testing.T) {
	s := onSpares(t)
	s.trio()
	network := s.network(s.hosts[0], "overlay")
	boxes := s.runOnAll(network, "box")
	s.matrix(boxes...)
	at := map[string]netip.Addr{}
	for _, h := range s.hosts {
		at[h.Name()] = h.Addr4()
	}
	other := func(h *lab.Host) netip.Addr {
		b := h.Addr4().As4()
		b[3] += 100
		return netip.AddrFrom4(b)
	}
	leader, followers := s.leader()
	began := time.Now()
	must(t, s.uplink(leader).lease(t.Context(), other(leader)))
	at[leader.Name()] = other(leader)
	s.matrix(boxes...)
	reached := time.Since(began)
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.well(ctx, at) })
	t.Logf("another address: containers reach each other after %.1f s, nothing is left to be told after %.1f s", reached.Seconds(), time.Since(began).Seconds())
	s.docker(leader, s.create(leader, "decided")...)

	late := followers[0]
	must(t, late.StopDocker(t.Context()))
	u := s.uplink(late)
	must(t, u.lease(t.Context(), netip.Addr{}))
	must(t, late.StartDocker(t.Context()))
	s.told(late, "lost its underlay address "+late.Addr4().String(), "no IPv4 address")
	began = time.Now()
	must(t, u.lease(t.Context(), other(late)))
	at[late.Name()] = other(late)
	eventually(t, 3*healWithin, func(ctx context.Context) error { return s.well(ctx, at) })
	t.Logf("an address after dockerd: all is well after %.1f s", time.Since(began).Seconds())

	narrow := followers[1]
	for _, mtu := range []int{1400, 1500} {
		_, err := narrow.Exec(t.Context(), "ip", "link", "set", "dev", uplink, "mtu", fmt.Sprint(mtu))
		must(t, err)
		if mtu < 1500 {
			s.told(leader, "an MTU of 1350, not 1450", narrow.Name())
		} else {
			eventually(t, healWithin, func(ctx context.Context) error { return s.well(ctx, at) })
		}
		for _, h := range []*lab.Host{leader, narrow} {
			got := s.docker(h, "run", "--rm", "--net", network, lab.BusyBoxImage, "cat", "/sys/class/net/eth0/mtu")
			if want := fmt.Sprint(mtu - 50); got != want {
				t.Errorf("a new container on %s got an MTU of %s, want %s", h.Name(), got, want)
			}
		}
		s.matrix(boxes[narrow.Number()-s.hosts[0].Number()], boxes[leader.Number()-s.hosts[0].Number()])
	}
}

// told waits until a host's agent reports a problem that has these words.
func (s *scene) told(h *lab.Host, words ...string) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, h)
		if err != nil {
			return err
		}
		for _, p := range report.Problems {
			missing := false
			for _, w := range words {
				missing = missing || !strings.Contains(p, w)
			}
			if !missing {
				return nil
			}
		}
		return fmt.Errorf("%s reports %q, want %q", h.Name(), report.Problems, words)
	})
}
