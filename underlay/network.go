package underlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Network is what this package needs of a network stack. Implementations are safe
// for concurrent use.
type Network interface {
	// Listen accepts streams at an address; port 0 picks a free one.
	Listen(at netip.AddrPort) (net.Listener, error)
	// ListenPacket receives datagrams at an address, and sends them from another one of this host (unspecified, or one
	// that the host has no more: any).
	ListenPacket(at netip.AddrPort, from netip.Addr) (PacketConn, error)
	// Dial opens a stream from an address of this host (unspecified, or one that the host
	// has no more: any) and gives up when ctx ends.
	Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
}

// PacketConn is a datagram socket that speaks netip.
type PacketConn interface {
	ReadFrom(b []byte) (int, netip.AddrPort, error)
	WriteTo(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() netip.AddrPort
	Close() error
}

// System is the kernel's own network stack, in the network namespace of the
// calling thread.
func System() Network { return system{} }

// receiveBuffer is the requested size of the datagram socket's buffer, in bytes: a burst of
// facts from a thousand hosts must fit while the agent is not scheduled.
const receiveBuffer = 4 << 20

type system struct{}

func (system) Listen(at netip.AddrPort) (net.Listener, error) {
	network := "tcp"
	if at.Addr().Unmap().Is4() {
		network = "tcp4" // "tcp" would make 0.0.0.0 a dual-stack socket
	}
	return net.Listen(network, at.String())
}

func (system) ListenPacket(at netip.AddrPort, from netip.Addr) (PacketConn, error) {
	network := "udp"
	if at.Addr().Unmap().Is4() {
		network = "udp4"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	enlarge(conn)
	return systemPackets{conn, sentFrom(at.Addr(), from)}, nil
}

// sentFrom is the control message by which a socket that listens at an address sends from another one (ip(7), ipv6(7)).
func sentFrom(at, from netip.Addr) []byte {
	switch {
	case !from.IsValid() || from.IsUnspecified() || from.Is4() != at.Unmap().Is4():
		return nil
	case from.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
}

func (system) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var dialer net.Dialer
	if from.IsValid() && !from.IsUnspecified() && from.Is4() == to.Addr().Is4() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if errors.Is(err, syscall.EADDRNOTAVAIL) && dialer.LocalAddr != nil { // the host has that address no more
		return new(net.Dialer).DialContext(ctx, "tcp", to.String())
	}
	return conn, err
}

// maxSegment is the most that Linux takes as TCP_MAXSEG (net/ipv4/tcp.c).
const maxSegment = 32767

// sized returns what opens streams of the system from an address of this host that send packets of a
// size at most, in bytes, and no larger ones than the path is known to carry.
func sized(from netip.Addr, to netip.AddrPort, size int) func(context.Context) (net.Conn, error) {
	segment := size - 20 - 20 // what the headers of IP and TCP leave
	if to.Addr().Unmap().Is6() {
		segment = size - 40 - 20
	}
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, min(segment, maxSegment))
		})
		return errors.Join(err, set)
	}}
	return func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", to.String()) }
}

// enlarge sets the receive buffer beyond net.core.rmem_max if the process may (CAP_NET_ADMIN),
// otherwise as far as the kernel allows. Failing to is no error.
func enlarge(conn *net.UDPConn) {
	_ = conn.SetReadBuffer(receiveBuffer)
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, receiveBuffer)
	})
}

type systemPackets struct {
	*net.UDPConn
	from []byte // a control message; nil: the kernel chooses
}

func (p systemPackets) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	n, from, err := p.ReadFromUDPAddrPort(b)
	return n, plain(from), err
}

func (p systemPackets) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	n, _, err := p.WriteMsgUDPAddrPort(b, p.from, to)
	if err != nil && p.from != nil { // as when the host has that address no more
		return p.WriteToUDPAddrPort(b, to)
	}
	return n, err
}

func (p systemPackets) LocalAddr() netip.AddrPort {
	return addrPort(p.UDPConn.LocalAddr())
}

// plain removes the IPv4-in-IPv6 form that dual-stack sockets report.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// addrPort reads a net.Addr of TCP or UDP; zero if it is something else.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return plain(a.AddrPort())
	case *net.UDPAddr:
		return plain(a.AddrPort())
	case nil:
		return netip.AddrPort{}
	}
	got, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return plain(got)
}

// portTries is how often bind looks for a port that is free for both TCP and UDP, if the caller
// left the choice to it.
const portTries = 16

// bind opens both sockets on one port number.
func bind(network Network, at netip.AddrPort, from netip.Addr) (net.Listener, PacketConn, error) {
	var last error
	for range portTries {
		listener, err := network.Listen(at)
		if err != nil {
			return nil, nil, bindError("TCP", at, err)
		}
		chosen := netip.AddrPortFrom(at.Addr(), addrPort(listener.Addr()).Port())
		packets, err := network.ListenPacket(chosen, from)
		if err == nil {
			return listener, packets, nil
		}
		last = errors.Join(bindError("UDP", chosen, err), listener.Close())
		if at.Port() != 0 {
			break
		}
	}
	return nil, nil, last
}

func bindError(protocol string, at netip.AddrPort, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("underlay: %s port %d on %s is taken by another process; stop it or set WEFT_PORT: %w", protocol, at.Port(), at.Addr(), err)
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("underlay: %s is not an address of this host; set WEFT_ADVERTISE: %w", at.Addr(), err)
	}
	return fmt.Errorf("underlay: cannot listen on %s %s: %w", protocol, at, err)
}
