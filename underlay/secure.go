package underlay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/secret"
)

// A host with a secret (Config.Keys) lets no byte of a stream to any package before the other end has shown one of its secrets.
// The first byte tells TLS from the preface of a host without one, which is told why its stream ends.

// Answers to a stream of which one end only has a secret. No package's answer, and no record of TLS, begins like these.
var (
	needsSecret = [prefaceLen]byte{'W', 0xf7, 0, 's'}      // to a stream without TLS
	hasNoSecret = [recordHead]byte{'W', 0xf7, 0, 'n', '.'} // to one with it
)

// recordHead is the length of what begins a record of TLS.
const recordHead = 5

// How long, and for how many bytes, a host without a secret may go on before its stream ends.
const (
	readsAnswer  = time.Second
	maxDiscarded = 64 << 10
)

// tlsRecord is the first byte of a TLS handshake (RFC 8446, 5.1).
const tlsRecord = 0x16

// errRedials is no refusal.
var errRedials = errors.New("has a secret, and understands hosts without one: it opens another stream")

// answerHello answers a host with a secret at one without: the TLS record that begins like this is then a hello that names the
// protocol. It returns nil for anybody else.
func answerHello(g *pendingConn, head preface) error {
	if head[0] != tlsRecord || head[1] != 3 {
		return nil
	}
	rest := func(n int) []byte { // what has come of them
		b := make([]byte, n)
		read, _ := io.ReadFull(g.Conn, b)
		return b[:read]
	}
	length := rest(1) // the byte before it has been read
	if len(length) == 0 {
		return nil
	}
	hello := rest(min(int(head[3])<<8|int(length[0]), maxHello))
	if !bytes.Contains(hello, []byte(secret.Protocol)) {
		return nil
	}
	_, _ = g.Conn.Write(hasNoSecret[:]) // else it just ends
	if bytes.Contains(hello, []byte(secret.Lenient)) {
		return errRedials
	}
	return errNoneHere("it")
}

// maxHello is how much of a hello is looked at.
const maxHello = 8 << 10

// errNoneHere is told at both ends of a stream between a host with a secret and one without.
func errNoneHere(theirs string) error {
	return &secret.MismatchError{Text: theirs + " has a secret (WEFT_SECRET) and the other none; set the same one on both"}
}

// secure finds out who opened a stream, within prefaceWait. It changes nothing if this host has no secret.
func (p *Port) secure(g *pendingConn) error {
	if p.keys == nil {
		return nil
	}
	deadline := time.Now().Add(prefaceWait)
	_ = g.SetDeadline(deadline) // a read reports it
	var first [1]byte
	if _, err := io.ReadFull(g.Conn, first[:]); err != nil {
		return fmt.Errorf("ended before its first byte: %w", err)
	}
	begun := &begunConn{Conn: g.Conn, head: first[:], left: maxHandshake}
	if first[0] != tlsRecord {
		if first[0] != needsSecret[0] {
			return fmt.Errorf("begins with %#x, which no Weft agent sends", first[0])
		}
		if !p.keys.AcceptsNone() {
			if _, err := g.Conn.Write(needsSecret[:]); err == nil {
				_ = g.SetDeadline(time.Now().Add(readsAnswer))
				_, _ = io.CopyN(io.Discard, g.Conn, maxDiscarded) // closed with bytes unread, it could end before the answer is read
			}
			return errNoneHere("this host")
		}
		return p.secured(g, begun, begun)
	}
	ctx, cancel := context.WithDeadline(p.ctx, deadline)
	defer cancel()
	conn, err := p.keys.Server(ctx, begun)
	if err != nil {
		return err
	}
	return p.secured(g, begun, conn)
}

// secured has a stream go on over what was made of its connection.
func (p *Port) secured(g *pendingConn, begun *begunConn, over net.Conn) error {
	begun.left = unlimited
	g.secured.Store(&stream{over})
	return g.SetDeadline(time.Time{})
}

// connect opens a stream to another host, which shows one of this host's secrets if it has any.
func (p *Port) connect(ctx context.Context, to netip.AddrPort, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	refused := func(err error) { p.strangers.add(to.Addr(), err) }
	if p.keys == nil {
		return &plainConn{Conn: conn, refused: refused}, nil
	}
	begun := &begunConn{Conn: conn, left: maxHandshake}
	secured, err := p.keys.Client(ctx, begun, to)
	if err == nil {
		begun.left = unlimited
		p.strangers.forget(to.Addr())
		return secured, nil
	}
	_ = conn.Close()
	if said, is := errors.AsType[tls.RecordHeaderError](err); is && said.RecordHeader == hasNoSecret {
		if p.keys.AcceptsNone() {
			return p.connectPlain(ctx, to, dial)
		}
		err = errNoneHere("this host")
	}
	if _, is := errors.AsType[*secret.MismatchError](err); is {
		refused(err)
	}
	return nil, err
}

// connectPlain opens a stream to a host without a secret, which reads no sealed datagrams either.
func (p *Port) connectPlain(ctx context.Context, to netip.AddrPort, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	p.keys.Unsealed(to)
	p.strangers.forget(to.Addr())
	return &plainConn{Conn: conn, refused: func(err error) { p.strangers.add(to.Addr(), err) }}, nil
}

// maxHandshake is how many bytes may come before it is known who sends them; hosts send some two thousand.
const (
	maxHandshake = 32 << 10
	unlimited    = -1
)

// begunConn is a connection of which the first bytes have been read. Left bounds the others until it is unlimited.
type begunConn struct {
	net.Conn
	head []byte
	left int
}

// Read implements net.Conn.
func (c *begunConn) Read(b []byte) (int, error) {
	switch {
	case len(c.head) > 0:
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	case c.left == unlimited:
		return c.Conn.Read(b)
	case c.left == 0:
		return 0, fmt.Errorf("a handshake of more than %d bytes, which no Weft agent sends", maxHandshake)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// plainConn is a stream without TLS that this host opened. It understands needsSecret.
type plainConn struct {
	net.Conn
	refused func(error)
	read    bool
}

// Read implements net.Conn.
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.read || n == 0 {
		return n, err
	}
	c.read = true
	if b[0] != needsSecret[0] {
		return n, err
	}
	said := bytes.Clone(b[:min(n, prefaceLen)])
	rest := make([]byte, prefaceLen-len(said))
	if _, err := io.ReadFull(c.Conn, rest); err == nil && bytes.Equal(append(said, rest...), needsSecret[:]) {
		err := errNoneHere("it")
		c.refused(err)
		return 0, err
	}
	return 0, errors.New("it sends what no Weft agent does")
}

// strangers are the hosts that do not have this one's secret, for a while after their last try. Safe for concurrent use.
type strangers struct {
	mu    sync.Mutex
	hosts map[netip.Addr]stranger
}

type stranger struct {
	why  string
	last time.Time
}

const (
	maxStrangers = 64
	strangeFor   = 10 * time.Minute // a host that wants in tries several times a minute
)

func (s *strangers) add(peer netip.Addr, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.hosts, func(_ netip.Addr, one stranger) bool { return now.Sub(one.last) > strangeFor })
	if _, known := s.hosts[peer]; known || len(s.hosts) < maxStrangers {
		s.hosts[peer] = stranger{why.Error(), now}
	}
}

// forget drops a host that has been understood since.
func (s *strangers) forget(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hosts, peer)
}

// Strangers says which hosts were refused in the last ten minutes because they and this one have no secret in common, in the order
// of their addresses.
func (p *Port) Strangers() (out []string) {
	p.strangers.mu.Lock()
	defer p.strangers.mu.Unlock()
	for _, peer := range slices.SortedFunc(maps.Keys(p.strangers.hosts), netip.Addr.Compare) {
		if one := p.strangers.hosts[peer]; time.Since(one.last) < strangeFor {
			out = append(out, fmt.Sprintf("the host at %s is refused: %s", peer, one.why))
		}
	}
	return out
}
