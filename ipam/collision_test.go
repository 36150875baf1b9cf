package ipam_test

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/ipam"
)

// TestCollision: routes to everywhere, whole or in two halves as a VPN sets them, are in nobody's way.
func TestCollision(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		route    ipam.Route
		overlaps bool
	}{
		{ipam.Route{Prefix: p("0.0.0.0/0")}, false},
		{ipam.Route{Prefix: p("0.0.0.0/1")}, false},
		{ipam.Route{Prefix: p("0.0.0.0/2")}, true},
		{ipam.Route{Prefix: p("10.0.0.0/8")}, true},
		{ipam.Route{Prefix: p("10.40.3.0/24")}, true},
		{ipam.Route{Prefix: p("10.40.3.0/24"), Own: true}, false},
		{ipam.Route{Prefix: p("10.48.0.0/12")}, false},
	} {
		if _, overlaps := ipam.Collision([]ipam.Route{c.route}, p("10.32.0.0/12")); overlaps != c.overlaps {
			t.Errorf("%s overlaps 10.32.0.0/12: %v", c.route.Prefix, overlaps)
		}
	}
}
