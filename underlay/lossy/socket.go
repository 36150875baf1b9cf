package lossy

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

type datagram struct {
	from netip.AddrPort
	data []byte
}

// socket implements underlay.PacketConn.
type socket struct {
	host  *Host
	port  uint16
	queue chan datagram
	done  chan struct{}
}

func (s *socket) LocalAddr() netip.AddrPort { return netip.AddrPortFrom(s.host.addr, s.port) }

func (s *socket) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-s.queue:
		return copy(b, d.data), d.from, nil
	case <-s.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (s *socket) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	n := s.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.host.packets[s.port] != s {
		return 0, net.ErrClosed
	}
	n.stats.Sent++
	lost, doubled, delay, second := n.draw(s.host.addr, to.Addr())
	switch {
	case !n.passes(s.host.addr, to.Addr()):
		n.stats.Cut++
	case lost:
		n.stats.Lost++
	default:
		d := datagram{s.LocalAddr(), slices.Clone(b)}
		n.deliver(d, to, delay)
		if doubled {
			n.stats.Doubled++
			n.deliver(d, to, second)
		}
	}
	return len(b), nil
}

func (n *Net) deliver(d datagram, to netip.AddrPort, delay time.Duration) {
	time.AfterFunc(delay, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.passes(d.from.Addr(), to.Addr()) {
			n.stats.Cut++
			return
		}
		s := n.hosts[to.Addr()].packets[to.Port()]
		if s == nil {
			n.stats.Lost++
			return
		}
		select {
		case s.queue <- d:
			n.stats.Delivered++
		default:
			n.stats.Overflowed++
		}
	})
}

func (s *socket) Close() error {
	n := s.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.host.packets[s.port] == s {
		delete(s.host.packets, s.port)
		s.shut()
	}
	return nil
}

func (s *socket) shut() { close(s.done) }
