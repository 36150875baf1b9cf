package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/status"
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
// identity goes on as another one.
func Run(ctx context.Context, cfg Config, socket string) error {
	for first := true; ; first = false {
		again, err := run(ctx, cfg, socket)
		if failed, ok := errors.AsType[*StartError](err); ok && !first {
			err = fmt.Errorf("plugin: to go on as a new host: %w", failed.Err)
		}
		if err != nil || !again {
			return err
		}
		if cfg.OnReturn != nil {
			cfg.OnReturn()
		}
	}
}

// run is one life of the agent; again says that it gave up its identity.
func run(ctx context.Context, cfg Config, socket string) (again bool, err error) {
	a, err := Open(cfg)
	if err != nil {
		return false, &StartError{err}
	}
	ln, err := rpc.Listen(socket)
	if err != nil {
		return false, &StartError{errors.Join(err, a.Close())}
	}
	srv := rpc.New(rpc.Config{Routes: a.Routes(), Observe: cfg.observe})
	ctx, cancel := context.WithCancelCause(ctx)
	var serving sync.WaitGroup // each removes its socket when it ends
	serving.Go(func() { cancel(srv.Serve(ln)) })
	serving.Go(func() { cancel(status.Serve(ctx, cfg.Settings.HostPath(status.SocketPath), a)) })
	cfg.Log.Info("serving Docker", "socket", socket, "host", a.self, "version", cfg.Version)
	select {
	case <-ctx.Done():
	case <-a.Ended():
		again = true
		cancel(nil)
	}
	ended := context.Cause(ctx)
	if errors.Is(ended, context.Canceled) {
		ended = nil
	}
	limit, done := context.WithTimeout(context.Background(), closeTimeout)
	defer done()
	err = errors.Join(ended, srv.Close(limit), a.Close())
	serving.Wait()
	if err != nil {
		return false, fmt.Errorf("plugin: %w", err)
	}
	return again, nil
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
