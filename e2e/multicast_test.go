package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// another is an address of a network's subnet that no container gets in a test.
func (s *scene) another(network string) netip.Prefix {
	s.t.Helper()
	subnet := netip.MustParsePrefix(s.everywhere(network)[0])
	a := subnet.Addr().As4()
	a[3] += 200
	return netip.PrefixFrom(netip.AddrFrom4(a), subnet.Bits())
}

// at returns the MAC that a container has for an address, after asking for it.
func (b box) at(ctx context.Context, addr netip.Addr) (string, error) {
	if out, err := b.exec(ctx, "ping", "-c", "1", "-W", "1", addr.String()); err != nil {
		return "", fmt.Errorf("%s does not answer %s: %w: %s", addr, b.name, err, out)
	}
	out, err := b.inside(ctx, "ip", "-4", "neigh", "show", addr.String())
	_, after, _ := strings.Cut(out, "lladdr ")
	mac, _, _ := strings.Cut(after, " ")
	return mac, err
}

// mac is the MAC of a container's first interface.
func (b box) mac(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(must1(b.exec(t.Context(), "cat", "/sys/class/net/eth0/address"))(t))
}

// keepalived starts Debian's keepalived in a container with an address to share.
func (s *scene) keepalived(h *lab.Host, network, name string, priority int, address netip.Prefix) box {
	s.t.Helper()
	conf := filepath.Join(s.t.TempDir(), "keepalived.conf")
	must(s.t, os.WriteFile(conf, fmt.Appendf(nil, `vrrp_instance shared {
	state BACKUP
	interface eth0
	virtual_router_id 7
	priority %d
	advert_int 1
	virtual_ipaddress { %s dev eth0 }
}
`, priority, address), 0o600))
	s.mu.Lock()
	s.boxes[h.Number()] = append(s.boxes[h.Number()], s.name(name))
	s.mu.Unlock()
	args := append([]string{"run", "-d", "--name", s.name(name), "--net", network, "--cap-add", "NET_ADMIN", "-v", conf + ":/keepalived.conf:ro"}, hostPrograms...)
	s.docker(h, append(args, lab.BusyBoxImage, "/usr/sbin/keepalived", "-n", "-l", "-P", "-f", "/keepalived.conf", "-p", "/tmp/k.pid", "-r", "/tmp/v.pid")...)
	return box{h, s.name(name), s.addr(h, s.name(name), network)}
}

// TestIntegrationAVirtualAddress of keepalived, which no endpoint has, is reached from another host, and
// moves to another host when its holder dies. Probes find addresses in use on other hosts; an address
// that a container has does not move by announcing it.
func TestIntegrationAVirtualAddress(t *testing.T) {
	requires(t, "keepalived", "arping")
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	network := s.network(one, "shared")
	address := s.another(network)
	client := s.run(three, network, "client")
	held := func(by box) {
		t.Helper()
		eventually(t, 3*healWithin, func(ctx context.Context) error { // keepalived itself waits for some seconds
			mac, err := client.at(ctx, address.Addr())
			if want := by.mac(t); err == nil && mac != want {
				err = fmt.Errorf("%s is at %s, want %s, which is %s", address, mac, want, by.name)
			}
			return err
		})
	}
	first := s.keepalived(one, network, "first", 150, address)
	held(first)
	second := s.keepalived(two, network, "second", 100, address)
	for _, used := range []netip.Addr{first.addr, address.Addr()} {
		if out, err := client.inside(t.Context(), "arping", "-D", "-c", "2", "-w", "2", "-I", "eth0", used.String()); err == nil {
			t.Errorf("a probe for %s, which is in use on another host, found nothing: %s", used, out)
		}
	}
	s.docker(one, "kill", first.name)
	held(second)

	other := s.run(one, network, "other")
	s.reach(client, other.addr)
	taken := netip.PrefixFrom(other.addr, address.Bits()).String()
	for _, command := range [][]string{
		{"ip", "addr", "add", taken, "dev", "eth0"},
		{"arping", "-U", "-c", "2", "-I", "eth0", other.addr.String()},
		{"ip", "addr", "del", taken, "dev", "eth0"},
	} {
		_, _ = second.inside(t.Context(), command...) // arping fails where somebody answers
	}
	if mac, err := client.at(t.Context(), other.addr); err != nil || mac != other.mac(t) {
		t.Errorf("a container's address that another one announced is at %s (%v), want %s", mac, err, other.mac(t))
	}
}

// TestIntegrationMulticast: a program that knows nothing of interfaces reaches a group's members on all
// hosts, by the network of Weft that its container has; iperf is one. A DHCP server is found too.
func TestIntegrationMulticast(t *testing.T) {
	requires(t, "iperf")
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	network := s.network(one, "groups")
	quiet := s.network(one, "quiet", "-o", "weft.multicast=false")
	sender, members := s.run(one, network, "sender"), s.runOnAll(network, "member")
	for _, b := range append(members, sender) {
		s.routed(b)
	}
	const group = "239.77.0.1"
	heard := make(chan string, len(members))
	for _, b := range members {
		go func() { // iperf ends after its first client
			out, _ := b.inside(t.Context(), "sh", "-c", "timeout 60 iperf -s -u -B "+group+" -i 1 -P 1 | grep -m1 /sec")
			heard <- b.name + " hears " + out
		}()
		eventually(t, healWithin, func(ctx context.Context) error {
			out, err := b.inside(ctx, "ip", "maddr", "show", "dev", "eth0")
			if err == nil && !strings.Contains(out, group) {
				err = fmt.Errorf("%s has not joined by eth0: %s", b.name, out)
			}
			return err
		})
	}
	must1(sender.inside(t.Context(), "iperf", "-c", group, "-u", "-T", "4", "-t", "2", "-b", "1M"))(t)
	for range members {
		if out := <-heard; !strings.Contains(out, "bits/sec") {
			t.Errorf("%s, and nothing of the group", out)
		}
	}

	address := s.another(network).Addr().String()
	must1(sender.exec(t.Context(), "sh", "-c", "touch /leases; printf 'start %s\nend %s\ninterface eth0\nlease_file /leases\n' "+address+" "+address+" >/udhcpd.conf"))(t)
	s.docker(one, "exec", "-d", sender.name, "udhcpd", "-f", "/udhcpd.conf")
	eventually(t, healWithin, func(ctx context.Context) error {
		_, err := members[1].inside(ctx, "busybox", "udhcpc", "-n", "-q", "-f", "-i", "eth0", "-s", "/bin/true", "-t", "2", "-T", "2")
		return err // none: it has got a lease
	})

	silent := s.run(two, quiet, "silent")
	if out := must1(silent.inside(t.Context(), "ip", "route", "show", "224.0.0.0/4"))(t); out != "" {
		t.Errorf("without multicast there is a route for groups: %s", out)
	}
}

// TestIntegrationMDNS: what Debian's avahi announces in a container is found in one on another host.
func TestIntegrationMDNS(t *testing.T) {
	requires(t, "avahi-daemon", "mdns-scan")
	s := onMembers(t)
	network := s.network(s.lab.Host(1), "mdns")
	printer, seeker := s.run(s.lab.Host(1), network, "printer"), s.run(s.lab.Host(2), network, "seeker")
	s.routed(printer)
	s.routed(seeker)
	conf := filepath.Join(t.TempDir(), "avahi.conf")
	must(t, os.WriteFile(conf, []byte(`[server]
host-name=printer
use-ipv6=no
allow-interfaces=eth0
enable-dbus=no
[publish]
publish-workstation=yes
`), 0o600))
	go func() { // it ends with its container's namespace, or after the test
		_, _ = printer.inside(t.Context(), "avahi-daemon", "-f", conf, "--no-drop-root", "--no-chroot", "--no-rlimits")
	}()
	eventually(t, 3*healWithin, func(ctx context.Context) error {
		out, err := seeker.inside(ctx, "sh", "-c", "timeout 4 mdns-scan 2>&1 || true") // it scans until it is stopped
		if err == nil && !strings.Contains(out, "printer") {
			err = fmt.Errorf("mdns-scan found %q", out)
		}
		return err
	})
}

// routed waits until the groups' route of a container leads over its interface of Weft.
func (s *scene) routed(b box) {
	s.t.Helper()
	eventually(s.t, healWithin, func(ctx context.Context) error {
		out, err := b.inside(ctx, "ip", "route", "show", "224.0.0.0/4")
		if err == nil && !strings.Contains(out, "dev eth0") {
			err = fmt.Errorf("%s has no route for groups: %q", b.name, out)
		}
		return err
	})
}
