package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/api"
)

func TestIntegrationStaticAddresses(t *testing.T) {
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	name := s.network(one, "static", "--subnet", "10.65.0.0/24", "--gateway", "10.65.0.254", "--aux-address", "printer=10.65.0.7")

	first := s.run(one, name, "first", "--ip", "10.65.0.50")
	if want := netip.MustParseAddr("10.65.0.50"); first.addr != want {
		t.Errorf("--ip %s gave %s", want, first.addr)
	}
	for _, h := range s.members() {
		// The holder's own host names the container, another host also names the holder's host.
		words := []string{"10.65.0.50", "held"}
		if h.Number() != one.Number() {
			words = append(words, "host1", first.name)
		}
		s.refused(h, words, s.command(h, name, fmt.Sprintf("twin%d", h.Number()), "--ip", "10.65.0.50")...)
	}
	s.refused(two, []string{"10.66.0.9"}, s.command(two, name, "outside", "--ip", "10.66.0.9")...)
	s.refused(two, []string{"10.65.0.254", "gateway"}, s.command(two, name, "gateway", "--ip", "10.65.0.254")...)
	s.refused(three, []string{"10.65.0.7", "reserved"}, s.command(three, name, "printer", "--ip", "10.65.0.7")...)

	// An address out of a block that another host owns is ceded.
	own := s.run(one, name, "own")
	neighbour := own.addr.Next()
	if neighbour == netip.MustParseAddr("10.65.0.7") {
		neighbour = neighbour.Next()
	}
	ceded := s.run(two, name, "ceded", "--ip", neighbour.String())
	s.matrix(first, own, ceded)

	// The refused requests hold nothing: when the holder is removed, the address is free.
	s.docker(one, "rm", "-f", first.name)
	eventually(t, healWithin, func(ctx context.Context) error {
		_, err := three.Docker(ctx, s.command(three, name, "heir", "--ip", "10.65.0.50")...)
		if err != nil {
			_, gone := three.Docker(ctx, "rm", "-f", s.name("heir"))
			return errors.Join(err, gone)
		}
		return nil
	})
	heir := box{three, s.name("heir"), first.addr}
	s.matrix(heir, own, ceded)
}

func TestIntegrationGatewayAuxAndRange(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	area := netip.MustParsePrefix("10.65.17.0/24")
	name := s.network(one, "range", "--subnet", "10.65.16.0/20", "--ip-range", area.String(), "--gateway", "10.65.17.1", "--aux-address", "nas=10.65.17.2")
	if got := s.docker(one, "network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}} {{.AuxiliaryAddresses.nas}}{{end}}", name); got != "10.65.17.1 10.65.17.2" {
		t.Errorf("gateway and auxiliary address are %q", got)
	}
	for i := range 4 {
		b := s.run(one, name, fmt.Sprintf("in%d", i))
		if !area.Contains(b.addr) || slices.Contains([]string{"10.65.17.1", "10.65.17.2"}, b.addr.String()) {
			t.Errorf("a container has %s, want a free address of %s", b.addr, area)
		}
	}
	// A container may ask by --ip for an address of the subnet outside of the range.
	out := s.run(one, name, "out", "--ip", "10.65.31.200")
	peer := s.run(two, name, "peer")
	if !area.Contains(peer.addr) {
		t.Errorf("on the replica a container has %s, want an address of %s", peer.addr, area)
	}
	s.matrix(out, peer)
}

// TestIntegrationAddressesComeBackLate: a released address is handed out again as late as possible,
// so that no cache still has the old container's entry for it.
func TestIntegrationAddressesComeBackLate(t *testing.T) {
	s := onMembers(t)
	one := s.lab.Host(1)
	name := s.network(one, "late", "--subnet", "10.65.32.0/24")
	seen := map[netip.Addr]bool{}
	for i := range 5 {
		b := s.run(one, name, fmt.Sprintf("box%d", i))
		if seen[b.addr] {
			t.Errorf("%s was given out again though others are free", b.addr)
		}
		seen[b.addr] = true
		s.docker(one, "rm", "-f", b.name)
	}
}

// TestIntegrationSmallNetworkIsUsedUp: every address of a /29 but its edges, its
// gateway and its auxiliary address is given out, the next is refused, and a
// freed one serves another host.
func TestIntegrationSmallNetworkIsUsedUp(t *testing.T) {
	s := onMembers(t)
	one := s.lab.Host(1)
	name := s.network(one, "small", "--subnet", "10.65.33.0/29", "--gateway", "10.65.33.1", "--aux-address", "printer=10.65.33.2")
	var boxes []box
	var got []string
	for i := range 4 {
		b := s.run(one, name, fmt.Sprintf("box%d", i))
		boxes, got = append(boxes, b), append(got, b.addr.String())
	}
	slices.Sort(got)
	if want := "10.65.33.3 10.65.33.4 10.65.33.5 10.65.33.6"; strings.Join(got, " ") != want {
		t.Errorf("four containers have %s, want %s", got, want)
	}
	for _, h := range s.members() {
		s.refused(h, []string{"10.65.33.0/29"}, s.command(h, name, fmt.Sprintf("much%d", h.Number()))...)
	}
	s.docker(one, "rm", "-f", boxes[1].name)
	next := s.run(one, name, "next")
	if next.addr != boxes[1].addr {
		t.Errorf("the next container has %s, only %s was free", next.addr, boxes[1].addr)
	}
	s.matrix(boxes[0], boxes[2], boxes[3], next)
}

// TestIntegrationBlocks: each host allocates from blocks of its own.
func TestIntegrationBlocks(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "blocks", "--subnet", "10.65.34.0/24", "-o", "weft.block=/27")
	boxes := s.runOnAll(name, "box")
	s.seen(name, func(r *api.Report, n api.Network) error {
		for _, b := range boxes {
			i := slices.IndexFunc(n.Subnets[0].Blocks, func(k api.Block) bool { return k.Prefix.Contains(b.addr) })
			if i < 0 {
				return fmt.Errorf("%s is in no block", b.addr)
			}
			k := n.Subnets[0].Blocks[i]
			if r.HostName(k.Owner) != b.host.Name() || k.Prefix.Bits() != 27 {
				return fmt.Errorf("%s of %s is in block %s of %s", b.addr, b.host.Name(), k.Prefix, r.HostName(k.Owner))
			}
		}
		return nil
	})
}
