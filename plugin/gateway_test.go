package plugin_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
)

// gateway is where a host's docker_gwbridge is; empty: it is not there.
func (h *host) gateway() string {
	networks, _ := h.docker.Networks(context.Background())
	i := slices.IndexFunc(networks, func(n dockerapi.Network) bool { return n.Name == dockerapi.GatewayNetwork })
	if i < 0 {
		return ""
	}
	return networks[i].Shown.Pools[0].Subnet.String()
}

// TestTheGatewayIsThereFirst: docker_gwbridge is created before any network, outside of the cluster's
// subnets. A user who removes it has time to create another one.
func TestTheGatewayIsThereFirst(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		first := up(c, 1)[0]
		first.until("it is there before a network", soon, func() bool { return first.gateway() == "172.18.0.0/16" })
		first.network("web", "172.18.4.0/24") // the host's routes would tell
		first.problem(soon, "network web", "docker_gwbridge", "172.18.0.0/16", "172.18.4.0/24", "docker network rm docker_gwbridge")

		second := c.host(first).start()
		second.until("it avoids the network", 20*time.Second, func() bool { return second.gateway() == "172.19.0.0/16" })

		if err := first.docker.RemoveNetwork(t.Context(), first.lookup(dockerapi.GatewayNetwork)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if at := first.gateway(); at != "" {
			t.Fatalf("it is at %s already", at)
		}
		first.until("it comes back elsewhere", time.Minute, func() bool { return first.gateway() == "172.19.0.0/16" })
		first.until("no problem", soon, func() bool { return len(first.Report().Problems) == 0 })
	})
}

// TestAUserMovesTheGateway: the agent creates none if the user has made one.
func TestAUserMovesTheGateway(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		h.until("it is there", soon, func() bool { return h.gateway() != "" })
		if err := h.docker.RemoveNetwork(t.Context(), h.lookup(dockerapi.GatewayNetwork)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		h.docker.AddGateway(netip.MustParsePrefix("192.168.80.0/24"))
		time.Sleep(5 * time.Minute)
		networks, _ := h.docker.Networks(t.Context())
		if len(networks) != 1 || h.gateway() != "192.168.80.0/24" {
			t.Errorf("Docker has %v", networks)
		}
	})
}

// TestTheGatewayAvoidsTheHostsRoutes, but for the default one; and a network that is
// internal needs no gateway.
func TestTheGatewayAvoidsTheHostsRoutes(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		for _, r := range [][2]string{{"172.18.64.0/20", "172.19.0.0/16"}, {"0.0.0.0/0", "172.18.0.0/16"}} {
			route, want := r[0], r[1]
			h := c.host(c.hosts...)
			h.kernel.Route(ipam.Route{Prefix: netip.MustParsePrefix(route), Name: "eth1"})
			h.start().until("it is there", 20*time.Second, func() bool { return h.gateway() == want })
			spec := named("inside "+route, want[:6]+".4.0/24")
			spec.Internal = true
			if _, err := h.docker.CreateNetwork(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			h.until("the network has its name", soon, func() bool { return h.reported(want[:6]+".4.0/24").Name != "" })
			time.Sleep(time.Minute)
			if p := h.Report().Problems; len(p) > 0 {
				t.Errorf("an internal network on docker_gwbridge's subnet: %q", p)
			}
		}
	})
}
