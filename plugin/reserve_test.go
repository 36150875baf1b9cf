package plugin_test

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/ipam"
)

// TestAReservationReachesHostsThatHadTheSubnetBefore: --aux-address on one host,
// after another one took the subnet into use and before it got its block.
func TestAReservationReachesHostsThatHadTheSubnetBefore(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		first := hosts[1].network("web", "10.40.0.0/28")
		subnet, aux := netip.MustParsePrefix("10.40.0.0/28"), netip.MustParseAddr("10.40.0.2")
		if _, err := hosts[0].Decider().EnsureSubnet(t.Context(), ipam.SubnetRequest{Want: subnet}); err != nil {
			t.Fatal(err)
		}
		if _, err := hosts[0].Decider().Reserve(t.Context(), subnet, "router", aux); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"one", "two", "three"} {
			if got := hosts[1].run(name, first, ""); got.Addrs[0].Addr() == aux {
				t.Errorf("%s got the reserved %s", name, aux)
			}
		}
		hosts[1].restart()
		hosts[1].ready()
		if got := hosts[1].run("four", first, ""); got.Addrs[0].Addr() == aux {
			t.Errorf("after a restart %s was given", aux)
		}
		_, err := hosts[1].docker.Run(t.Context(), "static", first, aux)
		if err == nil || !holds(err.Error(), "reserved") {
			t.Errorf("--ip %s: %v", aux, err)
		}
	})
}
