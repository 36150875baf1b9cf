package underlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/secret"
	"github.com/weftnet/weft/turn"
)

// Limits of the accept side.
const (
	prefaceWait = 5 * time.Second // for the four bytes of the preface
	maxWaiting  = 128             // streams of one kind that wait for Accept
	acceptWait  = 5 * time.Second // for the package that serves the kind to call Accept
	acceptPause = 50 * time.Millisecond
)

// Stream returns the listener for streams of a kind. Until it is closed, later calls return the
// same one. Streams arrive without their preface.
func (p *Port) Stream(kind byte) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.streams[kind]; ok && !s.isShut() {
		return s
	}
	s := &streamListener{addr: p.listener.Addr(), arrive: make(chan net.Conn), done: make(chan struct{}), queue: make(chan struct{}, maxWaiting)}
	if p.closed {
		s.shut()
	}
	p.streams[kind] = s
	return s
}

// Dial opens a stream of a kind to another host's port and sends the preface. Only the first
// answer shows that the other side accepted it.
func (p *Port) Dial(ctx context.Context, kind byte, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	conn, err := p.connect(ctx, to, func(ctx context.Context) (net.Conn, error) { return p.network.Dial(ctx, p.source, to) })
	if err != nil {
		return nil, fmt.Errorf("underlay: no connection to %s: %w", to, err)
	}
	head := prefaceOf(kind)
	deadline, _ := ctx.Deadline()
	if err := errors.Join(conn.SetWriteDeadline(deadline), writeAll(conn, head[:]), conn.SetWriteDeadline(time.Time{})); err != nil {
		return nil, errors.Join(fmt.Errorf("underlay: connection to %s broke at once: %w", to, err), conn.Close())
	}
	return conn, nil
}

// dialLimit ends a Dial whose caller set no deadline.
const dialLimit = 10 * time.Second

// bounded returns ctx with a deadline, which also ends when the Port closes.
func (p *Port) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	cancelLimit := context.CancelFunc(func() {})
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancelLimit = context.WithTimeout(ctx, dialLimit)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.ctx, cancel)
	return ctx, func() { stop(); cancel(); cancelLimit() }
}

func writeAll(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// accept accepts streams until Close, as many as may be pending at once. Others wait in the
// kernel's backlog.
func (p *Port) accept() {
	for {
		conn, err := p.listener.Accept()
		if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			closeIf(conn)
			return
		}
		if err != nil { // out of file descriptors, or the peer left already
			p.limited.Warn("cannot accept a stream", "underlay: cannot accept a stream", "err", err)
			turn.Sleep(p.ctx, acceptPause)
			continue
		}
		g := p.pending.enter(p.ctx, conn)
		if g == nil {
			closeIf(conn)
			return
		}
		p.tasks.Go(func() { p.welcome(g) })
	}
}

func closeIf(conn net.Conn) {
	if conn != nil {
		_ = conn.Close()
	}
}

// welcome reads a stream's preface and hands the stream to the listener of its kind, or serves
// its request.
func (p *Port) welcome(g *pendingConn) {
	if !p.adopt(g) {
		_ = g.Close()
		return
	}
	kind, err := p.kind(g)
	if err == nil && kind == KindRequest {
		p.serve(g)
		return
	}
	p.release(g) // its package closes it
	if err == nil {
		err = p.handOver(g, kind)
	}
	if err != nil {
		_ = g.Close()
		if p.ctx.Err() == nil && !errors.Is(err, errRedials) {
			p.limited.Warn("a stream was refused", "underlay: a stream was refused", "peer", g.RemoteAddr().String(), "err", g.why(err))
		}
	}
}

// kind finds out who opened a stream, and for what.
func (p *Port) kind(g *pendingConn) (kind byte, err error) {
	var head preface
	if err = p.secure(g); err == nil {
		kind, head, err = p.preface(g.over())
	}
	if err != nil && p.keys == nil {
		err = cmp.Or(answerHello(g, head), err)
	}
	from := addrPort(g.RemoteAddr()).Addr().Unmap()
	_, strange := errors.AsType[*secret.MismatchError](err)
	switch {
	case strange:
		p.stats.strange.Add(1)
		p.strangers.add(from, err)
	case err == nil:
		p.strangers.forget(from)
	case !errors.Is(err, errRedials):
		p.stats.garbage.Add(1)
	}
	return kind, err
}

// preface reads what kind of stream it is.
func (p *Port) preface(conn net.Conn) (kind byte, head preface, err error) {
	_ = conn.SetReadDeadline(time.Now().Add(prefaceWait))
	n, err := io.ReadFull(conn, head[:])
	if err != nil {
		return 0, head, fmt.Errorf("ended after %d bytes of the preface: %w", n, err)
	}
	if kind, err = head.kind(); err != nil {
		return 0, head, err
	}
	return kind, head, conn.SetReadDeadline(time.Time{})
}

// handOver gives a stream to the listener of its kind.
func (p *Port) handOver(g *pendingConn, kind byte) error {
	p.mu.Lock()
	s := p.streams[kind]
	p.mu.Unlock()
	if s == nil || s.isShut() {
		p.stats.unserved.Add(1)
		return fmt.Errorf("stream kind %q is not served here (yet)", kind)
	}
	g.among = &s.open
	if goes := s.open.enter(g); goes != nil {
		p.stats.overflow.Add(1)
		p.limited.Warn("too many streams "+goes.from.String(), "underlay: a stream was closed, there were too many",
			"peer", goes.RemoteAddr().String(), "kind", string(kind), "limit", maxOpen, "limit_per_source", maxOpenFrom)
		_ = goes.Close()
		if goes == g {
			return nil
		}
	}
	if !s.offer(g) {
		if s.open.leave(g) { // otherwise it was closed, and counted, for a newer one
			p.stats.overflow.Add(1)
		}
		return fmt.Errorf("nobody accepted it within %s, or %d others of its kind wait", acceptWait, cap(s.queue))
	}
	return nil
}

// streamListener is the net.Listener of one kind.
type streamListener struct {
	addr   net.Addr
	arrive chan net.Conn
	queue  chan struct{} // a slot per stream that waits to arrive
	open   openStreams   // the streams that arrived and are open
	done   chan struct{} // closed by shut
	once   sync.Once
}

// Accept implements net.Listener.
func (s *streamListener) Accept() (net.Conn, error) {
	select {
	case conn := <-s.arrive:
		return conn, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The port itself stays open.
func (s *streamListener) Close() error {
	s.shut()
	return nil
}

// Addr implements net.Listener: the address of the shared port.
func (s *streamListener) Addr() net.Addr { return s.addr }

// offer waits for Accept to take a stream; false when it must be dropped.
func (s *streamListener) offer(conn net.Conn) bool {
	select {
	case s.queue <- struct{}{}:
		defer func() { <-s.queue }()
	default:
		return false
	}
	timer := time.NewTimer(acceptWait)
	defer timer.Stop()
	select {
	case s.arrive <- conn:
		return true
	case <-s.done:
	case <-timer.C:
	}
	return false
}

func (s *streamListener) shut() { s.once.Do(func() { close(s.done) }) }

func (s *streamListener) isShut() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
