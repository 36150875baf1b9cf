package lossy

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/weftnet/weft/turn"
	"github.com/weftnet/weft/underlay"
)

// Host is one host's network stack; it implements underlay.Network.
type Host struct {
	net  *Net
	addr netip.Addr

	// Under net.mu:
	powered   bool
	packets   map[uint16]*socket
	listeners map[uint16]*listener
	nextPort  uint16
}

// Addr is the host's only address.
func (h *Host) Addr() netip.Addr { return h.addr }

// Crash is the end of the host's process: its sockets close and the other ends
// of its streams see resets. The host can be used again at once.
func (h *Host) Crash() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.closeSockets()
	for c := range h.net.conns {
		if c.ends[0].host == h || c.ends[1].host == h {
			c.reset(syscall.ECONNRESET)
		}
	}
}

// PowerOff stops the host without a word: nobody hears of it, and its own
// process, if the test still runs it, reaches nobody.
func (h *Host) PowerOff() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.powered = false
	h.closeSockets()
	h.net.watchCuts()
}

// PowerOn brings a host back with no memory of its streams: they break at both
// ends, as the first segment that reaches it is answered by a reset.
func (h *Host) PowerOn() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.powered = true
	for c := range h.net.conns {
		if c.ends[0].host == h || c.ends[1].host == h {
			c.reset(syscall.ECONNRESET)
		}
	}
}

func (h *Host) closeSockets() {
	for port, s := range h.packets {
		s.shut()
		delete(h.packets, port)
	}
	for port, l := range h.listeners {
		l.shut()
		delete(h.listeners, port)
	}
}

// port picks a port that taken does not know. Under net.mu.
func (h *Host) port(want uint16, taken func(uint16) bool) (uint16, error) {
	if want != 0 {
		if taken(want) {
			return 0, os.NewSyscallError("bind", syscall.EADDRINUSE)
		}
		return want, nil
	}
	for range 1 << 15 {
		h.nextPort = max(h.nextPort+1, 32768)
		if !taken(h.nextPort) {
			return h.nextPort, nil
		}
	}
	return 0, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
}

func (h *Host) owns(a netip.Addr) error {
	if a.IsUnspecified() || a == h.addr {
		return nil
	}
	return os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
}

// Listen implements underlay.Network.
func (h *Host) Listen(at netip.AddrPort) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if err := h.owns(at.Addr()); err != nil {
		return nil, err
	}
	port, err := h.port(at.Port(), func(p uint16) bool { return h.listeners[p] != nil })
	if err != nil {
		return nil, err
	}
	l := &listener{host: h, port: port, waiting: make(chan *conn, backlog), done: make(chan struct{})}
	h.listeners[port] = l
	return l, nil
}

// ListenPacket implements underlay.Network.
func (h *Host) ListenPacket(at netip.AddrPort, _ netip.Addr) (underlay.PacketConn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if err := h.owns(at.Addr()); err != nil {
		return nil, err
	}
	port, err := h.port(at.Port(), func(p uint16) bool { return h.packets[p] != nil })
	if err != nil {
		return nil, err
	}
	s := &socket{host: h, port: port, queue: make(chan datagram, recvQueue), done: make(chan struct{})}
	h.packets[port] = s
	return s, nil
}

// Dial implements underlay.Network.
func (h *Host) Dial(ctx context.Context, _ netip.Addr, to netip.AddrPort) (net.Conn, error) {
	h.net.mu.Lock()
	h.net.stats.Dials++
	h.net.mu.Unlock()
	for {
		c, wait, err := h.syn(to)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
		}
		if !turn.Sleep(ctx, wait) {
			if c != nil {
				_ = c.Close()
			}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: ctx.Err()}
		}
		if c != nil {
			return c, nil
		}
	}
}

// syn tries to connect once: a connection and its round trip, or the time until
// the next try, or the answer that nobody listens.
func (h *Host) syn(to netip.AddrPort) (*conn, time.Duration, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	lost, _, there, _ := n.draw(h.addr, to.Addr())
	lostBack, _, back, _ := n.draw(to.Addr(), h.addr)
	if lost || lostBack || !n.passes(h.addr, to.Addr()) || !n.passes(to.Addr(), h.addr) {
		return nil, retransmit, nil
	}
	l := n.hosts[to.Addr()].listeners[to.Port()]
	if l == nil || len(l.waiting) == cap(l.waiting) {
		n.stats.Refused++
		return nil, 0, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	port, err := h.port(0, func(uint16) bool { return false })
	if err != nil {
		return nil, 0, err
	}
	p := newPair(n, h, netip.AddrPortFrom(h.addr, port), l.host, to)
	l.waiting <- p.ends[1] // has space: checked above, and only this adds
	return p.ends[0], there + back, nil
}

// listener implements net.Listener.
type listener struct {
	host    *Host
	port    uint16
	waiting chan *conn
	done    chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	n := l.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.host.listeners[l.port] == l {
		delete(l.host.listeners, l.port)
		l.shut()
	}
	return nil
}

// shut refuses what waits. Under net.mu.
func (l *listener) shut() {
	close(l.done)
	for {
		select {
		case c := <-l.waiting:
			c.pair.reset(syscall.ECONNRESET)
		default:
			return
		}
	}
}

func (l *listener) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.host.addr, l.port))
}
