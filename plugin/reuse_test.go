package plugin_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// TestARestartedContainerKeepsItsAddresses: the engine does not send the container's name with a request.
// A restarted container gets its addresses again, and new containers get others of the same subnets.
func TestARestartedContainerKeepsItsAddresses(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		id, err := h.docker.CreateNetwork(t.Context(), dockerapi.ReplicaSpec{Name: "web", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{
			{Subnet: netip.MustParsePrefix("10.40.0.0/24")}, {Subnet: netip.MustParsePrefix("fd40::/64")},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		h.run("other", id, "")
		web := h.run("web", id, "")
		named := func(n int) {
			t.Helper()
			h.until("all are named", time.Minute, func() bool {
				known := 0
				for _, e := range h.reported("10.40.0.0/24").Endpoints {
					if e.Name != "" {
						known++
					}
				}
				return known == n
			})
		}
		named(2)
		stop := func(name string) {
			if err := h.docker.Stop(t.Context(), name); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond) // the event
		}
		same := func(c plugintest.Container) bool {
			return c.Addrs[0] == web.Addrs[0] && c.Addrs[1] == web.Addrs[1]
		}
		for range 3 { // docker restart web
			stop("web")
			if got := h.run("web", id, ""); !same(got) {
				t.Errorf("restarted with %v, had %v", got.Addrs, web.Addrs)
			}
			named(2)
		}
		stop("web") // docker run of new ones meanwhile
		for i := range 3 {
			if got := h.run(fmt.Sprintf("new%d", i), id, ""); got.Addrs[0] == web.Addrs[0] {
				t.Errorf("new%d got web's %s", i, got.Addrs[0])
			}
		}
		time.Sleep(2 * time.Minute)
		h.restart() // what is remembered is on disk; who ended is not
		h.ready()
		stop("other")
		time.Sleep(time.Minute)
		if got := h.run("web", id, ""); same(got) {
			t.Error("the agent knows what it cannot")
		}
	})
}
