package underlay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weftnet/weft/turn"
)

// Limits of pending connections.
const (
	maxSilent = 256                    // pending streams
	minSilent = 200 * time.Millisecond // a stream may be silent for this long, even if others wait
	lookAgain = 5 * time.Millisecond   // pause of streams that wait for a place
)

// pendingConns holds the accepted streams that have not sent all that they must: their
// preface, then a request, or the first bytes for the package that serves their kind. A
// stream may stay pending for a while. When there are too many, a new stream takes the
// place of the one that has been silent for longest, among those of the source that has
// the most. So silent streams keep no others out, and one source cannot crowd out the
// others. Safe for concurrent use.
type pendingConns struct {
	mu    sync.Mutex
	conns streams
}

// pendingConn is one of pendingConns. It stops being pending when its package reads the
// first bytes, or when it is closed.
type pendingConn struct {
	net.Conn                        // the socket
	secured  atomic.Pointer[stream] // on it, once it is known who is at the other end; nil if this host has no secret
	pending  *pendingConns
	from     netip.Prefix
	since    time.Time
	sent     chan struct{} // closed when it had to make place
	among    *openStreams  // once it was handed over
	once     sync.Once     // for leave
}

// stream is a net.Conn of its own type, for an atomic pointer.
type stream struct{ net.Conn }

// over is the stream on the socket.
func (g *pendingConn) over() net.Conn {
	if s := g.secured.Load(); s != nil {
		return s.Conn
	}
	return g.Conn
}

// enter makes a stream pending. It waits while all places are taken by streams that came
// just now, and returns nil if ctx ends.
func (l *pendingConns) enter(ctx context.Context, conn net.Conn) *pendingConn {
	g := &pendingConn{Conn: conn, pending: l, from: sourceOf(conn), since: time.Now(), sent: make(chan struct{})}
	for {
		wait := l.admit(g)
		if wait <= 0 {
			return g
		}
		if !turn.Sleep(ctx, min(wait, lookAgain)) { // a stream that sends something makes place at once
			return nil
		}
	}
}

// admit makes g pending, or returns how long the caller has to wait before the next try.
func (l *pendingConns) admit(g *pendingConn) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= maxSilent {
		goes := l.crowd()
		if goes == nil {
			return lookAgain
		}
		if wait = minSilent - time.Since(goes.since); wait > 0 {
			return wait
		}
		l.conns.remove(goes)
		close(goes.sent)
		_ = goes.Conn.Close()
	}
	g.since = time.Now()
	l.conns = append(l.conns, g)
	return 0
}

// crowd is the oldest stream of the source that has the most, among those without bytes
// that this host has yet to read; nil if all have some. The caller holds mu.
func (l *pendingConns) crowd() *pendingConn {
	count, most := l.conns.bySource()
	for _, g := range l.conns {
		if count[g.from] == most && !unread(g.Conn) {
			return g
		}
	}
	return nil
}

// unread reports whether a stream has received bytes that nobody has read yet.
func unread(conn net.Conn) (some bool) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) { // else it is closed
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		some = err == nil && n > 0
	})
	return some
}

// leave makes the stream pending no more.
func (g *pendingConn) leave() {
	g.once.Do(func() {
		g.pending.mu.Lock()
		defer g.pending.mu.Unlock()
		g.pending.conns.remove(g)
	})
}

// why adds to an error of the stream that it had to make place, for the log.
func (g *pendingConn) why(err error) error {
	select {
	case <-g.sent:
		return fmt.Errorf("silent for %s, and others wait: %w", time.Since(g.since).Round(time.Millisecond), err)
	default:
		return err
	}
}

// Read implements net.Conn, for the package that serves the kind of the stream.
func (g *pendingConn) Read(b []byte) (int, error) {
	n, err := g.over().Read(b)
	if n > 0 {
		g.leave()
	}
	return n, err
}

// Write implements net.Conn.
func (g *pendingConn) Write(b []byte) (int, error) { return g.over().Write(b) }

// Close implements net.Conn.
func (g *pendingConn) Close() error {
	g.leave()
	if g.among != nil {
		g.among.leave(g)
	}
	return g.over().Close()
}

// sourceOf is where a stream comes from: an IPv4 address, or a /64 of IPv6, as a machine
// can use any address of its /64.
func sourceOf(conn net.Conn) netip.Prefix {
	addr := addrPort(conn.RemoteAddr()).Addr().Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // none of an address that is none
	return p
}
