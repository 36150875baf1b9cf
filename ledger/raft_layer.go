package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/loglimit"
	"github.com/weftnet/weft/netmap"
)

// StreamKind is the kind under which raft's streams share the underlay port.
const StreamKind byte = 'l'

// raftClusterID returns the cluster id that the raft of a generation uses. So keepers of two
// generations are as foreign to each other as those of two clusters, and nobody listens to a
// leader of the older one. In the first generation it is the id of the cluster itself.
func raftClusterID(cluster netmap.ClusterID, generation uint64) netmap.ClusterID {
	if generation > 1 {
		rest := cluster[8:]
		binary.BigEndian.PutUint64(rest, binary.BigEndian.Uint64(rest)^generation)
	}
	return cluster
}

// serverAddress returns how raft is told of a host: id and address, so that a stream can begin
// with a greeting.
func serverAddress(id netmap.HostID, addr netip.AddrPort) raft.ServerAddress {
	return raft.ServerAddress(id.String() + "@" + addr.String())
}

func parseServer(a raft.ServerAddress) (netmap.HostID, netip.AddrPort, error) {
	id, addr, _ := strings.Cut(string(a), "@")
	host, err := netmap.ParseID(id)
	if err != nil {
		return netmap.HostID{}, netip.AddrPort{}, fmt.Errorf("ledger: raft server %q: %w", a, err)
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netmap.HostID{}, netip.AddrPort{}, fmt.Errorf("ledger: raft server %q: %w", a, err)
	}
	return host, at, nil
}

// layer implements raft.StreamLayer on the underlay.
type layer struct {
	net.Listener
	underlay Underlay
	self     greeting // as sent; to is set per stream
	addr     raft.ServerAddress
	fenced   func(g greeting, dialled bool) error            // why the host is not listened to
	admits   func(id netmap.HostID, from netip.Addr) error   // why the host gets no stream: it is no keeper, or calls from another address
	places   func(id netmap.HostID) (known []netip.AddrPort) // where it is by the ledger
	log      *loglimit.Limiter

	mu     sync.Mutex
	conns  map[net.Conn]*opened
	closed bool
}

// opened is a stream; mu of the layer guards it.
type opened struct {
	hello   greeting // zero until the other end has greeted
	dialled bool
}

// greetWait bounds the wait for a greeting that was announced by a stream.
const greetWait = 5 * time.Second

// Addr implements raft.StreamLayer: what other keepers dial.
func (l *layer) Addr() net.Addr { return textAddr(l.addr) }

type textAddr string

func (textAddr) Network() string  { return "weft-ledger" }
func (a textAddr) String() string { return string(a) }

// Dial implements raft.StreamLayer.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to, addr, err := parseServer(address)
	if err != nil {
		return nil, err
	}
	for _, known := range l.places(to) { // by the ledger, before what somebody said
		if known == addr {
			break
		}
		if conn, err := l.dial(to, known, timeout/3); err == nil {
			return conn, nil
		}
	}
	return l.dial(to, addr, timeout)
}

func (l *layer) dial(to netmap.HostID, addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := l.underlay.Dial(ctx, StreamKind, addr)
	if err != nil {
		return nil, err
	}
	stream, err := l.track(conn)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if err := l.introduce(conn, to); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: no stream to host %s: %w", to.Short(), err), stream.Close())
	}
	return stream, conn.SetDeadline(time.Time{})
}

// introduce greets the host that was dialled and reads who it is, since its votes and
// acknowledgements come over this stream.
func (l *layer) introduce(conn net.Conn, to netmap.HostID) error {
	if _, err := conn.Write(l.self.encode(to)); err != nil {
		return err
	}
	g, err := readGreeting(conn)
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it refused the stream, its log says why: %w", err)
	case err != nil:
		return err
	case g.from != to:
		return fmt.Errorf("host %s answers in its place", g.from.Short())
	}
	return l.check(conn, g, true)
}

// check returns why a host with this greeting gets no stream. recheck asks again later.
func (l *layer) check(conn net.Conn, g greeting, dialled bool) error {
	l.mu.Lock()
	if o := l.conns[conn]; o != nil {
		o.hello, o.dialled = g, dialled
	}
	l.mu.Unlock()
	if g.cluster != l.self.cluster || g.to != l.self.from {
		return fmt.Errorf("it is for host %s of cluster %s", g.to.Short(), g.cluster)
	}
	return l.fenced(g, dialled)
}

// recheck closes the streams that would not be opened any more, because the ledger has heard of
// a newer start of the host at the other end, or of this one.
func (l *layer) recheck() {
	l.mu.Lock()
	greeted := map[net.Conn]opened{}
	for conn, o := range l.conns {
		if !o.hello.from.IsZero() {
			greeted[conn] = *o
		}
	}
	l.mu.Unlock()
	for conn, o := range greeted {
		if err := l.fenced(o.hello, o.dialled); err != nil {
			l.log.Warn("cut "+o.hello.from.String(), "ledger: a raft stream was cut", "peer", conn.RemoteAddr().String(), "err", err)
			_ = (&tracked{Conn: conn, layer: l}).Close()
		}
	}
}

// Accept implements raft.StreamLayer. The first Read reads the greeting, so that a slow host
// keeps nobody waiting.
func (l *layer) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.track(&guarded{Conn: conn, layer: l})
}

// addrOfConn returns the other end's address without its port.
func addrOfConn(conn net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// streamsFrom returns the addresses from which a host has streams open.
func (l *layer) streamsFrom(id netmap.HostID) (out []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn, o := range l.conns {
		if !o.dialled && o.hello.from == id {
			out = append(out, addrOfConn(conn))
		}
	}
	return out
}

// limit sets until when a host's streams may be read, without limit if the time is zero.
func (l *layer) limit(id netmap.HostID, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn, o := range l.conns {
		if !o.dialled && o.hello.from == id {
			_ = conn.SetReadDeadline(at)
		}
	}
}

// track lets Close close a stream. Raft itself forgets the streams that came in.
func (l *layer) track(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	l.conns[conn] = &opened{}
	return &tracked{Conn: conn, layer: l}, nil
}

// Close implements raft.StreamLayer.
func (l *layer) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for conn := range l.conns {
		_ = conn.Close()
	}
	clear(l.conns)
	return l.Listener.Close()
}

type tracked struct {
	net.Conn
	layer *layer
}

func (t *tracked) Close() error {
	t.layer.mu.Lock()
	delete(t.layer.conns, t.Conn)
	t.layer.mu.Unlock()
	return t.Conn.Close()
}

// guarded is a stream that came in and has to show its greeting.
type guarded struct {
	net.Conn
	layer *layer
	once  sync.Once
	err   error
}

func (g *guarded) Read(b []byte) (int, error) {
	g.once.Do(g.greet)
	if g.err != nil {
		return 0, g.err
	}
	return g.Conn.Read(b)
}

func (g *guarded) greet() {
	_ = g.SetDeadline(time.Now().Add(greetWait))
	hello, err := readGreeting(g.Conn)
	if err != nil && !errors.Is(err, errForm) {
		g.err = io.EOF // it never was a stream
		return
	}
	if err == nil {
		err = g.layer.check(g, hello, false)
	}
	if err == nil {
		err = g.layer.admits(hello.from, addrOfConn(g.Conn))
	}
	if err == nil {
		_, err = g.Write(g.layer.self.encode(hello.from))
	}
	if err != nil {
		g.layer.log.Warn("refused "+hostOf(g.RemoteAddr()), "ledger: a raft stream was refused", "peer", g.RemoteAddr().String(), "err", err)
		g.err = io.EOF
		return
	}
	_ = g.SetDeadline(time.Time{})
}

// hostOf returns an address without its port, which differs between streams.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
