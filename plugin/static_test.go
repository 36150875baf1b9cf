package plugin_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// ranged is a network of two hosts with an --ip-range, and its ids.
func ranged(c *cluster) (hosts []*host, ids []string) {
	hosts = up(c, 2, unreplicated)
	for _, h := range hosts {
		id, err := h.docker.CreateNetwork(c.t.Context(), dockerapi.ReplicaSpec{Name: "web", Driver: plugintest.Driver, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{
			Subnet: netip.MustParsePrefix("10.40.0.0/24"), Range: netip.MustParsePrefix("10.40.0.64/26"),
		}}}})
		if err != nil {
			c.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return hosts, ids
}

// TestStaticAddresses: an --ip address moves between hosts, in any block or none, with the stop before or
// after the start. It is never held twice.
func TestStaticAddresses(t *testing.T) {
	for name, ip := range map[string]string{
		"own block":                "10.40.0.70",
		"other host's block":       "10.40.0.90",
		"free block in the range":  "10.40.0.110",
		"outside the range":        "10.40.0.7",
		"outside, last of the net": "10.40.0.254",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				hosts, ids := ranged(c)
				a, b := hosts[0], hosts[1]
				a.run("first", ids[0], "") // takes 10.40.0.64/28
				b.run("second", ids[1], "")
				a.run("web", ids[0], ip)

				// Start before stop: refused, with who has it; then stop, and start works.
				b.until("the holder is known", time.Second, func() bool { return len(b.reported("10.40.0.0/24").Endpoints) == 3 })
				begin := time.Now()
				_, err := b.docker.Run(t.Context(), "web", ids[1], addr(ip))
				fails(t, begin, err, ip, "held by", "web", "host-1")
				if err := a.docker.Remove(t.Context(), "web"); err != nil {
					t.Error(err)
				}
				b.run("web", ids[1], ip)

				// Stop before start, and back.
				for range 2 {
					for i, from := range []*host{b, a} {
						to := hosts[i]
						if err := from.docker.Remove(t.Context(), "web"); err != nil {
							t.Error(err)
						}
						to.run("web", ids[i], ip)
					}
				}
				begin = time.Now()
				_, err = b.docker.Run(t.Context(), "thief", ids[1], addr(ip))
				fails(t, begin, err, ip, "held by", "on this host")

				// Addresses outside of the range are handed out only on request.
				for i := range 12 {
					got := a.run(fmt.Sprintf("c%d", i), ids[0], "").Addrs[0].Addr()
					if got == addr(ip) || !netip.MustParsePrefix("10.40.0.64/26").Contains(got) {
						t.Errorf("%s was handed out", got)
					}
				}
			})
		})
	}
}

// TestAStaticAddressOfAHostThatIsAway: its owner cannot be asked whether an address is free, and the refusal
// says what to do.
func TestAStaticAddressOfAHostThatIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		ids := make([]string, 0, len(hosts))
		for _, h := range hosts {
			ids = append(ids, h.network("web", "10.40.0.0/24"))
		}
		hosts[2].run("web", ids[2], "10.40.0.99")
		hosts[2].run("first", ids[2], "")
		hosts[0].until("the holder is known", time.Second, func() bool { return len(hosts[0].reported("10.40.0.0/24").Endpoints) == 2 })
		hosts[2].stop()
		begin := time.Now()
		_, err := hosts[0].docker.Run(t.Context(), "web", ids[0], addr("10.40.0.99"))
		fails(t, begin, err, "10.40.0.99 is held by", "web", "host-3", "does not answer", "weft host rm host-3")
		begin = time.Now()
		_, err = hosts[0].docker.Run(t.Context(), "web", ids[0], addr("10.40.0.9"))
		fails(t, begin, err, "10.40.0.9 ", "host-3", "does not answer", "weft host rm host-3")
	})
}

// TestEveryHostsShareIsReported: each host reports the shares of all.
func TestEveryHostsShareIsReported(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		for i, h := range hosts {
			id := h.network("web", "10.40.0.0/24")
			for n := range 2 + i {
				h.run(fmt.Sprintf("c%d", n), id, "")
			}
		}
		hosts[0].run("static", hosts[0].lookup("web"), "10.40.0.200")
		want := []api.Share{
			{Blocks: 4, Claims: 2, Used: 4, Free: 12}, // without the network address and the gateway, and with the host's own
			{Blocks: 4, Claims: 1, Used: 4, Free: 13},
			{Blocks: 4, Claims: 1, Used: 5, Free: 12},
		}
		for i, h := range hosts {
			for j := range want {
				for _, r := range h.Report().Hosts {
					if r.Name == hosts[j].set.Name {
						want[j].Host = r.ID
					}
				}
			}
			last := ""
			h.until("all shares", 5*time.Second, func() bool {
				got := map[string]api.Share{}
				for _, n := range h.reported("10.40.0.0/24").Subnets {
					for _, s := range n.Shares {
						got[s.Host.String()] = s
					}
				}
				wanted := map[string]api.Share{}
				for _, s := range want {
					wanted[s.Host.String()] = s
				}
				last = cmp.Diff(wanted, got)
				return last == "" || t.Failed()
			})
			if last != "" {
				t.Errorf("host %d (-want +got):\n%s", i, last)
			}
		}
	})
}

// TestRangesAreUsedInTheirOrder: those of WEFT_RANGE of both families, then what was
// added while running; when all are full the refusal says how to get more.
func TestRangesAreUsedInTheirOrder(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1, func(h *host) {
			h.set.Ranges = []netip.Prefix{netip.MustParsePrefix("10.60.0.0/28"), netip.MustParsePrefix("fd60::/64"), netip.MustParsePrefix("10.50.0.0/28")}
		})[0]
		auto := func(n int) (string, error) {
			id, err := h.docker.CreateNetwork(t.Context(), dockerapi.ReplicaSpec{Name: fmt.Sprintf("n%d", n), Driver: plugintest.Driver})
			if err != nil {
				return "", err
			}
			return h.docker.Subnets(id)[0].String(), nil
		}
		for n, want := range []string{"10.60.0.0/28", "10.50.0.0/28"} {
			if got, err := auto(n); err != nil || got != want {
				t.Errorf("subnet %d is %s, %v, want %s", n, got, err, want)
			}
		}
		begin := time.Now()
		_, err := auto(2)
		fails(t, begin, err, "no free IPv4 subnet is left", "weft range add")
		if _, err := h.AddRange(t.Context(), api.Range{Prefix: netip.MustParsePrefix("10.40.0.0/28")}); err != nil {
			t.Fatal(err)
		}
		if got, err := auto(3); err != nil || got != "10.40.0.0/28" {
			t.Errorf("after a range was added: %s, %v", got, err)
		}
		h.restart()
		h.ready()
		want := []api.RangeUse{
			{Prefix: netip.MustParsePrefix("10.60.0.0/28"), Subnets: 1},
			{Prefix: netip.MustParsePrefix("fd60::/64")},
			{Prefix: netip.MustParsePrefix("10.50.0.0/28"), Subnets: 1},
			{Prefix: netip.MustParsePrefix("10.40.0.0/28"), Subnets: 1},
		}
		if diff := cmp.Diff(want, h.Report().Ranges, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("ranges (-want +got):\n%s", diff)
		}
	})
}
