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

// refused is a request that must be refused, and the words of the error: who holds what or who is missing,
// by name, and the command or option that helps.
type refused struct {
	what  string
	ask   func() error
	words []string
}

// told makes requests that must be refused, each in time and with one sentence.
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

// starts returns a function that runs a container, which must fail, and removes what is left of it.
func (h *host) starts(network, ip string) func() error {
	return func() error {
		_, err := h.docker.Run(h.c.t.Context(), "vain", h.lookup(network), addr(ip))
		_ = h.docker.Remove(h.c.t.Context(), "vain")
		return err
	}
}

// creates returns a function that creates a network, which must fail.
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

// orders returns a function that gives the agent an order, which must fail.
func orders[R any](h *host, order func(h *host, r R) (string, error), r R) func() error {
	return func() error {
		_, err := order(h, r)
		return err
	}
}

func rm(h *host, r api.Removal) (string, error)    { return h.RemoveHost(h.c.t.Context(), r) }
func add(h *host, r api.Range) (string, error)     { return h.AddRange(h.c.t.Context(), r) }
func out(h *host, r api.Departure) (string, error) { return h.Leave(h.c.t.Context(), r) }

// crowd is three hosts on a network with a gateway, a range and an auxiliary address, and on
// one whose addresses are all in use.
type crowd struct {
	one, two, three *host
	first, third    netip.Addr // of containers on the first and on the third host
}

func (c *cluster) crowd() crowd {
	c.t.Helper()
	hosts := up(c, 3, unreplicated)
	c.keepers(3)
	k := crowd{one: hosts[0], two: hosts[1], three: hosts[2]}
	pool := netmap.DockerPool{
		Subnet: netip.MustParsePrefix("10.40.0.0/24"), Range: netip.MustParsePrefix("10.40.0.0/25"),
		Gateway: netip.MustParseAddr("10.40.0.1"), Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.40.0.5")},
	}
	for _, h := range hosts {
		if _, err := h.docker.CreateNetwork(c.t.Context(), specOf("web", pool)); err != nil {
			c.t.Fatal(err)
		}
		h.network("tiny", "10.41.0.0/28")
	}
	k.first = at(k.one.run("first", k.one.lookup("web"), ""))
	at(k.two.run("second", k.two.lookup("web"), ""))
	k.third = at(k.three.run("third", k.three.lookup("web"), ""))
	k.one.run("static", k.one.lookup("web"), "10.40.0.200")
	for i := range 13 {
		h := hosts[i%3]
		h.run(fmt.Sprintf("tiny%d", i), h.lookup("tiny"), "")
	}
	k.two.until("the holders are known", time.Second, func() bool {
		return len(k.two.reported("10.40.0.0/24").Endpoints) == 4 && len(k.one.reported("10.40.0.0/24").Endpoints) == 4
	})
	return k
}

// specOf is a network of ours with one subnet.
func specOf(name string, pool netmap.DockerPool) dockerapi.ReplicaSpec {
	return dockerapi.ReplicaSpec{Name: name, Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{pool}}}
}

// TestRefusals meets what is refused while all hosts are there, then without one, then
// without a majority.
func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		k := c.crowd()
		k.one.kernel.Route(ipam.Route{Prefix: netip.MustParsePrefix("172.16.0.0/16"), Name: "the route via eth7"})
		told(t, k.addressesRefused())
		told(t, k.networksRefused())
		told(t, k.ordersRefused())

		k.three.stop()
		k.one.until("host-3 is missed", 2*time.Minute, func() bool { return alive(k.one) == 2 })
		told(t, k.refusedWithoutOne())

		k.two.stop()
		k.one.until("host-2 is missed", 2*time.Minute, func() bool { return alive(k.one) == 1 })
		told(t, k.refusedWithoutMajority())
	})
}

func (k crowd) addressesRefused() []refused {
	return []refused{
		{"held here", k.one.starts("web", k.first.String()), []string{k.first.String(), "held by", "first", "on this host", "stop that container"}},
		{"held there", k.two.starts("web", k.first.String()), []string{k.first.String(), "container first", "host-1", "stop that container"}},
		{"held there, outside the range", k.two.starts("web", "10.40.0.200"), []string{"10.40.0.200", "container static", "host-1", "choose another --ip"}},
		{"the edge", k.one.starts("web", "10.40.0.255"), []string{"10.40.0.255", "broadcast address of subnet 10.40.0.0/24", "choose another --ip"}},
		{"the gateway", k.two.starts("web", "10.40.0.1"), []string{"10.40.0.1", "gateway of subnet 10.40.0.0/24", "choose another"}},
		{"an auxiliary address", k.three.starts("web", "10.40.0.5"), []string{"10.40.0.5", "--aux-address", "choose another"}},
		{"exhausted", k.one.starts("tiny", ""), []string{"10.41.0.0/28", "host-1 has", "host-2 has", "host-3 has", "stop containers there", "larger subnet"}},
	}
}

func (k crowd) networksRefused() []refused {
	return []refused{
		{"a gateway outside", k.one.creates(specOf("new", netmap.DockerPool{Subnet: netip.MustParsePrefix("10.42.0.0/24"), Gateway: netip.MustParseAddr("10.50.0.1")})), []string{"10.50.0.1", "10.42.0.0/24", "choose an address inside it"}},
		{"a range outside", k.one.creates(specOf("new", netmap.DockerPool{Subnet: netip.MustParsePrefix("10.42.0.0/24"), Range: netip.MustParsePrefix("10.50.0.0/25")})), []string{"10.50.0.0/25", "10.42.0.0/24"}},
		{"overlaps a network", k.one.creates(named("new", "10.40.0.0/16")), []string{"10.40.0.0/16 overlaps", "10.40.0.0/24", "host-1", "choose another --subnet"}},
		{"overlaps a route", k.one.creates(named("new", "172.16.1.0/24")), []string{"172.16.1.0/24 overlaps 172.16.0.0/16", "eth7", "choose another --subnet"}},
		{"another block size", k.one.creates(named("new", "10.42.0.0/24"), "weft.block=/16"), []string{"/16", "10.42.0.0/24", "use /24"}},
		{"another's VNI", k.one.creates(named("new", "10.42.0.0/24"), fmt.Sprintf("weft.vni=%d", k.one.reported("10.40.0.0/24").VNI)), []string{"belongs to", "10.40.0.0/24", "-o weft.vni"}},
		{"an unknown option", k.one.creates(named("new", "10.42.0.0/24"), "weft.colour=blue"), []string{"weft.colour", "weft.block"}},
	}
}

func (k crowd) ordersRefused() []refused {
	return []refused{
		{"overlaps a range", orders(k.one, add, api.Range{Prefix: netip.MustParsePrefix("10.40.0.0/16")}), []string{"10.40.0.0/16 overlaps range 10.32.0.0/12", "weft range ls"}},
		{"an unknown host", orders(k.one, rm, api.Removal{Host: "host-9"}), []string{"host-9", "weft status"}},
		{"itself", orders(k.one, rm, api.Removal{Host: "host-1"}), []string{"host-1", "another host"}},
		{"a host that lives", orders(k.one, rm, api.Removal{Host: "host-3"}), []string{"host-3", "--is-off"}},
		{"a host with containers leaves", orders(k.one, out, api.Departure{}), []string{"host-1", "first", "stop them first", "--force"}},
	}
}

func (k crowd) refusedWithoutOne() []refused {
	return []refused{
		{"held by a host that is away", k.one.starts("web", k.third.String()), []string{k.third.String(), "container third", "host-3", "does not answer", "weft host rm host-3"}},
		{"a host's that is away", k.one.starts("web", k.third.Next().String()), []string{k.third.Next().String(), "host-3", "does not answer", "weft host rm host-3"}},
		{"exhausted, and one is away", k.one.starts("tiny", ""), []string{"10.41.0.0/28", "host-3", "does not answer", "weft host rm host-3"}},
	}
}

func (k crowd) refusedWithoutMajority() []refused {
	missing := []string{"host-2", "host-3", "start those hosts", "weft ledger recover"}
	return []refused{
		{"a network without a majority", k.one.creates(named("new", "10.42.0.0/24")), missing},
		{"a network of any subnet", k.one.creates(dockerapi.ReplicaSpec{Name: "new", Driver: plugintest.Driver}), missing},
		{"an address that is nobody's", k.one.starts("web", "10.40.0.250"), missing},
		{"an address of a host that is away", k.one.starts("web", k.third.String()), []string{k.third.String(), "container third", "host-3"}},
		{"a further block", k.one.starts("tiny", ""), append(missing, "10.41.0.0/28")},
		{"a range", orders(k.one, add, api.Range{Prefix: netip.MustParsePrefix("10.80.0.0/16")}), missing},
		{"a removal", orders(k.one, rm, api.Removal{Host: "host-3", IsOff: true}), missing},
		{"leaving", orders(k.one, out, api.Departure{Force: true}), missing},
	}
}
