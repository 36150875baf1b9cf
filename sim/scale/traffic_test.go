package scale_test

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/weftnet/weft/underlay"
)

// traffic is what one host has sent: bytes without the headers of IP, UDP and TCP.
type traffic struct{ datagrams, bytes, dials atomic.Uint64 }

func datagrams(t *traffic) *atomic.Uint64 { return &t.datagrams }
func bytes(t *traffic) *atomic.Uint64     { return &t.bytes }
func dials(t *traffic) *atomic.Uint64     { return &t.dials }

// counted is a host's network stack that counts what the host sends.
type counted struct {
	underlay.Network
	to *traffic
}

// Listen implements underlay.Network.
func (c counted) Listen(at netip.AddrPort) (net.Listener, error) {
	l, err := c.Network.Listen(at)
	return countedListener{l, c.to}, err
}

// ListenPacket implements underlay.Network.
func (c counted) ListenPacket(at netip.AddrPort) (underlay.PacketConn, error) {
	p, err := c.Network.ListenPacket(at)
	return countedPackets{p, c.to}, err
}

// Dial implements underlay.Network.
func (c counted) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	c.to.dials.Add(1)
	conn, err := c.Network.Dial(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return countedConn{conn, c.to}, nil
}

type countedListener struct {
	net.Listener
	to *traffic
}

// Accept implements net.Listener.
func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{conn, l.to}, nil
}

type countedConn struct {
	net.Conn
	to *traffic
}

// Write implements net.Conn.
func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.to.bytes.Add(uint64(n))
	return n, err
}

type countedPackets struct {
	underlay.PacketConn
	to *traffic
}

// WriteTo implements underlay.PacketConn.
func (p countedPackets) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	n, err := p.PacketConn.WriteTo(b, to)
	p.to.bytes.Add(uint64(n))
	p.to.datagrams.Add(1)
	return n, err
}
