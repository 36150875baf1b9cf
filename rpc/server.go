package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
)

// Limits of the server. Docker's client has no timeout after a restart of dockerd, so the
// server has to keep its own.
const (
	DefaultDeadline = 4500 * time.Millisecond
	// grace is what a handler gets beyond its context's end to say why it failed.
	grace    = 200 * time.Millisecond
	maxCalls = 1024 // dockerd starts 128 containers per CPU at once
)

// manifest is the answer to Plugin.Activate.
const manifest = `{"Implements":["NetworkDriver","IpamDriver"]}`

// Config says what a Server serves.
type Config struct {
	Routes   map[string]Handler // by method, such as "IpamDriver.RequestPool"
	Deadline time.Duration      // for each call; 0 = DefaultDeadline
	// Observe, if set, is called after each answered call; it must not block.
	Observe func(Done)
}

// Done is one call that was answered.
type Done struct {
	Method string
	Peer   Peer
	Took   time.Duration
	Err    error // nil = success
}

// Counters count calls since the start.
type Counters struct {
	Calls   uint64 `json:"calls"`
	Refused uint64 `json:"refused"` // unreadable or unknown; nothing was tried
	Failed  uint64 `json:"failed"`  // answered with an error
	Late    uint64 `json:"late"`    // not done within the deadline
	Panics  uint64 `json:"panics"`
}

// Server answers plugin calls. All methods are safe for concurrent use.
type Server struct {
	cfg   Config
	slots chan struct{} // calls under way
	large budget        // bytes of large bodies
	conns *conns

	calls, refused, failed, late, panics atomic.Uint64
}

// New makes a server of both protocols.
func New(cfg Config) *Server {
	if cfg.Deadline == 0 {
		cfg.Deadline = DefaultDeadline
	}
	return &Server{cfg: cfg, slots: make(chan struct{}, maxCalls), large: newBudget(), conns: newConns(maxConns, readTimeout)}
}

// Serve answers calls from l until Close; it then returns nil. Docker's own library has
// the HTTP server and answers Plugin.Activate. What that server does not bound, the
// connections do.
func (s *Server) Serve(l net.Listener) error {
	if !s.conns.listen(l) {
		return l.Close()
	}
	h := sdk.NewHandler(manifest)
	h.HandleFunc("/", s.ServeHTTP)
	err := h.Serve(listener{l, s.conns})
	select {
	case <-s.conns.closed:
		return nil
	default:
		return fmt.Errorf("rpc: serve %s: %w", l.Addr(), err)
	}
}

// Close stops listening and lets calls under way end until ctx does.
func (s *Server) Close(ctx context.Context) error {
	err := s.conns.shut()
	ended := make(chan struct{})
	go func() { s.conns.work.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	if cut := s.conns.closeAll(); cut > 0 {
		err = errors.Join(err, fmt.Errorf("rpc: %d calls of Docker's did not end in time and were cut off; give their docker commands again: %w", cut, ctx.Err()))
	}
	return err
}

// Counters returns the counts so far.
func (s *Server) Counters() Counters {
	return Counters{
		Calls: s.calls.Load(), Refused: s.refused.Load(), Failed: s.failed.Load(),
		Late: s.late.Load(), Panics: s.panics.Load(),
	}
}

// ServeHTTP implements http.Handler. It returns when the handler has ended, which may be
// after the answer was given and flushed.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _ := r.Context().Value(http.LocalAddrContextKey).(*conn) // nil without a socket
	s.calls.Add(1)
	c := &call{Server: s, w: w, r: r, conn: from, method: strings.TrimPrefix(r.URL.Path, "/"), began: time.Now()}
	if !s.conns.begin(from) { // it came over a connection whose call before this one was under way at shut
		c.conclude(c.refuse(http.StatusServiceUnavailable, fmt.Errorf("%s: the plugin is being stopped and has done nothing; give the docker command again when it is enabled", c.method)))
		return
	}
	defer s.conns.end(from)
	// The handler runs right here, as to pass every call on to a goroutine of its own
	// would cost a tenth of it.
	defer time.AfterFunc(s.cfg.Deadline+grace, c.giveUp).Stop()
	c.conclude(c.serve())
	if from != nil {
		c.flush() // before Close may close the connection
	}
}
