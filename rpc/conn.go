package rpc

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a connection. net/http has its own, but the library's server sets none.
const (
	readTimeout  = 10 * time.Second // of a request's header, then of its body, then until the next
	writeTimeout = 30 * time.Second
	maxHeader    = 20 << 10
	maxConns     = 2 * maxCalls
)

var errTooLong = fmt.Errorf("rpc: want a request whose header is at most %d bytes long", maxHeader)

// conns are the open connections of a Server and the calls under way. All methods are
// safe for concurrent use.
type conns struct {
	made        chan struct{} // has one for each connection
	closed      chan struct{} // no more are taken
	readTimeout time.Duration
	work        sync.WaitGroup // calls, also those that nobody waits for any more

	mu        sync.Mutex
	closing   bool
	listeners []net.Listener
	open      map[*conn]bool // whether a call is under way in it
}

func newConns(most int, readTimeout time.Duration) *conns {
	return &conns{made: make(chan struct{}, most), closed: make(chan struct{}), readTimeout: readTimeout, open: map[*conn]bool{}}
}

// listen reports whether l may be served.
func (s *conns) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	return !s.closing
}

// shut ends listening and connections in which no call is under way.
func (s *conns) shut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	s.closing = true
	close(s.closed)
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	for c, busy := range s.open {
		if !busy {
			_ = c.Conn.Close() // the other end sees it
		}
	}
	return errors.Join(errs...)
}

// closeAll ends all connections and answers in how many a call was under way.
func (s *conns) closeAll() (cut int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, busy := range s.open {
		if busy {
			cut++
		}
		_ = c.Conn.Close() // the other end sees it
	}
	return cut
}

// begin counts a call, which came over a connection if that is not nil; false if it came
// too late.
func (s *conns) begin(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != nil {
		if s.closing {
			return false
		}
		s.open[c] = true
	}
	s.work.Add(1)
	return true
}

// end is the end of a call.
func (s *conns) end(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.open[c]; open {
		s.open[c] = false
	}
	s.work.Done()
}

// listener hands out connections that have limits.
type listener struct {
	net.Listener
	conns *conns
}

// Accept implements net.Listener. While there are too many connections it waits for the
// end of one; a silent one ends by itself.
func (l listener) Accept() (net.Conn, error) {
	select {
	case l.conns.made <- struct{}{}:
	case <-l.conns.closed:
		return nil, net.ErrClosed
	}
	raw, err := l.Listener.Accept()
	if err != nil {
		<-l.conns.made
		return nil, err
	}
	c := &conn{Conn: raw, of: l.conns}
	c.peer, _ = peerOf(raw)
	l.conns.add(c)
	_ = c.expect(maxHeader) // net/http finds out if it is closed
	return c, nil
}

// add takes a connection in, or closes it.
func (s *conns) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = false
	if s.closing {
		_ = c.Conn.Close() // net/http finds it closed
	}
}

// conn is a connection with limits. It stands for its own local address: net/http puts
// that into the context of each request, which is how a call finds its connection.
type conn struct {
	net.Conn
	of    *conns
	peer  Peer         // zero if unknown
	left  atomic.Int64 // bytes that may still be read
	ended sync.Once
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c }

// Network implements net.Addr.
func (c *conn) Network() string { return c.Conn.LocalAddr().Network() }

// String implements net.Addr.
func (c *conn) String() string { return c.Conn.LocalAddr().String() }

// SetReadDeadline implements net.Conn. No deadline is what net/http asks for when it
// begins to wait for a request: it gets the one that there is, and as many bytes as the
// header of a request may have.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		return c.expect(maxHeader)
	}
	return c.Conn.SetReadDeadline(t)
}

// expect lets so many bytes be read from now on, in time.
func (c *conn) expect(bytes int64) error {
	c.left.Store(bytes)
	return c.Conn.SetReadDeadline(time.Now().Add(c.of.readTimeout))
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(-int64(n)) < 0 {
		return n, errTooLong
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// CloseWrite ends the answers alone: net/http does it where a body is left unread, so that
// the other end reads why.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.ended.Do(func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		delete(c.of.open, c)
		<-c.of.made
	})
	return c.Conn.Close()
}
