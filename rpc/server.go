package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the server. Docker gives up on nothing by itself (its client has no
// timeout after a restart of dockerd), so ours must hold.
const (
	DefaultDeadline = 4500 * time.Millisecond
	// grace is what a handler gets beyond its context's end to say why it failed.
	grace    = 200 * time.Millisecond
	maxBody  = 16 << 20 // a container may publish all 65535 ports
	maxCalls = 1024     // dockerd starts 128 containers per CPU at once
)

// Config says what a Server serves.
type Config struct {
	Routes   map[string]Handler // by method, such as "IpamDriver.RequestPool"
	Deadline time.Duration      // for each call; 0 = DefaultDeadline
	// Observe, if set, hears of every call once it is answered; it must not block.
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
	http  http.Server
	slots chan struct{}
	work  sync.WaitGroup // calls, also those that nobody waits for any more

	calls, refused, failed, late, panics atomic.Uint64
}

// New makes a server of both protocols, Plugin.Activate included.
func New(cfg Config) *Server {
	if cfg.Deadline == 0 {
		cfg.Deadline = DefaultDeadline
	}
	s := &Server{cfg: cfg, slots: make(chan struct{}, maxCalls)}
	s.cfg.Routes = maps.Clone(cfg.Routes)
	if s.cfg.Routes == nil {
		s.cfg.Routes = map[string]Handler{}
	}
	s.cfg.Routes["Plugin.Activate"] = Ask(activate)
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       connContext,
	}
	return s
}

func connContext(ctx context.Context, c net.Conn) context.Context {
	if p, ok := peerOf(c); ok {
		ctx = WithPeer(ctx, p)
	}
	return ctx
}

// Manifest is the answer to Plugin.Activate.
type Manifest struct{ Implements []string }

func activate(context.Context) (Manifest, error) {
	return Manifest{Implements: []string{"NetworkDriver", "IpamDriver"}}, nil
}

// Serve answers calls from l until Close; it then returns nil. Several listeners
// may be served at once.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("rpc: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Close stops listening and lets calls under way end until ctx does.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("rpc: calls did not end in time: %w", err), s.http.Close())
	}
	ended := make(chan struct{})
	go func() { s.work.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return err
}

// Counters are the counts so far.
func (s *Server) Counters() Counters {
	return Counters{
		Calls: s.calls.Load(), Refused: s.refused.Load(), Failed: s.failed.Load(),
		Late: s.late.Load(), Panics: s.panics.Load(),
	}
}

// ServeHTTP implements http.Handler. It returns when the handler has ended, which may be
// after the answer was given and flushed.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.work.Add(1)
	defer s.work.Done()
	s.calls.Add(1)
	c := &call{Server: s, w: w, r: r, method: strings.TrimPrefix(r.URL.Path, "/"), began: time.Now()}
	// The handler runs right here, as to pass every call on to a goroutine of its own
	// would cost a tenth of it.
	defer time.AfterFunc(s.cfg.Deadline+grace, c.giveUp).Stop()
	c.conclude(c.serve())
}
