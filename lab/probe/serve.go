package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Port is the port that a server listens on when none is named.
const Port = "7000"

// The first byte of a TCP connection says what it is for.
const (
	modeSink   = 'S' // the client sends, the server swallows
	modeSource = 'R' // the server sends
	modeEcho   = 'E' // the server sends back what it gets
)

// maxConns bounds how many TCP connections a server has at once.
const maxConns = 256

// Server answers probes until it is closed.
type Server struct {
	tcp net.Listener
	udp net.PacketConn
	all sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	done  bool
}

// Serve listens on addr, TCP and UDP, and answers probes.
func Serve(addr string) (*Server, error) {
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("probe: %w", err)
	}
	hold(udp)
	s := &Server{tcp: tcp, udp: udp, conns: map[net.Conn]struct{}{}}
	s.all.Go(s.accept)
	s.all.Go(s.echo)
	return s, nil
}

// hold has a socket keep as many packets as the kernel lets it while this program waits for
// a processor: what is lost there was not lost by the network.
func hold(conn any) {
	if c, ok := conn.(*net.UDPConn); ok {
		_ = c.SetReadBuffer(4 << 20) // net.core.rmem_max bounds it
	}
}

// Addr is the address the server listens on.
func (s *Server) Addr() string { return s.tcp.Addr().String() }

// Close ends the server and every connection it has.
func (s *Server) Close() error {
	s.mu.Lock()
	s.done = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := errors.Join(s.tcp.Close(), s.udp.Close())
	s.all.Wait()
	return err
}

func (s *Server) accept() {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && s.admit(c) {
			s.all.Go(func() {
				answer(c)
				s.forget(c)
			})
		}
	}
}

func (s *Server) admit(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || len(s.conns) >= maxConns {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.Close()
}

// answer serves one connection until the client or the server closes it.
func answer(c net.Conn) {
	mode := make([]byte, 1)
	c.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // the read reports it
	if _, err := io.ReadFull(c, mode); err != nil {
		return
	}
	c.SetReadDeadline(time.Time{}) //nolint:errcheck // the read reports it
	buf := make([]byte, 128<<10)
	for {
		n := len(buf)
		var err error
		if mode[0] != modeSource {
			n, err = c.Read(buf)
		}
		if err == nil && mode[0] != modeSink {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// echo sends every datagram back to where it came from.
func (s *Server) echo() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = s.udp.WriteTo(buf[:n], from) // a lost answer is what the client measures
		}
	}
}

// dial connects to a server and says what for.
func dial(ctx context.Context, addr string, mode byte) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	if _, err := c.Write([]byte{mode}); err != nil {
		c.Close()
		return nil, fmt.Errorf("probe: %w", err)
	}
	return c, nil
}
