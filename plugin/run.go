package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/rpc"
)

// SocketPath is where Docker finds the plugin: dockerd binds it into a managed
// plugin, and looks for it there itself when the agent is a service of the host.
const SocketPath = "/run/docker/plugins/weft.sock"

// closeTimeout is what calls under way get when the agent is told to stop; Docker
// kills it after 10 s.
const closeTimeout = 5 * time.Second

// StartError is why the agent did not begin to serve.
type StartError struct{ Err error }

// Error implements error.
func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *StartError) Unwrap() error { return e.Err }

// Run serves Docker until ctx ends. An error before that is a *StartError. The rooms are opened first: that waits for
// nobody and takes some ten milliseconds, Docker looks for the socket after 500, and
// an agent that cannot open them must not look enabled. A host that gives up its
// identity, or has another underlay address, goes on with a new agent behind the same socket.
func Run(ctx context.Context, cfg Config, socket string) error {
	a, err := Open(cfg)
	if err != nil {
		return &StartError{err}
	}
	ln, err := rpc.Listen(socket)
	if err != nil {
		return &StartError{errors.Join(err, a.Close())}
	}
	f := newHandover()
	srv := rpc.New(rpc.Config{Routes: f.handlers(a), Observe: cfg.observe})
	cfg.calls, a.cfg.calls = srv.Counters, srv.Counters
	ctx, cancel := context.WithCancelCause(ctx)
	var serving sync.WaitGroup
	serving.Go(func() { cancel(srv.Serve(ln)) })
	cfg.Log.Info("serving Docker", "socket", socket, "host", a.self, "version", cfg.Version)
	a, err = f.live(ctx, cfg, a)
	limit, done := context.WithTimeout(context.Background(), closeTimeout)
	defer done()
	err = errors.Join(err, srv.Close(limit))
	if a != nil {
		err = errors.Join(err, a.Close())
	}
	serving.Wait()
	if err != nil {
		return fmt.Errorf("plugin: %w", err)
	}
	return nil
}

// live lets one agent after the other answer until ctx ends, and returns the last one
// for its caller to close.
func (f *handover) live(ctx context.Context, cfg Config, a *Agent) (*Agent, error) {
	for {
		f.open(a)
		again, err := a.show(ctx)
		if err != nil || !again {
			return a, err
		}
		f.shut()
		if err := a.Close(); err != nil {
			a.log.Warn("the agent did not end in order", "err", err)
		}
		if cfg.OnReturn != nil {
			cfg.OnReturn()
		}
		if a, err = Open(cfg); err != nil {
			return nil, fmt.Errorf("to go on with a new agent: %w", err)
		}
		cfg.Log.Info("serving Docker again", "host", a.self)
	}
}

// show serves the agent's own socket and, over HTTP, who may only read, until ctx ends or
// the agent is to be followed by another one.
func (a *Agent) show(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var shown sync.WaitGroup
	shown.Go(func() { cancel(api.Serve(ctx, a.cfg.Settings.HostPath(api.SocketPath), a)) })
	if addr := a.cfg.Settings.Status; addr.IsValid() {
		shown.Go(func() {
			api.ServeLoopback(ctx, addr, a, func(sentence string) { a.problem("status", sentence) })
		})
	}
	select {
	case <-ctx.Done():
	case <-a.Ended():
		again = true
		cancel(nil)
	}
	shown.Wait() // its socket is removed
	if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
		err = nil
	}
	return again, err
}

// observe learns who Docker is and tells of calls that failed.
func (cfg Config) observe(d rpc.Done) {
	if cfg.OnCall != nil {
		cfg.OnCall(d.Peer.PID)
	}
	level := slog.LevelDebug
	if d.Err != nil {
		level = slog.LevelWarn
	}
	cfg.Log.Log(context.Background(), level, "call", "method", d.Method, "took", d.Took, "pid", d.Peer.PID, "err", d.Err)
}
