package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
	"unsafe"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/dns/takeover"
	"github.com/weftnet/weft/netns"
)

const (
	dnsPort       = 53
	dockerAddress = "127.0.0.11:53"
	// dockerTimeout is a little more than Docker's resolver takes for three servers that are
	// silent, four seconds each.
	dockerTimeout = 13 * time.Second
	// dialTimeout is for Docker's resolver, on the same host.
	dialTimeout = time.Second

	// socketsAtOnce are opened by one visit to the namespace, which takes a thread.
	socketsAtOnce = 4
	// maxIdle bounds the sockets that are kept for later queries.
	maxIdle = 8
)

// docker is Docker's resolver in one container. Its sockets have takeover.Mark and are in the
// container's namespace, so that Docker's rules apply to their packets.
//
// Each query comes from another source port: while dockerd is restarted, its resolver gets other
// ports, and conntrack would keep sending the packets of a known source port to the old ones.
// A socket changes its port without a visit to the namespace.
type docker struct {
	ns *netns.Namespace

	visit sync.Mutex // is held while sockets for UDP are opened; taken before mu

	mu     sync.Mutex
	idle   []*net.UDPConn
	used   map[*net.UDPConn]struct{}
	closed bool
}

func newDocker(ns *netns.Namespace) (*docker, error) {
	own, err := ns.Again()
	if err != nil {
		return nil, err
	}
	return &docker{ns: own, used: map[*net.UDPConn]struct{}{}}, nil
}

// close ends the exchanges under way, too. The namespace is closed after them, by the caller.
func (d *docker) close() error {
	d.mu.Lock()
	d.closed = true
	var errs []error
	for _, c := range d.idle {
		errs = append(errs, c.Close())
	}
	for c := range d.used {
		_ = c.Close() // or its query has done so
	}
	d.idle = nil
	d.mu.Unlock()
	return errors.Join(errs...)
}

func (d *docker) exchange(ctx context.Context, q query) ([]byte, error) {
	until := time.Now().Add(dockerTimeout)
	if soonest, ok := ctx.Deadline(); ok && soonest.Before(until) {
		until = soonest
	}
	if q.tcp {
		conns, err := d.open(ctx, "tcp4", 1)
		if err != nil {
			return nil, err
		}
		return exchangeTCP(ctx, conns[0], q, until)
	}
	c, err := d.take(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := exchangeUDP(c, q, until)
	d.giveBack(c, err == nil)
	return reply, err
}

// AskDocker has Docker's resolver answer a query, without a look at the cluster's names or the
// zones. It is for containers.
func (s *Server) AskDocker(ctx context.Context, msg *mdns.Msg) (*mdns.Msg, error) {
	packet, err := msg.Pack()
	if err != nil {
		return nil, err
	}
	raw, err := s.docker.exchange(ctx, query{bytes: packet, msg: msg})
	if err != nil {
		return nil, fmt.Errorf("ask Docker's resolver: %w", err)
	}
	reply := new(mdns.Msg)
	return reply, reply.Unpack(raw)
}

// take returns a connected socket that has not been used since it got its port.
func (d *docker) take(ctx context.Context) (*net.UDPConn, error) {
	if c := d.takeIdle(); c != nil {
		return c, nil
	}
	d.visit.Lock()
	defer d.visit.Unlock()
	if c := d.takeIdle(); c != nil { // another query has opened some meanwhile
		return c, nil
	}
	opened, err := d.open(ctx, "udp4", socketsAtOnce)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	for _, c := range opened {
		d.idle = append(d.idle, c.(*net.UDPConn)) //nolint:errcheck // of udp4
	}
	closed := d.closed
	c := d.pop()
	d.mu.Unlock()
	if closed {
		return nil, errors.Join(net.ErrClosed, d.close())
	}
	return c, nil
}

func (d *docker) takeIdle() *net.UDPConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pop()
}

// pop takes an idle socket, nil if there is none. The caller holds mu.
func (d *docker) pop() *net.UDPConn {
	last := len(d.idle) - 1
	if last < 0 {
		return nil
	}
	c := d.idle[last]
	d.idle = d.idle[:last]
	d.used[c] = struct{}{}
	return c
}

// giveBack keeps a socket for another query, or closes it. One whose query got no reply is
// closed: the reply may come yet.
func (d *docker) giveBack(c *net.UDPConn, answered bool) {
	if answered {
		answered = changePort(c) == nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.used, c)
	if !answered || d.closed || len(d.idle) >= maxIdle {
		_ = c.Close() // the query has ended
		return
	}
	d.idle = append(d.idle, c)
}

// open opens connected sockets in the container's namespace.
func (d *docker) open(ctx context.Context, network string, n int) (opened []net.Conn, err error) {
	dialer := net.Dialer{Timeout: dialTimeout, Control: func(_, _ string, raw syscall.RawConn) error {
		return setsockopt(raw, unix.SOL_SOCKET, unix.SO_MARK, takeover.Mark)
	}}
	err = d.ns.Do(func() error {
		for range n {
			c, err := dialer.DialContext(ctx, network, dockerAddress)
			if err != nil {
				return err
			}
			opened = append(opened, c)
		}
		return nil
	})
	if err != nil {
		for _, c := range opened {
			_ = c.Close() // unused
		}
		return nil, fmt.Errorf("ask Docker's resolver: %w", err)
	}
	return opened, nil
}

// changePort connects a socket to Docker's resolver again, from another port, which the kernel
// chooses anew after a connect to no address.
func changePort(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none)); errno != 0 {
			failed = errno
			return
		}
		failed = unix.Connect(int(fd), &unix.SockaddrInet4{Addr: inContainer.Addr().As4(), Port: dnsPort})
	})
	return errors.Join(err, failed)
}
