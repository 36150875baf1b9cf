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
	readTimeout  = 10 * time.Second // of a request's header, then of its body
	writeTimeout = 30 * time.Second
	maxHeader    = 20 << 10
	// makeRoomEvery is how often an idle connection is looked for while one more waits.
	makeRoomEvery = 50 * time.Millisecond
	maxConns      = 2 * maxCalls
)

var errTooLong = fmt.Errorf("rpc: want a request whose header is at most %d bytes long", maxHeader)

// conns keeps the open connections of a Server and the calls under way. All methods are
// safe for concurrent use.
type conns struct {
	made        chan struct{} // holds a token for each connection
	closed      chan struct{} // closed when no more connections are accepted
	readTimeout time.Duration
	work        sync.WaitGroup // counts the calls under way, also those that were answered already

	mu        sync.Mutex
	closing   bool
	listeners []net.Listener
	open      map[*conn]bool // whether a call is under way in it
}

func newConns(most int, readTimeout time.Duration) *conns {
	return &conns{made: make(chan struct{}, most), closed: make(chan struct{}), readTimeout: readTimeout, open: map[*conn]bool{}}
}

// listen registers a listener. It reports false after shut.
func (s *conns) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	return !s.closing
}

// shut closes the listeners, and the connections without a call under way.
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

// closeAll closes all connections and returns how many had a call under way.
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

// begin registers a call, and the connection that it came over if that is not nil. It
// returns false after shut.
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

// end registers that a call has ended.
func (s *conns) end(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.open[c]; open {
		s.open[c] = false
		c.done.Store(true)
	}
	s.work.Done()
}

// take waits for the token of one more connection, and ends idle ones while there is none. It
// returns false after shut.
func (s *conns) take() bool {
	for {
		if len(s.made) == cap(s.made) {
			s.endIdle()
		}
		select {
		case s.made <- struct{}{}:
			return true
		case <-s.closed:
			return false
		case <-time.After(makeRoomEvery): // a busy one may be idle by now
		}
	}
}

// endIdle closes a connection that waits for its next request, if there is one.
func (s *conns) endIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, busy := range s.open {
		if !busy && c.idle.Load() {
			_ = c.Conn.Close() // the other end sees it
			return
		}
	}
}

// listener accepts connections and gives them limits.
type listener struct {
	net.Listener
	conns *conns
}

// Accept implements net.Listener. While there are too many connections it ends an idle one and
// waits until one has ended. One that never made a request is ended by its deadline.
func (l listener) Accept() (net.Conn, error) {
	if !l.conns.take() {
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

// add registers a connection, or closes it after shut.
func (s *conns) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = false
	if s.closing {
		_ = c.Conn.Close() // net/http finds it closed
	}
}

// conn is a connection with limits. It is its own local address, because net/http puts the
// local address into the context of each request: so a call finds its connection.
type conn struct {
	net.Conn
	of   *conns
	peer Peer         // zero if unknown
	left atomic.Int64 // bytes that may still be read
	// done: a call has ended, and no byte of the next one has come; idle: its answer is sent,
	// too. An idle connection stays: dockerd keeps it, and were it closed at the moment of the
	// next call, dockerd would repeat that without its body.
	done, idle atomic.Bool
	ended      sync.Once
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c }

// Network implements net.Addr.
func (c *conn) Network() string { return c.Conn.LocalAddr().Network() }

// String implements net.Addr.
func (c *conn) String() string { return c.Conn.LocalAddr().String() }

// SetReadDeadline implements net.Conn. net/http removes the deadline when it begins to wait
// for a request; conn then sets its own, unless it is idle, and limits the bytes to those of
// a header.
func (c *conn) SetReadDeadline(t time.Time) error {
	switch {
	case !t.IsZero():
		return c.Conn.SetReadDeadline(t)
	case c.done.Load(): // net/http has sent the answer by then
		c.idle.Store(true)
		c.left.Store(maxHeader)
		return c.Conn.SetReadDeadline(t)
	}
	return c.expect(maxHeader)
}

// expect allows this number of bytes to be read from now on, within readTimeout.
func (c *conn) expect(bytes int64) error {
	c.left.Store(bytes)
	return c.Conn.SetReadDeadline(time.Now().Add(c.of.readTimeout))
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.done.CompareAndSwap(true, false) { // the next request begins
		c.idle.Store(false)
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.of.readTimeout)) // net/http finds out if it is closed
	}
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

// CloseWrite closes only the sending side. net/http calls it when a part of a body is
// unread, so that the other end can read why.
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
