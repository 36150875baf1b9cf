package plugin_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/underlay"
)

// TestADisputeIsShown on all hosts: one of them announces a container of its own with an
// address that another host's container has.
func TestADisputeIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		var liar plugin.Gossip
		hosts := up(c, 2, func(h *host) {
			if len(c.hosts) == 2 {
				h.deps.Gossip = func(cfg gossip.Config) (_ plugin.Gossip, err error) {
					liar, err = gossip.Start(cfg)
					return liar, err
				}
			}
		})
		id := hosts[0].network("web", web)
		addr := hosts[0].run("shop", id, "").Addrs[0].Addr()
		network := hosts[0].reported(web).ID
		twin := netmap.Endpoint{ID: netmap.EndpointID(strings.Repeat("f", 64)), Network: network, V4: addr, MAC: netmap.MACOf(addr), Name: "twin"}
		if err := liar.Announce(twin.Facts(), nil); err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			var got []api.Dispute
			h.until("the dispute", soon, func() bool { got = h.reported(web).Disputes; return len(got) > 0 })
			if d := got[0]; d.Addr != addr || d.Winner.Name != "shop" || d.Loser.Name != "twin" || d.Loser.Host != hosts[1].Report().Self {
				t.Errorf("%s: %+v", h.set.Name, d)
			}
		}
		if err := liar.Announce(nil, slices.Collect(maps.Keys(twin.Facts()))); err != nil {
			t.Fatal(err)
		}
		hosts[0].until("no dispute", soon, func() bool { return len(hosts[0].reported(web).Disputes) == 0 })
	})
}

// TestCountersAreReported: what a stranger sends that nobody can read is counted.
func TestCountersAreReported(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := up(c, 1)[0]
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 66}), 7950)
		stranger, err := underlay.Open(underlay.Config{Listen: at, Network: c.net.Host(at.Addr())})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stranger.Close() }()
		if _, err := stranger.Packets().WriteTo([]byte{0xf7, 2, 'b', 'x'}, netip.AddrPortFrom(h.addr, 7950)); err != nil {
			t.Fatal(err)
		}
		h.until("it is counted", soon, func() bool {
			counted, _ := h.Report().Counters["gossip"].(gossip.Stats)
			return counted.Malformed > 0
		})
		if _, ok := h.Report().Counters["underlay"].(underlay.Stats); !ok {
			t.Errorf("counters: %v", h.Report().Counters)
		}
	})
}
