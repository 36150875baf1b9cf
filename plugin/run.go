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

// SocketPath is where Docker looks for the plugin's socket. dockerd mounts the directory into a
// managed plugin.
const SocketPath = "/run/docker/plugins/weft.sock"

// closeTimeout is how long calls that are being served may take when the agent is told to stop.
// Docker kills it after 10 s.
const closeTimeout = 5 * time.Second

// StartError says why the agent did not begin to serve.
type StartError struct{ Err error }

// Error implements error.
func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// Run serves Docker until ctx ends. An error before it serves is a *StartError. It opens the
// agent before the socket: that takes some ten milliseconds, Docker looks for the socket after
// 500, and a plugin whose agent cannot open must not look enabled. When this host resets its
// identity or gets another underlay address, Run replaces the agent behind the same socket.
func Run(ctx context.Context, cfg Config, socket string) error {
	a, err := Open(cfg)
	if err != nil {
		return &StartError{err}
	}
	ln, err := rpc.Listen(socket)
	if err != nil {
		return &StartError{errors.Join(err, a.Close())}
	}
	calls := newHandover()
	srv := rpc.New(rpc.Config{Routes: calls.handlers(a), Observe: cfg.observe})
	cfg.calls, a.cfg.calls = srv.Counters, srv.Counters
	ctx, cancel := context.WithCancelCause(ctx)
	var serving sync.WaitGroup
	serving.Go(func() { cancel(srv.Serve(ln)) })
	cfg.Log.Info("serving Docker", "socket", socket, "host", a.self, "version", cfg.Version)
	a, err = calls.live(ctx, cfg, a)
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

// live serves with one agent after the other until ctx ends. It returns the last one, which the
// caller closes.
func (h *handover) live(ctx context.Context, cfg Config, a *Agent) (*Agent, error) {
	for {
		h.open(a)
		again, err := a.show(ctx)
		if err != nil || !again {
			return a, err
		}
		h.shut()
		if err := a.Close(); err != nil {
			a.log.Warn("the agent did not end in order", "err", err)
		}
		if cfg.OnReturn != nil {
			cfg.OnReturn()
		}
		if a, err = Open(cfg); err != nil {
			return nil, fmt.Errorf("the agent that replaces another one does not start: %w", err)
		}
		cfg.Log.Info("serving Docker again", "host", a.self)
	}
}

// show serves the agent's own socket, and the report over HTTP, until ctx ends or the agent is
// to be replaced.
func (a *Agent) show(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var serving sync.WaitGroup
	serving.Go(func() { cancel(api.Serve(ctx, a.cfg.Settings.HostPath(api.SocketPath), a)) })
	if addr := a.cfg.Settings.Status; addr.IsValid() {
		serving.Go(func() {
			api.ServeLoopback(ctx, addr, a, a.overlays.Handlers(), func(sentence string) { a.problem("status", sentence) })
		})
	}
	select {
	case <-ctx.Done():
	case <-a.Ended():
		again = true
		cancel(nil)
	}
	serving.Wait() // until the socket is removed
	if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
		err = nil
	}
	return again, err
}

// observe passes on who called, and logs calls that failed.
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
