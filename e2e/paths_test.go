package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationAPathDropsLargePackets on the way from one host to another, and tells nobody. Both agents go on, the
// sender's says what is lost and what to do, and containers that are started after that get an MTU that fits. When
// the path carries all again, so do they.
func TestIntegrationAPathDropsLargePackets(t *testing.T) {
	s := onSpares(t)
	a, b, network := s.pair("narrow")
	near, far := s.run(a, network, "near"), s.run(b, network, "far")
	s.reach(near, far.addr)
	must(t, s.pings(near, far, 1450))
	const carried = 1400
	// Segments leave one by one, as they do on a wire.
	_, err := a.Exec(t.Context(), "ip", "link", "set", "dev", uplink, "gso_max_segs", "1")
	must(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_, err := a.Exec(ctx, "ip", "link", "set", "dev", uplink, "gso_max_segs", "65535")
		must(t, err)
		_, _ = b.Exec(ctx, "nft", "delete table netdev narrow") // gone where the test has ended well
	})
	_, err = b.Exec(t.Context(), "nft", fmt.Sprintf("table netdev narrow { chain in { type filter hook ingress device %s priority 0; ip length > %d drop; }; }", uplink, carried))
	must(t, err)
	if s.pings(near, far, 1450) == nil {
		t.Fatal("the path carries 1500 bytes")
	}
	began := time.Now()
	eventually(t, 2*time.Minute, s.problem(a, "only up to", b.Name(), fmt.Sprintf("WEFT_MTU=%d ", carried-50)))
	t.Logf("told after %.0f s", time.Since(began).Seconds())
	eventually(t, spreadWithin, s.problem(b, "the underlay of host "+a.Name()+" carries no more"))
	for i, h := range []*lab.Host{a, b} {
		late := s.run(h, network, fmt.Sprint("late", i))
		if mtu := s.docker(h, "exec", late.name, "cat", "/sys/class/net/eth0/mtu"); mtu != fmt.Sprint(carried-50) {
			t.Errorf("%s: a new container has an MTU of %s, the path carries %d", h.Name(), mtu, carried)
		}
		must(t, s.pings(late, far, carried-50))
	}
	_, err = b.Exec(t.Context(), "nft", "delete table netdev narrow")
	must(t, err)
	eventually(t, time.Minute, func(ctx context.Context) error {
		out, err := a.Docker(ctx, "run", "--rm", "--net", network, lab.BusyBoxImage, "cat", "/sys/class/net/eth0/mtu")
		report, asked := s.report(ctx, a)
		if err == nil && asked == nil && (strings.TrimSpace(out) != "1450" || len(report.Problems) > 0) {
			err = fmt.Errorf("a new container has an MTU of %s, problems %q", out, report.Problems)
		}
		return err
	})
}

// pings sends packets of a size from one container to another that must not be cut into fragments.
func (s *scene) pings(from, to box, size int) error {
	_, err := from.host.Docker(s.t.Context(), "exec", from.name, "ping", "-c", "2", "-i", "0.2", "-W", "2", "-s", fmt.Sprint(size-28), to.addr.String())
	return err
}

// TestIntegrationALostInterfaceComesBack: somebody deletes the interface of a running container, at either end. It is back within
// 10 s, with its addresses and the route for groups, and is counted. Docker disconnects and stops the container as ever.
func TestIntegrationALostInterfaceComesBack(t *testing.T) {
	long(t)
	s := onMembers(t)
	a, b := s.lab.Host(1), s.lab.Host(2)
	dual := s.network(a, "dual", "--ipv6", "--subnet", "10.64.11.0/24", "--subnet", "fd64:b::/64")
	other := s.network(a, "other")
	one, far := s.run(a, dual, "one"), s.run(b, dual, "far")
	s.docker(a, "network", "connect", other, one.name)
	v6 := s.addrs6(dual, netip.MustParsePrefix("fd64:b::/64"), one, far)
	whole := func(ctx context.Context) error {
		return errors.Join(one.reaches(ctx, far.addr, v6[1]), far.reaches(ctx, one.addr, v6[0]))
	}
	eventually(t, healWithin, whole)
	s.routed(one)
	for what, remove := range map[string]string{
		"in the container":       "nsenter -t $(docker inspect -f '{{.State.Pid}}' %[1]s) -n ip link del eth0",
		"in the overlay's space": "nsenter --net=/run/weft/netns/overlay ip link del wfp$(docker inspect -f '{{(index .NetworkSettings.Networks \"%[2]s\").EndpointID}}' %[1]s | cut -c1-12)",
	} {
		before, began := s.repaired(a), time.Now()
		_, err := a.Exec(t.Context(), "sh", "-c", fmt.Sprintf(remove, one.name, dual))
		must(t, err)
		eventually(t, 11*time.Second, func(context.Context) error {
			if s.repaired(a) == before {
				return errors.New("no repair was counted")
			}
			return nil
		})
		t.Logf("%s: repaired after %.1f s", what, time.Since(began).Seconds())
		eventually(t, healWithin, whole)
		s.routed(one)
	}
	s.docker(a, "network", "disconnect", dual, one.name)
	s.docker(a, "network", "connect", dual, one.name)
	one.addr = s.addr(a, one.name, dual)
	s.reach(one, far.addr)
	s.docker(a, "restart", "-t", "0", one.name)
	one.addr = s.addr(a, one.name, dual)
	s.reach(one, far.addr)
	s.docker(a, "rm", "-f", one.name)
}
