package plugin_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/plugin/plugintest"
)

func TestReportShowsWhatThereIs(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2)
		a, b := hosts[0], hosts[1]
		id := a.network("web", web)
		one := a.run("shop", id, "")
		b.until("the replica", 10*time.Second, func() bool { return b.lookup("web") != "" })
		b.run("db", b.lookup("web"), "10.40.0.200")
		b.until("both endpoints with their names", 10*time.Second, func() bool {
			names := 0
			for _, e := range b.reported(web).Endpoints {
				if e.Name == "shop" || e.Name == "db" {
					names++
				}
			}
			return names == 2
		})
		for _, h := range hosts {
			h.until("the claims of db's address and of both hosts' own", 10*time.Second, func() bool {
				return len(h.reported(web).Subnets[0].Claims) == 3
			})
			r, n := h.Report(), h.reported(web)
			if r.Version != "test" || r.Name != h.set.Name || r.State != "ready" || len(r.Problems) > 0 || r.Datapath.LastSet.IsZero() {
				t.Errorf("%+v", r)
			}
			if n.Name != "web" || n.MTU != 1450 || n.VNI == 0 || n.Subnets[0].Gateway != netip.MustParseAddr("10.40.0.1") {
				t.Errorf("%s: network %+v", h.set.Name, n)
			}
			if len(r.Hosts) != 2 || r.Hosts[0].Name != "host-1" || r.Hosts[1].Name != "host-2" {
				t.Errorf("%s: hosts %+v, want them by name", h.set.Name, r.Hosts)
			}
			if c := n.Subnets[0].Claims; c[0].Addr.String() != "10.40.0.200" || r.HostName(c[0].Owner) != "host-2" {
				t.Errorf("%s: claims %+v", h.set.Name, c)
			}
			for _, b := range n.Subnets[0].Blocks {
				mine := b.Owner == r.Self
				if mine != (b.Used != nil) || mine && b.Prefix.Contains(one.Addrs[0].Addr()) && *b.Used != 1 {
					t.Errorf("%s: block %+v", h.set.Name, b)
				}
			}
			if len(r.Ledger.Keepers) == 0 || r.Ledger.Decided == 0 || r.HostName(r.Ledger.Leader) == "nobody" {
				t.Errorf("%s: ledger %+v", h.set.Name, r.Ledger)
			}
		}
		b.stop()
		a.until("host-2 unreachable", time.Minute, func() bool {
			return slices.ContainsFunc(a.Report().Hosts, func(h statusHost) bool { return h.Name == "host-2" && h.State == "unreachable" })
		})
	})
}

// TestAnMTUThatShrankIsShown with the host whose underlay is to blame.
func TestAnMTUThatShrankIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		wide := named("wide", "10.50.0.0/24")
		wide.Shown.Options = map[string]string{"weft.mtu": "9000"}
		if _, err := h.docker.CreateNetwork(t.Context(), wide); err != nil {
			t.Fatal(err)
		}
		h.network("web", web) // asks for nothing: no problem
		h.problem(5*time.Second, "network wide", "an MTU of 1450, not 9000", "host host-1")
		if p := h.Report().Problems; len(p) != 1 {
			t.Errorf("problems: %q", p)
		}
	})
}

// TestADatapathThatFailsIsShownAndMended.
func TestADatapathThatFailsIsShownAndMended(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		h.run("shop", h.network("web", web), "")
		h.kernel.Break(errors.New("no buffer space"))
		h.problem(time.Minute, "the kernel", "no buffer space")
		if h.Report().Datapath.Error == "" {
			t.Error("the report's datapath has no error")
		}
		h.kernel.Break(nil)
		h.until("no problem", time.Minute, func() bool {
			r := h.Report()
			return len(r.Problems) == 0 && r.Datapath.Error == ""
		})
	})
}

// TestANarrowHostIsNamedByTheOthers: a network shrinks when a host joins whose
// underlay carries less.
func TestANarrowHostIsNamedByTheOthers(t *testing.T) {
	bubble(t, func(_ *testing.T, c *cluster) {
		wide := up(c, 1)[0]
		wide.network("web", web)
		narrow := c.host(wide)
		narrow.kernel = plugintest.NewKernel(narrow.addr, 1400)
		narrow.start().ready()
		wide.problem(soon, "network web", "an MTU of 1350, not 1450", "host host-2")
		narrow.until("the replica", soon, func() bool { return narrow.lookup("web") != "" })
		if p := narrow.Report().Problems; len(p) > 0 {
			c.t.Errorf("the host whose own underlay is the smallest has problems: %q", p)
		}
	})
}

// TestASubnetOfTheHostIsRefused with the name of what it collides with.
func TestASubnetOfTheHostIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		h.kernel.Route(ipam.Route{Prefix: netip.MustParsePrefix("10.40.0.128/25"), Name: "the route via eth1"})
		begin := time.Now()
		_, err := h.docker.CreateNetwork(t.Context(), named("web", web))
		fails(t, begin, err, web, "10.40.0.128/25", "eth1")
	})
}
