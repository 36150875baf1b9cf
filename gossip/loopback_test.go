package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/underlay"
)

// await waits for a condition in real time, looking whenever something changed.
func await(t *testing.T, what string, h *gossip.Gossip, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	facts, members, cancel := h.Subscribe()
	defer cancel()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for !ok() {
		select {
		case <-facts:
		case <-members:
		case <-limit.C:
			t.Fatalf("%s did not happen within 20s", what)
		}
	}
	return time.Since(begin)
}

// realHost starts an agent's gossip on a socket of this machine.
func realHost(t *testing.T, n int, listen string, join ...string) *gossip.Gossip {
	t.Helper()
	var peers []netip.AddrPort
	for _, a := range join {
		peers = append(peers, netip.MustParseAddrPort(a))
	}
	port, err := underlay.Open(underlay.Config{Listen: netip.MustParseAddrPort(listen)})
	if err != nil {
		t.Skipf("%s: %v", listen, err)
	}
	g, err := gossip.Start(gossip.Config{
		Host: id(n), Start: 1, Nonce: uint64(n) << 40, Cluster: ours, Name: fmt.Sprint("host-", n), Advertise: port.Addr(),
		Peers: func(context.Context) []netip.AddrPort { return peers }, Lone: len(peers) == 0, Underlay: port, Packets: port.Packets(), Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Handle: func(name string, h gossip.Handler) { port.Handle(name, h) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		begin := time.Now()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if err := port.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("closing took %s", took)
		}
	})
	fact := netmap.HostFact{Name: fmt.Sprint("host-", n), Underlay: port.Addr()}
	if err := g.Announce(map[netmap.Key]any{netmap.HostFactKey(id(n)): fact}, nil); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestRealSockets(t *testing.T) {
	for name, listen := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0"} {
		t.Run(name, func(t *testing.T) {
			const hosts = 5
			first := realHost(t, 1, listen)
			all := []*gossip.Gossip{first}
			// The address of the first is told by its own fact.
			seed := first.View().Hosts[0].Fact.Underlay
			for n := 2; n <= hosts; n++ {
				all = append(all, realHost(t, n, listen, seed.String()))
			}
			for _, g := range all {
				await(t, "meeting everybody", g, func() bool { return len(g.View().Hosts) == hosts && g.Synced() && len(g.Members()) == hosts-1 })
			}
			var worst time.Duration
			for n := range 10 {
				c := container(1, n)
				begin := time.Now()
				if err := first.Announce(map[netmap.Key]any{c.Key: c.Value}, nil); err != nil {
					t.Fatal(err)
				}
				for _, g := range all {
					await(t, "the fact", g, func() bool { return has(g.View(), c) })
				}
				worst = max(worst, time.Since(begin))
			}
			t.Logf("at most %s until all of %d hosts know a fact", worst, hosts)
		})
	}
}
