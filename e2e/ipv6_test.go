package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
)

// TestIntegrationIPv6Underlay: two hosts that only speak IPv6 with each other, and a
// network of both families on top: agents, ledger and VXLAN.
func TestIntegrationIPv6Underlay(t *testing.T) {
	s := stage(t)
	a, b := s.borrow()
	const advertise = "WEFT_ADVERTISE=fd99::/64"
	must(t, a.InstallPlugin(t.Context(), s.plugin, advertise))
	must(t, b.InstallPlugin(t.Context(), s.plugin, advertise, fmt.Sprintf("WEFT_JOIN=[%s]", a.Addr6())))
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
	report, err := s.report(t.Context(), a)
	must(t, err)
	for _, h := range report.Hosts {
		if !h.Underlay.Addr().Is6() {
			t.Errorf("host %s is reached at %s", h.Name, h.Underlay)
		}
	}

	s.docker(a, s.create(a, "six", "--ipv6", "--subnet", "10.76.0.0/24", "--subnet", "fd76::/64")...)
	name := s.name("six")
	eventually(t, spreadWithin, func(ctx context.Context) error {
		_, err := b.Docker(ctx, "network", "inspect", name)
		return err
	})
	one, two := s.run(a, name, "one"), s.run(b, name, "two", "--ip6", "fd76::beef")
	s.reach(one, two.addr, netip.MustParseAddr("fd76::beef"))
	s.reach(two, append(s.addrs6(name, netip.MustParsePrefix("fd76::/64"), one), one.addr)...)
	s.refused(a, []string{"fd76::beef", "held"}, s.command(a, name, "twin", "--ip6", "fd76::beef")...)
}
