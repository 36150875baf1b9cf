package hostnet_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/hostnet"
	"github.com/weftnet/weft/netns"
)

// site is a host as it is with Docker: two containers, each on a network of its own and on
// docker_gwbridge, a host elsewhere on the first network, and a machine on the underlay.
type site struct {
	*testing.T
	host, x, y, member, outside, overlay *netns.Namespace
	net                                  *hostnet.Host
	ports                                []datapath.HostPort
}

const (
	onX = "wfc0000000000aa"
	onY = "wfc0000000000bb"
)

// docker is what Docker 28 writes of published ports and egress, as far as it decides here.
const docker = `table ip docker {
	chain pre { type nat hook prerouting priority -100; iifname != "docker_gwbridge" fib daddr type local tcp dport 8080 dnat to 172.18.0.2:80; }
	chain post { type nat hook postrouting priority 100; ip saddr 172.18.0.0/16 oifname != "docker_gwbridge" masquerade; }
	chain forwarding { type filter hook forward priority 0; policy drop; ct state established,related accept
		iifname "docker_gwbridge" oifname != "docker_gwbridge" accept
		iifname != "docker_gwbridge" oifname "docker_gwbridge" ip daddr 172.18.0.2 tcp dport 80 accept; }
}`

func newSite(t *testing.T) *site {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	s := &site{T: t}
	for _, ns := range []**netns.Namespace{&s.host, &s.x, &s.y, &s.member, &s.outside, &s.overlay} {
		fresh, err := netns.New()
		s.ok(err)
		*ns = fresh
		t.Cleanup(func() { _ = fresh.Close() })
		s.run(fresh, "ip link set lo up")
	}
	s.run(s.overlay, "ip link add bx type bridge; ip link add by type bridge; ip link set bx up; ip link set by up")
	s.run(s.host, "ip link add docker_gwbridge type bridge; ip link set docker_gwbridge up; ip addr add 172.18.0.1/16 dev docker_gwbridge")
	s.wire(s.host, onX, s.overlay, "px0", "bx")
	s.wire(s.host, onY, s.overlay, "py0", "by")
	s.wire(s.x, "eth0", s.overlay, "px1", "bx")
	s.wire(s.y, "eth0", s.overlay, "py1", "by")
	s.wire(s.member, "eth0", s.overlay, "px2", "bx")
	s.wire(s.x, "eth1", s.host, "gx", "docker_gwbridge")
	s.wire(s.y, "eth1", s.host, "gy", "docker_gwbridge")
	s.wire(s.outside, "eth0", s.host, "eth0", "")
	s.run(s.host, "ip addr add 192.0.2.1/24 dev eth0; sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=1 net.ipv6.conf.all.forwarding=1")
	s.run(s.x, "ip addr add 10.64.0.2/24 dev eth0; ip addr add fd64::2/64 dev eth0 nodad; ip addr add 172.18.0.2/16 dev eth1; ip route add default via 172.18.0.1")
	s.run(s.y, "ip addr add 10.65.0.2/24 dev eth0; ip addr add 172.18.0.3/16 dev eth1; ip route add default via 172.18.0.1")
	s.run(s.member, "ip addr add 10.64.0.253/24 dev eth0; ip route add default via 10.64.0.254")
	s.run(s.outside, "ip addr add 192.0.2.9/24 dev eth0; ip route add 10.64.0.0/15 via 192.0.2.1; ip route add 172.18.0.0/16 via 192.0.2.1")
	s.dockers()
	h, err := hostnet.Open(hostnet.Config{HostNS: fmt.Sprintf("/proc/self/fd/%d", s.host.Fd())})
	s.ok(err)
	t.Cleanup(func() { s.ok(h.Close()) })
	s.net = h
	s.ports = []datapath.HostPort{
		{Name: onX, MTU: 1450, Addrs: addrs("10.64.0.254", "fd64::254"), Subnets: subnets("10.64.0.0/24", "fd64::/64")},
		{Name: onY, MTU: 1450, Addrs: addrs("10.65.0.254"), Subnets: subnets("10.65.0.0/24")},
	}
	return s
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func subnets(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func (s *site) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// run runs a shell command in a namespace.
func (s *site) run(ns *netns.Namespace, script string) string {
	s.Helper()
	out, err := s.try(ns, script)
	if err != nil {
		s.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

func (s *site) try(ns *netns.Namespace, script string) (text string, err error) {
	err = ns.Do(func() error {
		ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "sh", "-ec", script).CombinedOutput()
		text = string(out)
		return err
	})
	return text, err
}

// wire makes a veth pair; its far end is a port of a bridge there, if one is named.
func (s *site) wire(near *netns.Namespace, name string, far *netns.Namespace, port, bridge string) {
	s.Helper()
	s.run(near, fmt.Sprintf("ip link add %s type veth peer name %s netns /proc/%d/fd/%d", name, port, os.Getpid(), far.Fd()))
	s.run(far, "ip link set "+port+" up")
	if bridge != "" {
		s.run(far, "ip link set "+port+" master "+bridge)
	}
	if !strings.HasPrefix(name, datapath.InnerPrefix) { // Weft brings its own up
		s.run(near, "ip link set "+name+" up")
	}
}

func (s *site) dockers() {
	s.Helper()
	s.run(s.host, "nft -f - <<'E'\n"+docker+"\nE")
}

func (s *site) set() hostnet.Report {
	s.Helper()
	r, err := s.net.Set(s.Context(), s.ports)
	s.ok(err)
	s.ok(r.Unpublished)
	return r
}

func (s *site) pings(from *netns.Namespace, to string) bool {
	_, err := s.try(from, "busybox ping -c 1 -W 1 "+to)
	return err == nil
}

// served is the address of the client that the container on X saw at its port 80, empty if no
// connection came through.
func (s *site) served(from *netns.Namespace, to string) (client string) {
	s.Helper()
	var l net.Listener
	s.ok(s.x.Do(func() (err error) {
		l, err = net.Listen("tcp4", ":80")
		return err
	}))
	seen := make(chan string, 1)
	go func() {
		defer close(seen)
		if c, err := l.Accept(); err == nil {
			seen <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			_, _ = c.Write([]byte("x"))
			_ = c.Close()
		}
	}()
	err := from.Do(func() error {
		c, err := net.DialTimeout("tcp4", to, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, err = c.Read(make([]byte, 1))
		return err
	})
	_ = l.Close()
	if client = <-seen; err != nil {
		return ""
	}
	return client
}

// apart checks what must never get through.
func (s *site) apart(when string) {
	s.Helper()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, c := range []struct {
		what string
		from *netns.Namespace
		to   string
	}{
		{"a container on X reaches one on Y", s.x, "10.65.0.2"},
		{"a container on Y reaches one on X", s.y, "10.64.0.2"},
		{"a machine outside the cluster reaches a container", s.outside, "10.64.0.2"},
		{"the host routes from X to Y", s.member, "10.65.0.2"},
		{"the host routes from X to docker_gwbridge", s.member, "172.18.0.3"},
		{"the host routes from X to the underlay", s.member, "192.0.2.9"},
	} {
		waiting.Go(func() {
			if s.pings(c.from, c.to) {
				s.Errorf("%s: %s", when, c.what)
			}
		})
	}
}

func (s *site) reaches(when string) {
	s.Helper()
	for _, c := range []struct {
		from *netns.Namespace
		to   string
	}{{s.host, "10.64.0.2"}, {s.host, "10.65.0.2"}, {s.host, "fd64::2"}, {s.x, "10.64.0.254"}, {s.x, "fd64::254"}, {s.member, "10.64.0.254"}, {s.x, "192.0.2.9"}} {
		if !s.pings(c.from, c.to) {
			s.Errorf("%s: %s does not answer", when, c.to)
		}
	}
}

// TestHostOnNetworks: what reaches what, with all rules in place and after somebody flushed those
// of netfilter.
func TestHostOnNetworks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if r := s.set(); r.Done == 0 || len(r.Missing) > 0 {
		t.Errorf("%+v", r)
	}
	if got := s.run(s.host, "cd /proc/sys/net; cat ipv6/conf/"+onX+"/accept_ra ipv4/conf/"+onX+"/arp_ignore ipv4/conf/"+onX+"/accept_redirects"); got != "0\n1\n0\n" {
		t.Errorf("a container may configure the host: accept_ra, arp_ignore and accept_redirects are %q", got)
	}
	s.reaches("at first")
	s.apart("at first")
	if got := s.served(s.member, "10.64.0.254:8080"); got != "172.18.0.1" {
		t.Errorf("a port published here, by this host's address on X: the client is %q", got)
	}
	if got := s.served(s.outside, "192.0.2.1:8080"); got != "192.0.2.9" {
		t.Errorf("a published port from outside: the client is %q", got)
	}
	s.run(s.host, "nft flush ruleset")
	s.apart("after a flush")
	if got := s.served(s.member, "10.64.0.254:8080"); got != "" {
		t.Errorf("without rules somebody was reached as %q", got)
	}
	if !s.pings(s.host, "10.64.0.2") || !s.pings(s.x, "10.64.0.254") {
		t.Error("without rules the host and a container do not reach each other")
	}
	if r := s.set(); r.Done != 1 {
		t.Errorf("repaired %d", r.Done)
	}
	s.dockers()
	if got := s.served(s.member, "10.64.0.254:8080"); got != "172.18.0.1" {
		t.Errorf("after the repair the client is %q", got)
	}
}

// TestHostRepairs: whatever is taken away comes back, and is counted; then nothing is left to do.
func TestHostRepairs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.set()
	for _, damage := range []string{
		"ip rule del pref 795", "ip rule del pref 796", "ip rule del pref 797", "ip rule del pref 798", "ip -6 rule del pref 795",
		"ip route flush table 7950", "ip -6 route flush table 7950", "ip addr flush dev " + onX, "ip link set " + onX + " down", "ip link set mtu 1400 dev " + onX,
		"ip addr add 10.99.0.1/24 dev " + onX, "nft delete table inet weft", "nft flush chain inet weft publish", "nft add rule inet weft back accept",
		"ip rule add pref 798 iif nobody unreachable", "ip route add 10.66.0.0/24 dev " + onX + " table 7950",
	} {
		s.run(s.host, damage)
		if r := s.set(); r.Done == 0 {
			t.Errorf("%s: not noticed", damage)
		}
		if r := s.set(); r.Done != 0 {
			t.Errorf("%s: %d things to do after the repair", damage, r.Done)
		}
	}
	s.reaches("after all repairs")
	s.run(s.host, "ip link del "+onY)
	if r := s.set(); len(r.Missing) != 1 || r.Missing[0] != onY {
		t.Errorf("missing %v", r.Missing)
	}
	if there, err := s.net.Exists(); err != nil || !there {
		t.Errorf("%v, %v", there, err)
	}
	removed, err := s.net.Cleanup(t.Context())
	if left := s.run(s.host, "ip rule; ip -6 rule; nft list tables"); err != nil || len(removed) != 1 || strings.Contains(left, "7950") || strings.Contains(left, "wfc") || strings.Contains(left, "weft") {
		t.Errorf("%v, %v, left:\n%s", removed, err, left)
	}
	if there, err := s.net.Exists(); err != nil || there {
		t.Errorf("%v, %v", there, err)
	}
	if again, err := s.net.Cleanup(t.Context()); err != nil || len(again) != 0 {
		t.Errorf("%v, %v", again, err)
	}
}

// TestDockersRulesAreSeen: those that iptables writes, without which Docker's chains lead nowhere, and
// those of a Docker that writes nftables.
func TestDockersRulesAreSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, c := range []struct {
		does  string
		there bool
	}{
		{"true", false},
		{"nft add table ip nat; nft add chain ip nat DOCKER; nft add chain ip nat PREROUTING '{ type nat hook prerouting priority -100; }'; nft add chain ip nat POSTROUTING '{ type nat hook postrouting priority 100; }'", false},
		{"nft add rule ip nat PREROUTING jump DOCKER; nft add rule ip nat POSTROUTING masquerade", true},
		{"nft flush chain ip nat POSTROUTING", false},
		{"nft add table ip docker-bridges; nft add chain ip docker-bridges nat-prerouting", true},
		{"nft flush ruleset", false},
	} {
		s.run(s.host, c.does)
		if r := s.set(); r.Docker != c.there {
			t.Errorf("after %s Docker's rules are there: %v, want %v", c.does, r.Docker, c.there)
		}
	}
}
