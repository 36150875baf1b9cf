package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	work  sync.WaitGroup // handlers, also those that nobody waits for any more

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

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	s.calls.Add(1)
	method := strings.TrimPrefix(r.URL.Path, "/")
	status, answer, err := s.answer(w, r, method)
	if err != nil {
		said := strings.ReplaceAll(err.Error(), "\n", "; ") // of errors that were joined
		answer = failure{Err: said, Error: said}
	}
	body, encErr := json.Marshal(answer)
	if encErr != nil {
		status, body = http.StatusInternalServerError, []byte(`{"Err":"the answer cannot be encoded"}`)
		err = encErr
		s.failed.Add(1)
	}
	w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.2+json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that is gone is told nothing
	s.observe(r.Context(), method, begin, err)
}

func (s *Server) observe(ctx context.Context, method string, begin time.Time, err error) {
	if s.cfg.Observe == nil {
		return
	}
	p, _ := PeerOf(ctx)
	s.cfg.Observe(Done{Method: method, Peer: p, Took: time.Since(begin), Err: err})
}

// failure is an error in the form of both protocols.
type failure struct {
	Err   string
	Error string
}

// answer finds the handler, reads the body and waits for the result.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, method string) (int, any, error) {
	h, known := s.cfg.Routes[method]
	switch {
	case !known:
		s.refused.Add(1)
		return http.StatusNotFound, nil, fmt.Errorf("weft does not know the method %.100q", method)
	case r.Method != http.MethodPost:
		s.refused.Add(1)
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, nil, fmt.Errorf("%s takes POST, not %s", method, r.Method)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.refused.Add(1)
		return http.StatusBadRequest, nil, fmt.Errorf("%s: read the request: %w", method, err)
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.refused.Add(1)
		return http.StatusServiceUnavailable, nil, fmt.Errorf("%s: %d calls are under way already, none was answered yet; try again", method, maxCalls)
	}
	return s.wait(r.Context(), method, h, body)
}

type outcome struct {
	answer   any
	err      error
	panicked bool
}

// wait runs the handler and answers by the deadline whatever it does.
func (s *Server) wait(ctx context.Context, method string, h Handler, body []byte) (int, any, error) {
	// A caller that hangs up does not stop a call in the middle; the deadline does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Deadline)
	done := make(chan outcome, 1)
	s.work.Go(func() {
		defer func() { <-s.slots }()
		defer cancel()
		done <- run(ctx, h, body)
	})
	patience := time.NewTimer(s.cfg.Deadline + grace)
	defer patience.Stop()
	select {
	case o := <-done:
		return s.judge(method, o)
	case <-patience.C:
		s.late.Add(1)
		s.failed.Add(1)
		return http.StatusInternalServerError, nil, fmt.Errorf("%s had no answer within %v; look at weft status, and try again", method, s.cfg.Deadline)
	}
}

// judge counts an outcome and finds its status.
func (s *Server) judge(method string, o outcome) (int, any, error) {
	var bad *BadRequest
	switch {
	case o.err == nil:
		return http.StatusOK, o.answer, nil
	case errors.As(o.err, &bad):
		s.refused.Add(1)
		return http.StatusBadRequest, nil, o.err // Docker puts the method before it
	case o.panicked:
		s.panics.Add(1)
	case errors.Is(o.err, context.DeadlineExceeded):
		s.late.Add(1)
		o.err = fmt.Errorf("%s was not done in time; look at weft status, and try again: %w", method, o.err)
	}
	s.failed.Add(1)
	return http.StatusInternalServerError, nil, o.err
}

// run calls the handler; a panic in it is an error of this call alone.
func run(ctx context.Context, h Handler, body []byte) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = outcome{err: fmt.Errorf("weft failed inside (please report this): %v", p), panicked: true}
		}
	}()
	answer, err := h.call(ctx, body)
	return outcome{answer: answer, err: err}
}
