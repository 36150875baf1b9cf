package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// TestIntegrationBadNetworksAreRefused: they are refused in time, with a reason, and leave nothing.
func TestIntegrationBadNetworksAreRefused(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	taken := s.network(one, "taken", "--subnet", "10.66.0.0/20")
	for _, c := range []struct {
		story string
		words []string
		args  []string
	}{
		{"inside another network", []string{"10.66.1.0/24", "10.66.0.0/20", taken}, []string{"--subnet", "10.66.1.0/24"}},
		{"around another network", []string{"10.66.0.0/16", "10.66.0.0/20", taken}, []string{"--subnet", "10.66.0.0/16"}},
		{"the underlay", []string{"10.99.0.0/25", "10.99.0.0/24", "eth0"}, []string{"--subnet", "10.99.0.0/25"}},
		{"unknown option", []string{"weft.colour", "weft.block", "weft.mtu", "weft.network"}, []string{"-o", "weft.colour=blue"}},
		{"MTU of a dwarf", []string{"weft.mtu", "12"}, []string{"-o", "weft.mtu=12"}},
		{"MTU that is no number", []string{"weft.mtu", "big"}, []string{"-o", "weft.mtu=big"}},
		{"multicast neither true nor false", []string{"weft.multicast", "maybe"}, []string{"-o", "weft.multicast=maybe"}},
		{"block that is no prefix length", []string{"weft.block", "large"}, []string{"--subnet", "10.67.0.0/24", "-o", "weft.block=large"}},
		{"block larger than the subnet", []string{"/16", "10.67.1.0/24"}, []string{"--subnet", "10.67.1.0/24", "-o", "weft.block=/16"}},
		{"VNI beyond 24 bits", []string{"weft.vni", "16777216"}, []string{"-o", "weft.vni=16777216"}},
		{"too small", []string{"10.67.2.0/31"}, []string{"--subnet", "10.67.2.0/31"}},
		{"gateway outside", []string{"10.68.0.1"}, []string{"--subnet", "10.67.3.0/24", "--gateway", "10.68.0.1"}},
		{"multicast subnet", []string{"224.0.0.0/24"}, []string{"--subnet", "224.0.0.0/24"}},
		{"two IPv4 subnets", []string{"one IPv4", "10.67.4.0/24", "10.67.5.0/24", "docker network connect"}, []string{"--subnet", "10.67.4.0/24", "--subnet", "10.67.5.0/24"}},
		{"two IPv6 subnets", []string{"one IPv6", "fd67:67:1::/64", "fd67:67:2::/64"}, []string{"--ipv6", "--subnet", "10.67.6.0/24", "--subnet", "fd67:67:1::/64", "--subnet", "fd67:67:2::/64"}},
		{"the mark of a replica", []string{"weft.replica=1", "set by the agent", "leave the option out"}, []string{"-o", "weft.replica=1"}},
		{"unknown IPAM option", []string{"weft.colour"}, []string{"--ipam-opt", "weft.colour=blue"}},
	} {
		t.Run(c.story, func(t *testing.T) {
			sub := &scene{rig: s.rig, t: t, prefix: s.prefix, boxes: s.boxes, networks: map[int][]string{}}
			sub.refused(two, c.words, sub.create(two, "bad", c.args...)...)
		})
	}
	s.refused(two, []string{"--ipam-driver"}, "network", "create", "-d", lab.PluginName, s.name("bad"))

	must(t, s.noneLeft(t.Context(), s.name("bad")))
	report, err := s.report(t.Context(), two)
	must(t, err)
	for _, n := range report.Networks {
		for _, sub := range n.Subnets {
			if netip.MustParsePrefix("10.67.0.0/16").Overlaps(sub.Prefix) || netip.MustParsePrefix("fd67:67::/32").Overlaps(sub.Prefix) {
				t.Errorf("a refused network left subnet %s behind", sub.Prefix)
			}
		}
	}
	// The subnets are still free for a correct request.
	s.network(two, "good", "--ipv6", "--subnet", "10.67.0.0/16", "--subnet", "fd67:67::/32")
}

// TestIntegrationNetworkInUseStays: Docker refuses, and nothing happened.
func TestIntegrationNetworkInUseStays(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "used")
	boxes := s.runOnAll(name, "box")
	s.refused(s.lab.Host(1), []string{"active endpoints"}, "network", "rm", name)
	s.matrix(boxes...)
}

// steady is what must not change while somebody sends garbage.
type steady struct {
	Agents   []int
	Networks []string
	Hosts    []string
}

func (s *scene) steady(ctx context.Context, network string) (steady, error) {
	var out steady
	for _, h := range s.members() {
		pid, err := h.Agent(ctx)
		if err != nil {
			return out, err
		}
		report, err := s.report(ctx, h)
		if err != nil {
			return out, err
		}
		out.Agents = append(out.Agents, pid)
		n, _ := find(report, network)
		out.Networks = append(out.Networks, told(n))
		for _, k := range report.Hosts {
			out.Hosts = append(out.Hosts, k.Name+" "+k.State)
		}
	}
	return out, nil
}

// told is all of a network that every member must agree on, as text.
func told(n api.Network) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s vni %d", n.Name, n.VNI)
	for _, sub := range n.Subnets {
		fmt.Fprintf(&b, "; subnet %s gateway %s", sub.Prefix, sub.Gateway)
		for _, k := range sub.Blocks {
			fmt.Fprintf(&b, ", block %s of %s", k.Prefix, k.Owner)
		}
		for _, c := range sub.Claims {
			fmt.Fprintf(&b, ", %s of %s", c.Addr, c.Owner)
		}
	}
	for _, e := range n.Endpoints {
		fmt.Fprintf(&b, "; endpoint %s %s at %s", e.V4, e.MAC, e.Host)
	}
	return b.String()
}

// TestIntegrationGarbageChangesNothing, on the plugin's socket and on the port
// that the agents share.
func TestIntegrationGarbageChangesNothing(t *testing.T) {
	s := onMembersAlone(t)
	name := s.network(s.lab.Host(1), "steady")
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	s.seen(name, func(_ *api.Report, n api.Network) error {
		if len(n.Endpoints) != len(boxes) {
			return fmt.Errorf("it sees %d endpoints", len(n.Endpoints))
		}
		return nil
	})
	before, err := s.steady(t.Context(), name)
	must(t, err)

	s.pesterSocket(s.lab.Host(1))
	s.pesterPort(s.lab.Host(2), s.lab.Host(1))

	after, err := s.steady(t.Context(), name)
	must(t, err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("garbage changed something (-before +after):\n%s", diff)
	}
	s.matrix(append(boxes, s.run(s.lab.Host(1), name, "late"))...)
}

// pesterSocket sends an agent malformed requests at the plugin's socket. Every answer must be an error.
func (s *scene) pesterSocket(h *lab.Host) {
	s.t.Helper()
	socket, done, err := s.socket(s.t.Context(), h)
	must(s.t, err)
	defer done()
	for _, request := range []string{
		"POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n[[[[",
		"POST /NetworkDriver.CreateEndpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"NetworkID\":7",
		"POST /IpamDriver.RequestAddress HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{\"PoolID\":\"nonsense\"",
		"POST /IpamDriver.RequestPool HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST /NetworkDriver.Nonsense HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x00\x01\x02\r\n\r\n",
		rand.Text() + strings.Repeat("x", 1<<16) + "\r\n\r\n",
	} {
		conn, err := net.Dial("unix", socket)
		must(s.t, err)
		must(s.t, conn.SetDeadline(time.Now().Add(answerWithin)))
		if _, err := conn.Write([]byte(request)); err == nil {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil && resp.StatusCode == http.StatusOK {
				s.t.Errorf("%.60q was answered %s", request, resp.Status)
			}
		}
		conn.Close()
	}
}

// socket is a path to the plugin's socket, until done is called. It goes by way of a
// descriptor: the whole path is longer than a socket's may be.
func (r *rig) socket(ctx context.Context, h *lab.Host) (path string, done func(), err error) {
	root, err := h.Root()
	if err != nil {
		return "", nil, err
	}
	id, err := h.Docker(ctx, "plugin", "inspect", "-f", "{{.Id}}", lab.PluginName)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.Open(filepath.Join(root, "run/docker/plugins", id))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/weft.sock", dir.Fd()), func() { dir.Close() }, nil
}

// pesterPort sends an agent garbage from another host: whole and truncated frames of no protocol, over
// TCP and UDP.
func (s *scene) pesterPort(from, to *lab.Host) {
	s.t.Helper()
	addr := netip.AddrPortFrom(to.Addr4(), 7950).String()
	for size := 1; size <= 1<<15; size *= 8 {
		noise := make([]byte, size)
		for first := range 8 {
			if _, err := rand.Read(noise); err != nil {
				s.t.Fatal(err)
			}
			noise[0] = byte(first)
			for _, network := range []string{"udp", "tcp"} {
				conn, err := from.Dial(s.t.Context(), network, addr)
				must(s.t, err)
				_, _ = conn.Write(noise) // it may have been hung up on
				conn.Close()
			}
		}
	}
}
