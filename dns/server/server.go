// Package server answers the DNS queries of one container, or of the host. Queries about our
// own names it answers itself; those about a zone go to the zone's servers, and all others, as
// they are, to Docker's resolver.
//
// Whatever a container sends is bounded: its queries under way, its connections and their
// time. It shares nothing with the servers of other containers but the zones.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

const (
	// maxForwarded bounds the queries of one container that wait for another server.
	maxForwarded = 256
	// receiveBuffer has space for what arrives while other containers are served, in bytes.
	receiveBuffer = 2 << 20
	// pause is how long a socket rests that failed, such as when no file is left.
	pause = 100 * time.Millisecond
)

// InContainer is where containers ask: Docker's address.
var InContainer = netip.MustParseAddr("127.0.0.11")

// inContainer is where the servers of containers listen, on other ports than clients ask.
var inContainer = netip.AddrPortFrom(InContainer, 0)

// Config is what servers do.
type Config struct {
	// Answer answers queries about our own names and returns nil for all others. The reply is
	// the server's then. Called at the same time for several queries; must not block.
	Answer func(query *mdns.Msg) *mdns.Msg
	// Domain is the cluster's. Answer is asked before the zones for names in it, and after
	// them for others.
	Domain string
	Zones  *Zones // shared by all servers; nil for none
	// Rest has the servers for what neither Answer nor Zones know, in a container that has no resolver of Docker's.
	// nil: Docker's is asked.
	Rest *Zones
	Log  *slog.Logger
}

// Server is a server that runs.
type Server struct {
	cfg     Config
	packets *net.UDPConn
	accepts *net.TCPListener
	docker  *docker // nil on the host
	source  []byte  // control message (ip(7), IP_PKTINFO) with the address that replies come from; empty = the socket's

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	running   sync.WaitGroup
	forwarded chan struct{} // has a token for each query that is forwarded
	conns     conns
}

// Serve serves a container: at two ports of 127.0.0.11 in its network namespace, whose loopback
// device may be down yet. The caller may close ns afterwards; the server holds the namespace.
func Serve(ns *netns.Namespace, cfg Config) (*Server, error) {
	d, err := newDocker(ns)
	if err != nil {
		return nil, err
	}
	s := newServer(cfg)
	s.docker = d
	// A socket that is bound in a namespace without routes does not keep its address as the
	// source of packets.
	s.source = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: inContainer.Addr().As4()})
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return setsockopt(raw, unix.SOL_IP, unix.IP_FREEBIND, 1) // the loopback device may come up later
	}}
	if err := ns.Do(func() error { return s.listen(config, inContainer) }); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for DNS queries in a container: %w", err), d.ns.Close())
	}
	s.start()
	return s, nil
}

// Listen serves the host at an address, where queries that are not about our names or a zone
// are refused.
func Listen(at netip.AddrPort, cfg Config) (*Server, error) {
	s := newServer(cfg)
	if err := s.listen(net.ListenConfig{}, at); err != nil {
		return nil, fmt.Errorf("listen for DNS queries: %w", err)
	}
	s.start()
	return s, nil
}

func newServer(cfg Config) *Server {
	s := &Server{cfg: cfg, forwarded: make(chan struct{}, maxForwarded), conns: conns{all: map[*conn]struct{}{}}}
	s.cfg.Domain = mdns.Fqdn(cfg.Domain)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// listen opens the sockets in the calling thread's namespace.
func (s *Server) listen(config net.ListenConfig, at netip.AddrPort) error {
	packets, err := config.ListenPacket(s.ctx, "udp", at.String())
	if err != nil {
		return err
	}
	accepts, err := config.Listen(s.ctx, "tcp", at.String())
	if err != nil {
		return errors.Join(err, packets.Close())
	}
	s.packets, s.accepts = packets.(*net.UDPConn), accepts.(*net.TCPListener) //nolint:errcheck // udp and tcp
	if raw, err := s.packets.SyscallConn(); err == nil {
		_ = setsockopt(raw, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) // without it some packets are lost under load
	}
	return nil
}

// setsockopt sets an option of a socket that Go owns.
func setsockopt(raw syscall.RawConn, level, option, value int) (err error) {
	control := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) })
	return errors.Join(control, err)
}

func (s *Server) start() {
	s.running.Go(s.serveUDP)
	s.running.Go(s.serveTCP)
}

// Ports are the ports that the server listens at.
func (s *Server) Ports() (udp, tcp uint16) {
	at := func(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }
	return at(s.packets.LocalAddr()), at(s.accepts.Addr())
}

// Close ends the server. None of its goroutines runs afterwards, and it holds the namespace no
// longer.
func (s *Server) Close() error {
	s.cancel()
	err := errors.Join(s.packets.Close(), s.accepts.Close())
	s.conns.closeAll()
	if s.docker == nil {
		s.running.Wait()
		return err
	}
	err = errors.Join(err, s.docker.close())
	s.running.Wait()
	return errors.Join(err, s.docker.ns.Close())
}

// failed logs an error of a socket and waits a little. It reports whether to go on.
func (s *Server) failed(doing string, err error) bool {
	if s.ctx.Err() != nil {
		return false
	}
	s.cfg.Log.Warn(doing, "err", err)
	return turn.Sleep(s.ctx, pause)
}
