package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

func TestIntegrationContainersReachEachOther(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "overlay")
	boxes := append(s.runOnAll(name, "box"), s.run(s.lab.Host(1), name, "second"))
	s.matrix(boxes...)
	for _, from := range boxes {
		for _, to := range boxes {
			s.page(from, to.addr, strings.TrimPrefix(to.name, s.prefix))
		}
	}

	// Packets as large as the MTU pass: the MTU leaves space for the encapsulation.
	mtu, err := boxes[0].exec(t.Context(), "cat", "/sys/class/net/eth0/mtu")
	if err != nil || mtu != "1450" {
		t.Errorf("a container's MTU is %q, want 1450 on an underlay of 1500 (%v)", mtu, err)
	}
	out, err := boxes[0].exec(t.Context(), "probe", "throughput", "-for", "500ms", boxes[1].addr.String())
	var carried probe.Throughput
	if err == nil {
		err = json.Unmarshal([]byte(out), &carried)
	}
	if err != nil || carried.Bytes < 1<<20 {
		t.Errorf("TCP between two hosts carried %+v in half a second, want 1 MiB and more (%v)", carried, err)
	}
}

// TestIntegrationFirstPacketArrives: the other hosts forward to an endpoint, and its host to theirs,
// before the container's process runs.
func TestIntegrationFirstPacketArrives(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "overlay")
	server := s.run(s.lab.Host(2), name, "server")
	s.reach(server, server.addr)
	for range 5 {
		out := s.docker(s.lab.Host(1), "run", "--rm", "--net", name, lab.BusyBoxImage, "probe", "ping", "-count", "1", server.addr.String())
		var row []probe.Reach
		if err := json.Unmarshal([]byte(out), &row); err != nil || len(row) != 1 || row[0].Sent != 1 || row[0].Received != 1 {
			t.Errorf("the first packet of a new container on another host: %s (%v)", out, err)
		}
	}
}

func TestIntegrationNetworksAreIsolated(t *testing.T) {
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	red := s.network(one, "red", "--subnet", "10.64.4.0/24")
	blue := s.network(two, "blue", "--subnet", "10.64.5.0/24")
	r1, r2 := s.run(one, red, "r1"), s.run(two, red, "r2")
	b1, b2 := s.run(one, blue, "b1"), s.run(two, blue, "b2")

	// A container on both networks. It is connected to the second one once while it runs and once while
	// it is stopped.
	both := s.run(three, red, "both")
	s.docker(three, "network", "connect", blue, both.name)
	bothBlue := s.addr(three, both.name, blue)
	late := s.run(one, blue, "late")
	s.docker(one, "stop", late.name)
	s.docker(one, "network", "connect", red, late.name)
	s.docker(one, "start", late.name)
	late.addr = s.addr(one, late.name, blue)
	lateRed := s.addr(one, late.name, red)

	s.reach(r1, r2.addr, both.addr, lateRed)
	s.reach(b1, b2.addr, bothBlue, late.addr)
	s.reach(both, r1.addr, r2.addr, b1.addr, b2.addr, late.addr)
	s.reach(late, r1.addr, r2.addr, b1.addr, b2.addr, both.addr)
	s.apart(r1, b1.addr, b2.addr, bothBlue, late.addr)
	s.apart(b2, r1.addr, r2.addr, both.addr, lateRed)

	s.docker(three, "network", "disconnect", red, both.name)
	eventually(t, healWithin, func(ctx context.Context) error {
		if silent, err := r1.unreachable(ctx, both.addr); err != nil || len(silent) == 0 {
			return fmt.Errorf("it is still on the network that it was disconnected from (%w)", err)
		}
		return nil
	})
	s.reach(both, b1.addr, b2.addr)
}

// TestIntegrationEgressAndPublishedPorts: both work by Docker's docker_gwbridge.
func TestIntegrationEgressAndPublishedPorts(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	open := s.network(one, "open")
	shut := s.network(one, "shut", "--internal")
	outside := func(b box) error {
		_, err := b.exec(t.Context(), "ping", "-c", "1", "-W", "1", two.Addr4().String())
		return err
	}
	web := s.run(one, open, "web", "-p", "8080:80", "-p", "7001:7000/udp")
	if err := outside(web); err != nil {
		t.Errorf("a container has no way out: %v", err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: two.Dial, DisableKeepAlives: true}, Timeout: answerWithin}
	eventually(t, healWithin, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:8080/", one.Addr4()), http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		if err != nil || string(page) != "web\n" {
			return fmt.Errorf("the published page is %q (%w)", page, err)
		}
		return nil
	})
	if err := echoes(t.Context(), two, netip.AddrPortFrom(one.Addr4(), 7001)); err != nil {
		t.Errorf("the published UDP port: %v", err)
	}

	a, b := s.run(one, shut, "a"), s.run(two, shut, "b")
	s.matrix(a, b)
	if outside(a) == nil {
		t.Error("a container of an --internal network has a way out")
	}
	if routes, err := a.exec(t.Context(), "ip", "route"); err != nil || strings.Contains(routes, "default") {
		t.Errorf("a container of an --internal network has routes %q (%v)", routes, err)
	}
}

// echoes is nil when a probe's server at addr sends a datagram back to a host.
func echoes(ctx context.Context, from *lab.Host, addr netip.AddrPort) error {
	conn, err := from.Dial(ctx, "udp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	answer := make([]byte, 16)
	n, err := conn.Read(answer)
	if err == nil && string(answer[:n]) != "hello" {
		err = fmt.Errorf("the echo is %q", answer[:n])
	}
	return err
}

func TestIntegrationDualStack(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "dual", "--ipv6", "--subnet", "10.64.6.0/24", "--subnet", "fd64:6::/64")
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	v6 := s.addrs6(name, netip.MustParsePrefix("fd64:6::/64"), boxes...)
	for _, b := range boxes {
		s.reach(b, v6...)
	}
	s.page(boxes[0], v6[2], "box3")
}

// addrs6 are the IPv6 addresses of containers on a network, which must be of its subnet.
func (s *scene) addrs6(network string, subnet netip.Prefix, boxes ...box) (out []netip.Addr) {
	s.t.Helper()
	for _, b := range boxes {
		said := s.docker(b.host, "inspect", "-f", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).GlobalIPv6Address}}", network), b.name)
		addr, err := netip.ParseAddr(said)
		if err != nil || !subnet.Contains(addr) {
			s.t.Fatalf("%s has the IPv6 address %q (%v)", b.name, said, err)
		}
		out = append(out, addr)
	}
	return out
}

// TestIntegrationIPv6Only: a network without IPv4, which Docker has from release 28 on.
func TestIntegrationIPv6Only(t *testing.T) {
	s := onMembers(t)
	one := s.lab.Host(1)
	if major := s.engineMajor(); major < 28 {
		t.Skipf("Docker %d has no --ipv4=false, 28 is the first that has", major)
	}
	name := s.name("six")
	s.docker(one, s.create(one, "six", "--ipv4=false", "--ipv6", "--subnet", "fd64:7::/64")...)
	if got := s.everywhere(name); !slices.Equal(got, []string{"fd64:7::/64"}) {
		t.Errorf("the network has subnets %q", got)
	}
	s.looksTheSame(name)
	var boxes []box
	for _, h := range s.members() {
		s.docker(h, s.command(h, name, "box"+strconv.Itoa(h.Number()))...)
		boxes = append(boxes, box{host: h, name: s.name("box" + strconv.Itoa(h.Number()))})
	}
	v6 := s.addrs6(name, netip.MustParsePrefix("fd64:7::/64"), boxes...)
	for _, b := range boxes {
		s.reach(b, v6...)
	}
}

// engineMajor is the first number of the lab's Docker's version.
func (s *scene) engineMajor() int {
	s.t.Helper()
	version := s.docker(s.lab.Host(1), "version", "--format", "{{.Server.Version}}")
	major, err := strconv.Atoi(strings.Split(version, ".")[0])
	must(s.t, err)
	return major
}

// TestIntegrationNamesOnOneHost: Docker's DNS resolves the names of containers on the same host.
func TestIntegrationNamesOnOneHost(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(2), "overlay")
	s.run(s.lab.Host(2), name, "server", "--network-alias", "alias")
	client := s.run(s.lab.Host(2), name, "client")
	for _, host := range []string{s.name("server"), "alias"} {
		out, err := client.exec(t.Context(), "timeout", "3", "wget", "-q", "-O", "-", "http://"+net.JoinHostPort(host, "80")+"/")
		if err != nil || out != "server" {
			t.Errorf("the page of %s is %q (%v)", host, out, err)
		}
	}
}
