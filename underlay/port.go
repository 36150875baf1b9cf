package underlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/loglimit"
	"github.com/weftnet/weft/secret"
)

// Config says where a Port listens.
type Config struct {
	Listen  netip.AddrPort // unspecified address: all of them; port 0: any free one
	Source  netip.Addr     // where streams and datagrams come from, by which others know this host; zero: as Listen
	Network Network        // nil: System
	// Keys are those of the cluster's secrets: without one of them no stream and no datagram of another host's reaches any
	// package, and theirs are encrypted. Nil: the cluster has no secret.
	Keys *secret.Keys
	Log  *slog.Logger // nil: silent
}

// closeWait bounds how long Close waits for handlers that ignore their context.
const closeWait = 5 * time.Second

// Port is one open port number. All methods are safe for concurrent use.
type Port struct {
	network  Network
	addr     netip.AddrPort
	source   netip.Addr
	keys     *secret.Keys
	listener net.Listener
	packets  *Packets
	log      *slog.Logger
	limited  *loglimit.Limiter // bounds the lines that other hosts can cause

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	tasks     sync.WaitGroup
	stats     counters
	pending   pendingConns
	strangers strangers
	slots     *budget // one for each request that is being answered
	bodies    *budget // memory for the bodies of requests and answers that come in

	mu       sync.Mutex
	streams  map[byte]*streamListener
	handlers map[string]Handler
	open     map[net.Conn]struct{} // accepted and not handed over: Close closes them
	closed   bool
}

type counters struct {
	garbage, unserved, overflow, requests, failed, strange, unsealed atomic.Uint64
}

// Stats are counts since Open.
type Stats struct {
	Garbage  uint64 `json:"garbage"`  // streams and frames that no Weft agent sends
	Unserved uint64 `json:"unserved"` // streams of a kind that nobody listens to
	Overflow uint64 `json:"overflow"` // streams dropped because nobody accepted them in time
	Requests uint64 `json:"requests"` // requests answered
	Failed   uint64 `json:"failed"`   // of them, answered with an error
	Strange  uint64 `json:"strange"`  // streams of hosts that show no secret of this one
	Unsealed uint64 `json:"unsealed"` // datagrams that are not sealed with a secret of this host, or came before
}

// Open listens on TCP and UDP and starts to accept. If the port is taken, the error says by
// what and what to do.
func Open(cfg Config) (*Port, error) {
	if cfg.Network == nil {
		cfg.Network = System()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if !cfg.Listen.IsValid() {
		return nil, errors.New("underlay: no address to listen on; want one such as 0.0.0.0:7950")
	}
	listener, packets, err := bind(cfg.Network, cfg.Listen, cfg.Source)
	if err != nil {
		return nil, err
	}
	p := &Port{
		network: cfg.Network, listener: listener, log: cfg.Log, keys: cfg.Keys, strangers: strangers{hosts: map[netip.Addr]stranger{}},
		addr:    netip.AddrPortFrom(cfg.Listen.Addr(), addrPort(listener.Addr()).Port()),
		streams: map[byte]*streamListener{}, handlers: map[string]Handler{nothingRequest: answerNothing}, open: map[net.Conn]struct{}{},
		slots: newBudget(maxRequests, maxRequests/2), limited: loglimit.New(cfg.Log),
		bodies: newBudget(maxBodies, maxBodiesFrom),
		source: cfg.Source,
	}
	p.packets = &Packets{conn: packets, port: p}
	if !p.source.IsValid() {
		p.source = cfg.Listen.Addr()
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.tasks.Go(p.accept)
	return p, nil
}

// Addr returns the address that the port listens on, with the real port number.
func (p *Port) Addr() netip.AddrPort { return p.addr }

// Packets returns the datagram side, which all callers share.
func (p *Port) Packets() *Packets { return p.packets }

// Stats returns a copy of the counters.
func (p *Port) Stats() Stats {
	return Stats{
		Garbage: p.stats.garbage.Load(), Unserved: p.stats.unserved.Load(), Overflow: p.stats.overflow.Load(),
		Requests: p.stats.requests.Load(), Failed: p.stats.failed.Load(),
		Strange: p.stats.strange.Load(), Unsealed: p.stats.unsealed.Load(),
	}
}

// Close stops listening, ends every wait for a stream, a datagram or a request, cancels the
// contexts of handlers and waits for them, at most five seconds. Streams that were handed over
// stay open: their package closes them. Close may be called twice.
func (p *Port) Close() error {
	if !p.markClosed() {
		return nil
	}
	p.cancel()
	err := errors.Join(p.listener.Close(), p.packets.close())
	done := make(chan struct{})
	go func() { p.tasks.Wait(); close(done) }()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-done:
		return err
	case <-timer.C:
		return errors.Join(err, fmt.Errorf("underlay: a request handler ignores its context and still runs %s after Close", closeWait))
	}
}

// markClosed closes everything that can be closed without waiting. It returns false if Close
// was called before.
func (p *Port) markClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.closed = true
	for _, s := range p.streams {
		s.shut()
	}
	for conn := range p.open {
		if g, is := conn.(*pendingConn); is {
			conn = g.Conn // a stream of TLS may wait for the other end to take its last words
		}
		_ = conn.Close()
	}
	return true
}

// adopt makes Close close conn too. It returns false if Close was called before.
func (p *Port) adopt(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.open[conn] = struct{}{}
	return true
}

// release undoes adopt.
func (p *Port) release(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}
