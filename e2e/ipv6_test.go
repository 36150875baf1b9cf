package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// TestIntegrationIPv6Underlay: two hosts that only speak IPv6 with each other, and a
// network of both families on top: agents, ledger and VXLAN.
func TestIntegrationIPv6Underlay(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	const advertise = "WEFT_ADVERTISE=fd99::/64"
	must(t, a.InstallPlugin(t.Context(), s.plugin, advertise))
	must(t, b.InstallPlugin(t.Context(), s.plugin, advertise, fmt.Sprintf("WEFT_JOIN=[%s]", a.Addr6())))
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
	eventually(t, spreadWithin, func(ctx context.Context) error { // its facts come a moment after the host
		report, err := s.report(ctx, a)
		for _, h := range report.Hosts {
			if !h.Underlay.Addr().Is6() {
				err = errors.Join(err, fmt.Errorf("host %s is reached at %s", h.Name, h.Underlay))
			}
		}
		return err
	})

	s.docker(a, s.create(a, "six", "--ipv6", "--subnet", "10.76.0.0/24", "--subnet", "fd76::/64")...)
	name := s.name("six")
	eventually(t, spreadWithin, has(b, name))
	one, two := s.run(a, name, "one"), s.run(b, name, "two", "--ip6", "fd76::beef")
	s.reach(one, two.addr, netip.MustParseAddr("fd76::beef"))
	s.reach(two, append(s.addrs6(name, netip.MustParsePrefix("fd76::/64"), one), one.addr)...)
	s.refused(a, []string{"fd76::beef", "held"}, s.command(a, name, "twin", "--ip6", "fd76::beef")...)
}

// Flags of an address in /proc/net/if_inet6, by the kernel's if_addr.h.
const (
	addrUnique    = 0x02 // IFA_F_NODAD: no duplicate is looked for
	addrDuplicate = 0x08 // IFA_F_DADFAILED
	addrTentative = 0x40 // IFA_F_TENTATIVE: not usable yet
)

// TestIntegrationIPv6AddressesAreUsableAtOnce: no container waits for the kernel's duplicate address
// detection, whatever its sysctls say, because the ledger gives an address only once. A packet that a
// container's first process sends at once is answered.
func TestIntegrationIPv6AddressesAreUsableAtOnce(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	subnet := netip.MustParsePrefix("fd64:8::/64")
	name := s.network(one, "dual", "--ipv6", "--subnet", "10.64.8.0/24", "--subnet", subnet.String())
	server := s.run(two, name, "server")
	target := s.addrs6(name, subnet, server)[0]
	s.reach(server, target)
	for _, sysctls := range [][]string{
		nil,
		{"net.ipv6.conf.all.accept_dad=2", "net.ipv6.conf.default.accept_dad=2", "net.ipv6.conf.default.dad_transmits=5"},
		{"net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"},
		{"net.ipv6.conf.default.optimistic_dad=1", "net.ipv6.conf.default.use_tempaddr=2", "net.ipv6.conf.default.accept_ra=2"},
	} {
		args := []string{"run", "--rm", "--net", name}
		for _, sysctl := range sysctls {
			args = append(args, "--sysctl", sysctl)
		}
		script := "cat /proc/net/if_inet6; probe ping -count 1 " + netip.AddrPortFrom(target, 7000).String()
		out := s.docker(one, append(args, lab.BusyBoxImage, "sh", "-c", script)...)
		own := flags6(out, subnet)
		if len(own) != 1 {
			t.Errorf("with %q a container has %d addresses of %s, want one:\n%s", sysctls, len(own), subnet, out)
		}
		for a, flags := range own {
			if flags&addrUnique == 0 || flags&(addrTentative|addrDuplicate) != 0 {
				t.Errorf("with %q the flags of %s are %#x, want no duplicate address detection", sysctls, a, flags)
			}
		}
		var row []probe.Reach
		if err := json.Unmarshal([]byte(out[strings.Index(out, "["):]), &row); err != nil || len(row) != 1 || row[0].Received != 1 {
			t.Errorf("with %q the first packet: %v, %+v", sysctls, err, row)
		}
	}
}

// flags6 reads the addresses of a subnet and their flags from /proc/net/if_inet6.
func flags6(text string, subnet netip.Prefix) map[netip.Addr]uint64 {
	out := map[netip.Addr]uint64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 6 || len(f[0]) != 32 {
			continue
		}
		var groups []string
		for quad := range slices.Chunk([]byte(f[0]), 4) {
			groups = append(groups, string(quad))
		}
		a, err := netip.ParseAddr(strings.Join(groups, ":"))
		flags, err2 := strconv.ParseUint(f[4], 16, 32)
		if err == nil && err2 == nil && subnet.Contains(a) {
			out[a] = flags
		}
	}
	return out
}

// TestIntegrationIPv6AddressTakenByHand: a container that may change its network gives itself
// an address that another has. The kernel finds the duplicate, on the same host and from another
// one, and packets go where the ledger says.
func TestIntegrationIPv6AddressTakenByHand(t *testing.T) {
	s := onMembers(t)
	subnet := netip.MustParsePrefix("fd64:9::/64")
	name := s.network(s.lab.Host(1), "dual", "--ipv6", "--subnet", "10.64.9.0/24", "--subnet", subnet.String())
	boxes := s.runOnAll(name, "box")
	holder := s.addrs6(name, subnet, boxes[0])[0]
	thieves := []box{
		s.run(s.lab.Host(1), name, "near", "--cap-add", "NET_ADMIN"),
		s.run(s.lab.Host(2), name, "far", "--cap-add", "NET_ADMIN"),
	}
	s.reach(boxes[2], holder)
	for _, thief := range thieves {
		_, err := thief.exec(t.Context(), "ip", "-6", "addr", "add", holder.String()+"/64", "dev", "eth0")
		must(t, err)
	}
	eventually(t, healWithin, func(ctx context.Context) error {
		for _, thief := range thieves {
			out, err := thief.exec(ctx, "cat", "/proc/net/if_inet6")
			if err != nil {
				return err
			}
			flags, has := flags6(out, subnet)[holder]
			if !has || flags&addrDuplicate == 0 {
				return fmt.Errorf("in %s the flags of %s are %#x", thief.name, holder, flags)
			}
		}
		return nil
	})
	s.page(boxes[2], holder, "box1")
	s.page(s.run(s.lab.Host(1), name, "late"), holder, "box1")
}

// TestIntegrationIPv6SwitchedOff: a container that switches IPv6 off runs with its IPv4 address.
// Whatever Docker does with the IPv6 address, it is free afterwards.
func TestIntegrationIPv6SwitchedOff(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	name := s.network(one, "dual", "--ipv6", "--subnet", "10.64.10.0/24", "--subnet", "fd64:a::/64")
	const addr = "fd64:a::77"
	off := s.run(one, name, "off", "--ip6", addr, "--sysctl", "net.ipv6.conf.all.disable_ipv6=1", "--sysctl", "net.ipv6.conf.default.disable_ipv6=1")
	s.matrix(off, s.run(two, name, "other"))
	s.docker(one, "rm", "-f", off.name)
	heir := s.run(two, name, "heir", "--ip6", addr)
	s.reach(heir, netip.MustParseAddr(addr))
}
