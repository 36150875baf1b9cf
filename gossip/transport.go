package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// packetQueue is how many of memberlist's datagrams may wait for it.
const packetQueue = 1024

// transport carries memberlist over the shared port. It implements
// memberlist.Transport.
type transport struct {
	cfg      Config
	refused  func(peer net.Addr, why error) // hears of streams that no agent opens
	listener net.Listener
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	ctx      context.Context // ends with Shutdown
	cancel   context.CancelFunc
	accepts  sync.WaitGroup
}

func newTransport(cfg Config, refused func(net.Addr, error)) *transport {
	t := &transport{
		cfg: cfg, refused: refused, listener: cfg.Underlay.Stream(streamKind),
		packets: make(chan *memberlist.Packet, packetQueue), streams: make(chan net.Conn),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.accepts.Go(t.accept)
	return t
}

func (t *transport) accept() {
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			return
		}
		conn = t.track(conn)
		select {
		case t.streams <- conn:
		case <-t.ctx.Done():
			_ = conn.Close()
		}
	}
}

// deliver hands a datagram to memberlist, or drops it when too many wait. memberlist owns
// the bytes from then on.
func (t *transport) deliver(b []byte, from netip.AddrPort) bool {
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}:
		return true
	default:
		return false
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.cfg.Advertise.Addr().AsSlice(), int(t.cfg.Advertise.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip: memberlist wants to write to %q: %w", addr, err)
	}
	_, err = t.cfg.Packets.WriteTo(append([]byte{packetMagic, protocol.Written, packetMemberlist}, b...), to)
	return time.Now(), err
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("gossip: memberlist wants to reach %q: %w", addr, err)
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	conn, err := t.cfg.Underlay.Dial(ctx, streamKind, to)
	if err != nil {
		return nil, err
	}
	return t.track(conn), nil
}

// trackedConn is closed by Shutdown, too. Otherwise memberlist would wait for its
// deadline.
type trackedConn struct {
	net.Conn
	untrack func() bool
}

func (t *transport) track(conn net.Conn) net.Conn {
	checked := newCheckedConn(conn, func(err error) { t.refused(conn.RemoteAddr(), err) })
	return trackedConn{checked, context.AfterFunc(t.ctx, func() { _ = conn.Close() })}
}

// Close implements net.Conn.
func (c trackedConn) Close() error {
	c.untrack()
	return c.Conn.Close()
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.cancel()
	err := t.listener.Close()
	t.accepts.Wait()
	return err
}
