package lossy

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

// pair is one established stream: two ends and a flow in each direction. All
// fields are under net.mu.
type pair struct {
	net   *Net
	ends  [2]*conn
	flows [2]*flow // flows[i] carries what ends[i] writes
	clock *time.Timer
	over  error // set once the stream is broken
}

// flow is one direction: bytes under way, in order, and bytes that arrived.
type flow struct {
	from, to *Host
	segments []segment
	arrived  []byte
	unacked  int // written and not known by the writer to have arrived
	unheard  int // of them, arrived while the way back was cut
	fin      bool
	timer    *time.Timer
	last     time.Time // when the newest segment is due: order is kept
}

type segment struct {
	data []byte // nil: the end of the stream
	due  time.Time
}

// conn is one end of a stream; it implements net.Conn.
type conn struct {
	pair          *pair
	side          int
	host          *Host
	local, remote netip.AddrPort

	// Under net.mu:
	closed      bool
	read, write time.Time     // deadlines
	changed     chan struct{} // closed and replaced whenever a waiter should look again
}

func newPair(n *Net, from *Host, local netip.AddrPort, to *Host, remote netip.AddrPort) *pair {
	p := &pair{net: n}
	p.ends[0] = &conn{pair: p, side: 0, host: from, local: local, remote: remote, changed: make(chan struct{})}
	p.ends[1] = &conn{pair: p, side: 1, host: to, local: remote, remote: local, changed: make(chan struct{})}
	p.flows[0] = &flow{from: from, to: to}
	p.flows[1] = &flow{from: to, to: from}
	n.conns[p] = struct{}{}
	return p
}

func (p *pair) whole() bool {
	a, b := p.ends[0].host.addr, p.ends[1].host.addr
	return p.net.passes(a, b) && p.net.passes(b, a)
}

// watch breaks the stream once its path has been cut for BreakAfter.
func (p *pair) watch() {
	switch {
	case p.whole() && p.clock != nil:
		p.clock.Stop()
		p.clock = nil
	case !p.whole() && p.clock == nil:
		p.clock = time.AfterFunc(BreakAfter, func() {
			p.net.mu.Lock()
			defer p.net.mu.Unlock()
			if !p.whole() {
				p.reset(syscall.ETIMEDOUT)
			}
		})
	}
}

// reset ends the stream at both ends at once.
func (p *pair) reset(why error) {
	if p.over != nil {
		return
	}
	p.over = why
	p.net.stats.Broken++
	p.retire()
	for _, e := range p.ends {
		e.wake()
	}
}

// retire forgets the stream.
func (p *pair) retire() {
	delete(p.net.conns, p)
	if p.clock != nil {
		p.clock.Stop()
	}
	for _, f := range p.flows {
		if f.timer != nil {
			f.timer.Stop()
		}
	}
}

func (e *conn) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// push puts a segment under way.
func (p *pair) push(side int, data []byte) {
	f := p.flows[side]
	lost, _, delay, _ := p.net.draw(f.from.addr, f.to.addr)
	if lost {
		delay += retransmit
	}
	due := time.Now().Add(delay)
	if due.Before(f.last) {
		due = f.last
	}
	f.last = due
	f.segments = append(f.segments, segment{data, due})
	f.unacked += len(data)
	if len(f.segments) == 1 {
		p.arm(side, time.Until(due))
	}
}

func (p *pair) arm(side int, d time.Duration) {
	p.flows[side].timer = time.AfterFunc(d, func() {
		p.net.mu.Lock()
		defer p.net.mu.Unlock()
		p.advance(side)
	})
}

// advance delivers what is due, if it can pass.
func (p *pair) advance(side int) {
	f := p.flows[side]
	if p.over != nil {
		return
	}
	if !p.net.passes(f.from.addr, f.to.addr) {
		p.arm(side, retransmit)
		return
	}
	now := time.Now()
	for len(f.segments) > 0 && !f.segments[0].due.After(now) {
		if f.segments[0].data == nil {
			f.fin = true
		}
		f.arrived = append(f.arrived, f.segments[0].data...)
		f.unheard += len(f.segments[0].data)
		f.segments = f.segments[1:]
	}
	p.ends[1-side].wake()
	p.acknowledge(side)
	if p.flows[0].fin && p.flows[1].fin && len(f.segments) == 0 {
		p.retire()
		return
	}
	switch {
	case len(f.segments) > 0:
		p.arm(side, time.Until(f.segments[0].due))
	case f.unheard > 0:
		p.arm(side, retransmit)
	}
}

// acknowledge frees the writer's buffer if the way back is open.
func (p *pair) acknowledge(side int) {
	f := p.flows[side]
	if f.unheard == 0 || !p.net.passes(f.to.addr, f.from.addr) {
		return
	}
	f.unacked -= f.unheard
	f.unheard = 0
	p.ends[side].wake()
}

// Read implements net.Conn.
func (e *conn) Read(b []byte) (int, error) {
	for {
		n, wait, deadline, err := e.tryRead(b)
		if n > 0 || err != nil {
			return n, err
		}
		if err := await(wait, deadline); err != nil {
			return 0, e.opError("read", err)
		}
	}
}

func (e *conn) tryRead(b []byte) (int, <-chan struct{}, time.Time, error) {
	e.pair.net.mu.Lock()
	defer e.pair.net.mu.Unlock()
	f := e.pair.flows[1-e.side]
	switch {
	case e.closed:
		return 0, nil, time.Time{}, e.opError("read", net.ErrClosed)
	case expired(e.read):
		return 0, nil, time.Time{}, e.opError("read", os.ErrDeadlineExceeded)
	case len(b) == 0:
		return 0, nil, time.Time{}, io.ErrShortBuffer
	case len(f.arrived) > 0:
		n := copy(b, f.arrived)
		f.arrived = f.arrived[n:]
		e.pair.ends[1-e.side].wake() // there is space again
		return n, nil, time.Time{}, nil
	case f.fin:
		return 0, nil, time.Time{}, io.EOF
	case e.pair.over != nil:
		return 0, nil, time.Time{}, e.opError("read", e.pair.over)
	}
	return 0, e.changed, e.read, nil
}

// Write implements net.Conn.
func (e *conn) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, wait, deadline, err := e.tryWrite(b[written:])
		written += n
		if err != nil {
			return written, err
		}
		if n > 0 {
			continue
		}
		if err := await(wait, deadline); err != nil {
			return written, e.opError("write", err)
		}
	}
	return written, nil
}

func (e *conn) tryWrite(b []byte) (int, <-chan struct{}, time.Time, error) {
	e.pair.net.mu.Lock()
	defer e.pair.net.mu.Unlock()
	mine := e.pair.flows[e.side]
	space := sendBuffer - mine.unacked - len(mine.arrived)
	switch {
	case e.closed:
		return 0, nil, time.Time{}, e.opError("write", net.ErrClosed)
	case e.pair.over != nil:
		return 0, nil, time.Time{}, e.opError("write", e.pair.over)
	case expired(e.write):
		return 0, nil, time.Time{}, e.opError("write", os.ErrDeadlineExceeded)
	case space <= 0:
		return 0, e.changed, e.write, nil
	case e.pair.ends[1-e.side].closed && e.pair.flows[1-e.side].fin:
		return 0, nil, time.Time{}, e.opError("write", syscall.EPIPE)
	}
	n := min(space, len(b))
	e.pair.push(e.side, slices.Clone(b[:n]))
	return n, nil, time.Time{}, nil
}

func expired(deadline time.Time) bool {
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

// await waits for a change or a deadline.
func await(changed <-chan struct{}, deadline time.Time) error {
	if deadline.IsZero() {
		<-changed
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (e *conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: e.LocalAddr(), Addr: e.RemoteAddr(), Err: err}
}

// Close implements net.Conn: what was written still arrives.
func (e *conn) Close() error {
	e.pair.net.mu.Lock()
	defer e.pair.net.mu.Unlock()
	if e.closed {
		return e.opError("close", net.ErrClosed)
	}
	e.closed = true
	if e.pair.over == nil {
		e.pair.push(e.side, nil)
	}
	e.wake()
	return nil
}

// LocalAddr implements net.Conn.
func (e *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(e.local) }

// RemoteAddr implements net.Conn.
func (e *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(e.remote) }

// SetDeadline implements net.Conn.
func (e *conn) SetDeadline(t time.Time) error { return e.setDeadlines(&t, &t) }

// SetReadDeadline implements net.Conn.
func (e *conn) SetReadDeadline(t time.Time) error { return e.setDeadlines(&t, nil) }

// SetWriteDeadline implements net.Conn.
func (e *conn) SetWriteDeadline(t time.Time) error { return e.setDeadlines(nil, &t) }

func (e *conn) setDeadlines(read, write *time.Time) error {
	e.pair.net.mu.Lock()
	defer e.pair.net.mu.Unlock()
	if e.closed {
		return e.opError("set", net.ErrClosed)
	}
	if read != nil {
		e.read = *read
	}
	if write != nil {
		e.write = *write
	}
	e.wake()
	return nil
}
