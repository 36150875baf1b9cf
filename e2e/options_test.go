package e2e

import (
	"context"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationOptionsOfContainers: --mac-address, --link-local-ip and --network container:NAME do on a network of
// Weft what they do on one bridge, also across hosts and after a restart.
func TestIntegrationOptionsOfContainers(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	network := s.network(one, "options", "--subnet", "10.64.52.0/24")
	peer := s.run(two, network, "peer", "--link-local-ip", "169.254.52.2")

	const mac = "02:aa:bb:cc:dd:01"
	chosen := s.run(one, network, "chosen", "--mac-address", mac, "--link-local-ip", "169.254.52.1")
	for range 2 {
		if got := chosen.mac(t); got != mac {
			t.Errorf("--mac-address %s gives %s", mac, got)
		}
		s.matrix(peer, chosen)
		eventually(t, healWithin, func(ctx context.Context) error {
			for from, to := range map[*box]string{&peer: "169.254.52.1", &chosen: "169.254.52.2"} {
				if _, err := from.at(ctx, netip.MustParseAddr(to)); err != nil {
					return err
				}
			}
			return nil
		})
		s.docker(one, "restart", "-t", "0", chosen.name)
		chosen.addr = s.addr(one, chosen.name, network)
	}

	// What shares a container's network has its addresses and names, and none of its own.
	args := s.command(one, "container:"+chosen.name, "guest")
	args = append(args[:4], args[6:]...) // it has no --hostname of its own
	s.docker(one, append(args[:len(args)-3], "probe", "serve", "-addr", ":7001")...)
	guest := box{one, s.name("guest"), chosen.addr}
	s.reach(guest, peer.addr)
	s.answered(guest, peer.name, peer.addr.String())
	if got := guest.mac(t); got != mac {
		t.Errorf("a container that shares the network of another has the MAC %s, want %s", got, mac)
	}
	if err := echoes(t.Context(), two, netip.AddrPortFrom(chosen.addr, 7001)); err != nil {
		t.Errorf("a host does not reach what shares a container's network: %v", err)
	}
	s.refused(one, []string{"conflicting options"}, "run", "--rm", "--network", "container:"+chosen.name, "--mac-address", mac, lab.BusyBoxImage, "true")
	s.refused(one, []string{"container"}, "network", "connect", network, guest.name)
}
