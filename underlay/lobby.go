package underlay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/weftnet/weft/turn"
)

// Limits of the lobby.
const (
	maxSilent = 256                    // streams that have not said yet what they want
	minSilent = 200 * time.Millisecond // so long everybody may be silent, whoever waits outside
	lookAgain = 5 * time.Millisecond   // for who waits outside
)

// lobby holds the streams that came in and have not said all that they must: their
// preface, then a request, or to a room its first bytes. Each may stay for a while, but
// when there are too many, whoever comes takes the place of the one that has been silent
// for longest, of those from the address that has the most. So silent ones keep out
// nobody who speaks, nor can one address crowd out the others. Safe for concurrent use.
type lobby struct {
	mu     sync.Mutex
	guests []*guest // in the order in which they came
}

// guest is a stream in the lobby. It leaves it with its first bytes for a room, or at
// its end.
type guest struct {
	net.Conn
	lobby *lobby
	from  netip.Prefix
	since time.Time
	sent  chan struct{} // closed when it was sent away
	among *openStreams  // once it was handed over
	once  sync.Once     // for leave
}

// enter waits, while the lobby is full of those that came just now; nil if ctx ends.
func (l *lobby) enter(ctx context.Context, conn net.Conn) *guest {
	g := &guest{Conn: conn, lobby: l, from: sourceOf(conn), since: time.Now(), sent: make(chan struct{})}
	for {
		wait := l.admit(g)
		if wait <= 0 {
			return g
		}
		if !turn.Sleep(ctx, min(wait, lookAgain)) { // who speaks leaves at once
			return nil
		}
	}
}

// admit takes a guest in, or says how long it has to wait for the next try.
func (l *lobby) admit(g *guest) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.guests) >= maxSilent {
		goes := l.crowd()
		if goes == nil {
			return lookAgain
		}
		if wait = minSilent - time.Since(goes.since); wait > 0 {
			return wait
		}
		l.drop(goes)
		close(goes.sent)
		_ = goes.Conn.Close()
	}
	g.since = time.Now()
	l.guests = append(l.guests, g)
	return 0
}

// crowd is the oldest guest of the address that has the most, of those who have said
// nothing that this host is only late to read; nil if all have. The caller holds mu.
func (l *lobby) crowd() *guest {
	count, most := map[netip.Prefix]int{}, 0
	for _, g := range l.guests {
		count[g.from]++
		most = max(most, count[g.from])
	}
	for _, g := range l.guests {
		if count[g.from] == most && !unread(g.Conn) {
			return g
		}
	}
	return nil
}

// unread reports whether bytes of a stream have come that nobody has read yet.
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

// drop takes a guest out, if it is there. The caller holds mu.
func (l *lobby) drop(g *guest) {
	if i := slices.Index(l.guests, g); i >= 0 {
		l.guests = slices.Delete(l.guests, i, i+1)
	}
}

// leave ends a stream's time in the lobby.
func (g *guest) leave() {
	g.once.Do(func() {
		g.lobby.mu.Lock()
		defer g.lobby.mu.Unlock()
		g.lobby.drop(g)
	})
}

// why is what is wrong with a stream, for the log.
func (g *guest) why(err error) error {
	select {
	case <-g.sent:
		return fmt.Errorf("silent for %s, and others wait: %w", time.Since(g.since).Round(time.Millisecond), err)
	default:
		return err
	}
}

// Read implements net.Conn, for the room that the stream is for.
func (g *guest) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if n > 0 {
		g.leave()
	}
	return n, err
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.leave()
	if g.among != nil {
		g.among.leave(g)
	}
	return g.Conn.Close()
}

// sourceOf is where a stream comes from. In IPv6 whoever has an address has as many as
// he likes of its /64.
func sourceOf(conn net.Conn) netip.Prefix {
	addr := addrPort(conn.RemoteAddr()).Addr().Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // none of an address that is none
	return p
}
