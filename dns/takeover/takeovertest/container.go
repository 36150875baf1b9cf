// Package takeovertest makes network namespaces like those of containers, with a DNS server in
// the place of Docker's resolver, for tests that run as root.
package takeovertest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netns"
)

// Address is where clients in a container ask.
const Address = "127.0.0.11:53"

// Rules is how dockerd leads queries to 127.0.0.11:53 to the ports of its resolver.
type Rules string

// As Docker 29 with its nftables backend does, and all of them with the two variants of iptables.
const (
	NFTables       Rules = "nft"
	IPTablesNFT    Rules = "iptables-nft"
	IPTablesLegacy Rules = "iptables-legacy"
)

// Container is a namespace in which Docker's resolver answers at 127.0.0.11:53.
type Container struct {
	NS     *netns.Namespace
	Docker *Server
	rules  Rules
}

// New makes a Container, which ends with the test. It skips the test where it is not root's,
// or the program that writes the rules is missing.
func New(t testing.TB, rules Rules, docker Answer) *Container {
	t.Helper()
	return Start(t, NewNamespace(t), rules, docker)
}

// NewNamespace makes a namespace as it is before dockerd sets its loopback device up.
func NewNamespace(t testing.TB) *netns.Namespace {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// Start makes a Container of a new namespace.
func Start(t testing.TB, ns *netns.Namespace, rules Rules, docker Answer) *Container {
	t.Helper()
	if _, err := exec.LookPath(string(rules)); err != nil {
		t.Skipf("Docker's rules are written by %s: %v", rules, err)
	}
	c := &Container{NS: ns, rules: rules}
	c.Do(t, loopbackUp)
	c.StartDocker(t, docker)
	return c
}

// StartDocker starts Docker's resolver, at new ports if it ran already, as a dockerd does that
// starts again while containers run.
func (c *Container) StartDocker(t testing.TB, answer Answer) {
	t.Helper()
	if c.Docker != nil {
		c.Docker.Close()
	}
	c.Docker = Serve(t, c.NS, answer)
	c.Do(t, func() error { return c.write(t.Context(), c.Docker.UDP, c.Docker.TCP) })
}

func (c *Container) write(ctx context.Context, udp, tcp uint16) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(nftables, udp, tcp, udp, tcp))
	if c.rules != NFTables {
		cmd = exec.CommandContext(ctx, string(c.rules)+"-restore")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(iptables, udp, tcp, udp, tcp))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}

// nftables is what Docker 29 writes, with another name for the table each time it starts: it
// deletes the one that is there.
const nftables = `table ip docker-dns
delete table ip docker-dns
table ip docker-dns {
  chain nat-output {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:%d
    ip daddr 127.0.0.11 tcp dport 53 counter dnat to 127.0.0.11:%d
  }
  chain nat-postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 127.0.0.11 udp sport %d counter snat to 127.0.0.11:53
    ip saddr 127.0.0.11 tcp sport %d counter snat to 127.0.0.11:53
  }
}
`

// iptables is what dockerd 20.10 to 29 write.
const iptables = `*nat
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:%d
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:%d
-A DOCKER_POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport %d -j SNAT --to-source :53
-A DOCKER_POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport %d -j SNAT --to-source :53
COMMIT
`

// Do runs fn in the container.
func (c *Container) Do(t testing.TB, fn func() error) {
	t.Helper()
	if err := c.NS.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// Run runs a program in the container and returns what it prints.
func (c *Container) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out []byte
	c.Do(t, func() (err error) {
		out, err = exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		return err
	})
	return string(out)
}

// Dial opens a connected socket to 127.0.0.11:53 in the container, marked if mark is not 0.
func (c *Container) Dial(t testing.TB, network string, mark int) net.Conn {
	t.Helper()
	dialer := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if mark == 0 {
			return nil
		}
		return errFirst(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
		}), &err)
	}}
	var conn net.Conn
	c.Do(t, func() (err error) {
		conn, err = dialer.DialContext(t.Context(), network, Address)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// errFirst is one error, or the other, which is read afterwards.
func errFirst(err error, other *error) error {
	if err != nil {
		return err
	}
	return *other
}

// Unconnected opens a UDP socket in the container whose packets name their destination, as
// many resolvers use them. Reads fail unless the packet is from 127.0.0.11:53.
func (c *Container) Unconnected(t testing.TB) net.Conn {
	t.Helper()
	var conn net.PacketConn
	c.Do(t, func() (err error) {
		conn, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", ":0")
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return unconnected{conn.(*net.UDPConn)} //nolint:errcheck // of ListenPacket for udp4
}

type unconnected struct{ *net.UDPConn }

func (u unconnected) Write(b []byte) (int, error) {
	return u.WriteToUDPAddrPort(b, netip.MustParseAddrPort(Address))
}

func (u unconnected) Read(b []byte) (int, error) {
	n, from, err := u.ReadFromUDPAddrPort(b)
	if err == nil && from.String() != Address {
		return 0, fmt.Errorf("a packet from %s, not %s", from, Address)
	}
	return n, err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // has no data
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
