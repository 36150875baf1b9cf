package scale_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/weftnet/weft/underlay"
)

// traffic is what one host has sent: bytes without the headers of IP, UDP and TCP.
type traffic struct {
	datagrams, sent, dials atomic.Uint64
	of                     [kinds]atomic.Uint64 // the bytes, by what they were for
}

// kind is what bytes were for.
type kind int

const (
	compared kind = iota // streams of memberlist: a join, or a comparison of all members
	told                 // its datagrams: who came, who went, probes
	digests              // datagrams that say how far logs are
	others               // facts, requests, raft
	kinds
)

// kindOf tells from how a stream or a datagram begins.
func kindOf(b []byte) kind {
	switch {
	case len(b) < 4:
	case b[0] == 'W' && b[3] == underlay.KindGossip:
		return compared
	case b[0] != 0xf7:
	case b[2] == 'm':
		return told
	case b[2] == 'h', b[2] == 'd':
		return digests
	}
	return others
}

func (t *traffic) add(k kind, n int) {
	t.sent.Add(uint64(n))
	t.of[k].Add(uint64(n))
}

// ofKinds adds up over hosts what bytes were for.
func ofKinds(hosts []*host) (sum [kinds]uint64) {
	for k := range sum {
		sum[k] = count(hosts, func(t *traffic) *atomic.Uint64 { return &t.of[k] })
	}
	return sum
}

func datagrams(t *traffic) *atomic.Uint64 { return &t.datagrams }
func payload(t *traffic) *atomic.Uint64   { return &t.sent }
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
func (c counted) ListenPacket(at netip.AddrPort, from netip.Addr) (underlay.PacketConn, error) {
	p, err := c.Network.ListenPacket(at, from)
	return countedPackets{p, c.to}, err
}

// Dial implements underlay.Network.
func (c counted) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	c.to.dials.Add(1)
	conn, err := c.Network.Dial(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, to: c.to}, nil
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
	return &countedConn{Conn: conn, to: l.to}, nil
}

// countedConn counts one side of a stream. What a stream is for shows in what is written first, on the
// side that dialled, and in what was read until then on the other.
type countedConn struct {
	net.Conn
	to *traffic

	mu    sync.Mutex
	begin []byte
	wrote bool
	is    kind
}

// Read implements net.Conn.
func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wrote && len(c.begin) < 4 {
		c.begin = append(c.begin, b[:n]...)
	}
	return n, err
}

// Write implements net.Conn.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.to.add(c.kind(b), n)
	return n, err
}

func (c *countedConn) kind(written []byte) kind {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wrote {
		c.is, c.wrote = kindOf(append(c.begin, written...)), true
	}
	return c.is
}

type countedPackets struct {
	underlay.PacketConn
	to *traffic
}

// WriteTo implements underlay.PacketConn.
func (p countedPackets) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	n, err := p.PacketConn.WriteTo(b, to)
	p.to.add(kindOf(b), n)
	p.to.datagrams.Add(1)
	return n, err
}
