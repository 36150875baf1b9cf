package plugin_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// refused is something that a user or an operator wants in vain, and what he must be told:
// who holds what or who is missing, by name, and the command or option that helps.
type refused struct {
	what  string
	ask   func() error
	words []string
}

// told meets refusals, each of which must come in time and be one sentence.
func told(t *testing.T, all []refused) {
	t.Helper()
	for _, r := range all {
		begin := time.Now()
		err := r.ask()
		fails(t, begin, err, r.words...)
		if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "context deadline")) {
			t.Errorf("%s: %v", r.what, err)
		}
		if t.Failed() {
			t.Fatalf("%s: %v", r.what, err)
		}
		t.Logf("%s, after %v: %v", r.what, time.Since(begin).Round(time.Millisecond), err)
	}
}

// starts is docker run in vain; what is left of the container is removed.
func (h *host) starts(network, ip string) func() error {
	return func() error {
		_, err := h.docker.Run(h.c.t.Context(), "vain", h.lookup(network), addr(ip))
		_ = h.docker.Remove(h.c.t.Context(), "vain")
		return err
	}
}

// creates is docker network create in vain.
func (h *host) creates(spec dockerapi.ReplicaSpec, options ...string) func() error {
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		spec.Shown.Options = map[string]string{name: value}
	}
	return func() error {
		_, err := h.docker.CreateNetwork(h.c.t.Context(), spec)
		return err
	}
}

// orders is one of the agent's orders in vain.
func orders[R any](h *host, order func(h *host, r R) (string, error), r R) func() error {
	return func() error {
		_, err := order(h, r)
		return err
	}
}

func rm(h *host, r api.Removal) (string, error)    { return h.RemoveHost(h.c.t.Context(), r) }
func add(h *host, r api.Range) (string, error)     { return h.AddRange(h.c.t.Context(), r) }
func out(h *host, r api.Departure) (string, error) { return h.Leave(h.c.t.Context(), r) }

// TestRefusals meets what is refused while all hosts are there, then without one, then
// without a majority.
func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		c.keepers(3)
		one, two, three := hosts[0], hosts[1], hosts[2]
		pool := netmap.DockerPool{
			Subnet: netip.MustParsePrefix("10.40.0.0/24"), Range: netip.MustParsePrefix("10.40.0.0/25"),
			Gateway: netip.MustParseAddr("10.40.0.1"), Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.40.0.5")},
		}
		for _, h := range hosts {
			if _, err := h.docker.CreateNetwork(t.Context(), dockerapi.ReplicaSpec{Name: "web", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{pool}}}); err != nil {
				t.Fatal(err)
			}
			h.network("tiny", "10.41.0.0/28")
		}
		first := at(one.run("first", one.lookup("web"), ""))
		at(two.run("second", two.lookup("web"), ""))
		third := at(three.run("third", three.lookup("web"), ""))
		one.run("static", one.lookup("web"), "10.40.0.200")
		for i := range 13 {
			h := hosts[i%3]
			h.run(fmt.Sprintf("tiny%d", i), h.lookup("tiny"), "")
		}
		two.until("the holders are known", time.Second, func() bool {
			return len(two.reported("10.40.0.0/24").Endpoints) == 4 && len(one.reported("10.40.0.0/24").Endpoints) == 4
		})
		one.kernel.Route(ipam.Route{Prefix: netip.MustParsePrefix("172.16.0.0/16"), Name: "the route via eth7"})

		told(t, []refused{
			{"held here", one.starts("web", first.String()), []string{first.String(), "held by", "first", "on this host", "stop that container"}},
			{"held there", two.starts("web", first.String()), []string{first.String(), "container first", "host-1", "stop that container"}},
			{"held there, outside the range", two.starts("web", "10.40.0.200"), []string{"10.40.0.200", "container static", "host-1", "choose another --ip"}},
			{"a gateway outside", one.creates(dockerapi.ReplicaSpec{Name: "new", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{
				Subnet: netip.MustParsePrefix("10.42.0.0/24"), Gateway: netip.MustParseAddr("10.50.0.1"),
			}}}}), []string{"10.50.0.1", "10.42.0.0/24", "choose an address inside it"}},
			{"a range outside", one.creates(dockerapi.ReplicaSpec{Name: "new", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{
				Subnet: netip.MustParsePrefix("10.42.0.0/24"), Range: netip.MustParsePrefix("10.50.0.0/25"),
			}}}}), []string{"10.50.0.0/25", "10.42.0.0/24"}},
			{"the edge", one.starts("web", "10.40.0.255"), []string{"10.40.0.255", "broadcast address of subnet 10.40.0.0/24", "choose another --ip"}},
			{"the gateway", two.starts("web", "10.40.0.1"), []string{"10.40.0.1", "gateway of subnet 10.40.0.0/24", "choose another"}},
			{"an auxiliary address", three.starts("web", "10.40.0.5"), []string{"10.40.0.5", "--aux-address", "choose another"}},
			{"exhausted", one.starts("tiny", ""), []string{"10.41.0.0/28", "host-1 has", "host-2 has", "host-3 has", "stop containers there", "larger subnet"}},
			{"overlaps a network", one.creates(named("new", "10.40.0.0/16")), []string{"10.40.0.0/16 overlaps", "10.40.0.0/24", "host-1", "choose another --subnet"}},
			{"overlaps a route", one.creates(named("new", "172.16.1.0/24")), []string{"172.16.1.0/24 overlaps 172.16.0.0/16", "eth7", "choose another --subnet"}},
			{"overlaps a range", orders(one, add, api.Range{Prefix: netip.MustParsePrefix("10.40.0.0/16")}), []string{"10.40.0.0/16 overlaps range 10.32.0.0/12", "weft range ls"}},
			{"another block size", one.creates(named("new", "10.42.0.0/24"), "weft.block=/16"), []string{"/16", "10.42.0.0/24", "use /24"}},
			{"another's VNI", one.creates(named("new", "10.42.0.0/24"), fmt.Sprintf("weft.vni=%d", one.reported("10.40.0.0/24").VNI)), []string{"belongs to", "10.40.0.0/24", "-o weft.vni"}},
			{"an unknown option", one.creates(named("new", "10.42.0.0/24"), "weft.colour=blue"), []string{"weft.colour", "weft.block"}},
			{"an unknown host", orders(one, rm, api.Removal{Host: "host-9"}), []string{"host-9", "weft status"}},
			{"itself", orders(one, rm, api.Removal{Host: "host-1"}), []string{"host-1", "another host"}},
			{"a host that lives", orders(one, rm, api.Removal{Host: "host-3"}), []string{"host-3", "--is-off"}},
			{"a host with containers leaves", orders(one, out, api.Departure{}), []string{"host-1", "first", "stop them first", "--force"}},
		})

		three.stop()
		one.until("host-3 is missed", 2*time.Minute, func() bool { return alive(one) == 2 })
		told(t, []refused{
			{"held by a host that is away", one.starts("web", third.String()), []string{third.String(), "container third", "host-3", "does not answer", "weft host rm host-3"}},
			{"a host's that is away", one.starts("web", third.Next().String()), []string{third.Next().String(), "host-3", "does not answer", "weft host rm host-3"}},
			{"exhausted, and one is away", one.starts("tiny", ""), []string{"10.41.0.0/28", "host-3", "does not answer", "weft host rm host-3"}},
		})

		two.stop()
		one.until("host-2 is missed", 2*time.Minute, func() bool { return alive(one) == 1 })
		missing := []string{"host-2", "host-3", "start those hosts", "weft ledger recover"}
		told(t, []refused{
			{"a network without a majority", one.creates(named("new", "10.42.0.0/24")), missing},
			{"a network of any subnet", one.creates(dockerapi.ReplicaSpec{Name: "new", Driver: plugintest.Driver}), missing},
			{"an address that is nobody's", one.starts("web", "10.40.0.250"), missing},
			{"an address of a host that is away", one.starts("web", third.String()), []string{third.String(), "container third", "host-3"}},
			{"a further block", one.starts("tiny", ""), append(missing, "10.41.0.0/28")},
			{"a range", orders(one, add, api.Range{Prefix: netip.MustParsePrefix("10.80.0.0/16")}), missing},
			{"a removal", orders(one, rm, api.Removal{Host: "host-3", IsOff: true}), missing},
			{"leaving", orders(one, out, api.Departure{Force: true}), missing},
		})
	})
}
