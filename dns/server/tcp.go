package server

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// maxConns bounds the connections of one container.
	maxConns = 64
	// idleTimeout is how long a client may take for a query, and writeTimeout for a reply.
	idleTimeout  = 8 * time.Second
	writeTimeout = 4 * time.Second
)

// conn is a client's connection.
type conn struct {
	net.Conn
	busy  bool      // it is being answered
	since time.Time // it is idle
}

// conns are the connections of one server.
type conns struct {
	mu  sync.Mutex
	all map[*conn]struct{}
}

// admit adds a connection. Where there are too many, the one that has been idle for longest is
// closed, or the new one if none is idle.
func (cs *conns) admit(c net.Conn) *conn {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.all) >= maxConns {
		var oldest *conn
		for other := range cs.all {
			if !other.busy && (oldest == nil || other.since.Before(oldest.since)) {
				oldest = other
			}
		}
		if oldest == nil {
			_ = c.Close()
			return nil
		}
		_ = oldest.Close() // its goroutine ends
		delete(cs.all, oldest)
	}
	added := &conn{Conn: c, since: time.Now()}
	cs.all[added] = struct{}{}
	return added
}

func (cs *conns) setBusy(c *conn, busy bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.busy, c.since = busy, time.Now()
}

func (cs *conns) remove(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	_ = c.Close() // of the client's or ours
	delete(cs.all, c)
}

func (cs *conns) closeAll() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.all {
		_ = c.Close() // its goroutine ends
	}
}

func (s *Server) serveTCP() {
	for {
		accepted, err := s.accepts.Accept()
		if err != nil {
			if !s.failed("cannot accept DNS connections", err) {
				return
			}
			continue
		}
		if c := s.conns.admit(accepted); c != nil {
			s.running.Go(func() {
				defer s.conns.remove(c)
				s.serveConn(c)
			})
		}
	}
}

// serveConn answers the queries of one connection, one after the other, until the client says
// nothing, or nothing sensible.
func (s *Server) serveConn(c *conn) {
	for s.ctx.Err() == nil {
		packet, err := readTCP(c, time.Now().Add(idleTimeout), maxQuery)
		if err != nil {
			return
		}
		s.conns.setBusy(c, true)
		reply := s.answerTCP(packet)
		if len(reply) == 0 || writeTCP(c, time.Now().Add(writeTimeout), reply) != nil {
			return
		}
		s.conns.setBusy(c, false)
	}
}

func (s *Server) answerTCP(packet []byte) []byte {
	q, reply, to := s.route(packet, true)
	if to == nil {
		return reply
	}
	select {
	case s.forwarded <- struct{}{}:
		defer func() { <-s.forwarded }()
		return s.forward(q, to)
	default:
		return refusal(packet, mdns.RcodeServerFailure)
	}
}

// readTCP reads one message behind its length.
func readTCP(c net.Conn, until time.Time, most int) ([]byte, error) {
	if err := c.SetReadDeadline(until); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > most {
		return nil, io.ErrShortBuffer
	}
	message := make([]byte, n)
	_, err := io.ReadFull(c, message)
	return message, err
}

func writeTCP(c net.Conn, until time.Time, message []byte) error {
	if err := c.SetWriteDeadline(until); err != nil {
		return err
	}
	size := binary.BigEndian.AppendUint16(nil, uint16(len(message)))
	_, err := c.Write(slices.Concat(size, message))
	return err
}
