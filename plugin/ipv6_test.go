package plugin_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
)

// sixes are n hosts whose underlay is IPv6.
func sixes(c *cluster, n int) []*host {
	c.t.Helper()
	for i := range n {
		h := c.host()
		h.addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
		h.kernel = plugintest.NewKernel(h.addr, 1500)
		h.set.Replicate = false
		if i > 0 {
			h.set.Join = []string{netip.AddrPortFrom(c.hosts[0].addr, 7950).String()}
		}
		c.net.Host(h.addr)
		h.start()
	}
	for _, h := range c.hosts {
		h.ready()
	}
	return c.hosts
}

// TestNetworksWithoutIPv4OnAnIPv6Underlay: nothing needs IPv4. Docker 28 and later can make networks with
// --ipv4=false.
func TestNetworksWithoutIPv4OnAnIPv6Underlay(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := sixes(c, 3)
		ids := make([]string, 0, len(hosts))
		for _, h := range hosts {
			ids = append(ids, h.network("six", "fd40::/124")) // 14 for containers
		}
		seen := map[netip.Addr]bool{}
		take := func(n int, name, ip string) {
			got := hosts[n].run(name, ids[n], ip).Addrs
			if len(got) != 1 || got[0].Bits() != 124 || seen[got[0].Addr()] || ip != "" && got[0].Addr() != addr(ip) {
				t.Errorf("%s got %v", name, got)
			}
			seen[got[0].Addr()] = true
		}
		take(0, "static", "fd40::9")
		for i := range 10 {
			take(0, fmt.Sprintf("c%d", i), "")
		}
		for i := range 3 { // whole blocks, then single addresses
			take(1, fmt.Sprintf("c%d", i), "")
		}
		begin := time.Now()
		_, err := hosts[2].docker.Run(t.Context(), "late", ids[2], netip.Addr{})
		fails(t, begin, err, "no address is free in fd40::/124", "host-1 has 11, all in use", "host-2 has 3, all in use")
		if seen[addr("fd40::")] || seen[addr("fd40::1")] || !seen[addr("fd40::f")] {
			t.Errorf("handed out: %v", seen)
		}
		hosts[1].until("the holder is known", time.Second, func() bool { return len(hosts[1].reported("fd40::/124").Endpoints) == 14 })
		begin = time.Now()
		_, err = hosts[1].docker.Run(t.Context(), "thief", ids[1], addr("fd40::9"))
		fails(t, begin, err, "fd40::9 is held by", "on host host-1")
		if err := hosts[0].docker.Remove(t.Context(), "static"); err != nil {
			t.Error(err)
		}
		delete(seen, addr("fd40::9"))
		take(1, "thief", "fd40::9")
	})
}

// TestDualStack: an address of each family, from huge IPv6 blocks too; and both come
// back.
func TestDualStack(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := sixes(c, 2)
		ids := make([]string, 0, len(hosts))
		for _, h := range hosts {
			id, err := h.docker.CreateNetwork(t.Context(), dockerapi.ReplicaSpec{
				Name: "both", Driver: plugintest.Driver,
				Shown: netmap.DockerNetwork{Options: map[string]string{"weft.block": "/28,/64"}, Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.40.0.0/24")}, {Subnet: netip.MustParsePrefix("fd40::/48")}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		seen := map[netip.Addr]bool{}
		for i := range 40 {
			for n, h := range hosts {
				got := h.run(fmt.Sprintf("c%d", i), ids[n], "").Addrs
				if len(got) != 2 || !got[0].Addr().Is4() || !got[1].Addr().Is6() || seen[got[0].Addr()] || seen[got[1].Addr()] {
					t.Fatalf("c%d got %v", i, got)
				}
				seen[got[0].Addr()], seen[got[1].Addr()] = true, true
			}
		}
		for n, h := range hosts {
			other := hosts[1-n].addr.String()
			h.until("the kernel knows the other host", 5*time.Second, func() bool {
				return strings.Contains(fmt.Sprint(h.kernel.Read()), other)
			})
		}
		for _, h := range hosts {
			for i := range 40 {
				if err := h.docker.Remove(t.Context(), fmt.Sprintf("c%d", i)); err != nil {
					t.Error(err)
				}
			}
		}
		time.Sleep(20 * time.Minute)
		for _, s := range hosts[0].reported("fd40::/48").Subnets {
			for _, share := range s.Shares {
				if share.Blocks != 1 || share.Used != 0 || share.Free < 13 {
					t.Errorf("%s: %+v, want one empty block as a reserve", s.Prefix, share)
				}
			}
		}
	})
}
