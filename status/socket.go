package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// SocketPath is where the agent listens, below a host's root directory.
const SocketPath = "/run/weft/agent.sock"

// slowest is what the longest order may take.
const slowest = time.Minute

// maxReport bounds what a client reads, bytes.
const maxReport = 64 << 20

// ErrNoAgent is wrapped by all requests when nobody listens on the socket.
var ErrNoAgent = errors.New("no agent answers")

// Agent is what is seen through the window. Its methods may be called concurrently.
type Agent interface {
	Reporter
	// Orders answer a sentence for the operator.
	RemoveHost(ctx context.Context, r Removal) (string, error)
	Connect(ctx context.Context, p PeerChange) (string, error)
	Forget(ctx context.Context, p PeerChange) (string, error)
	NewIdentity(ctx context.Context, r Renunciation) (string, error)
	AddRange(ctx context.Context, r Range) (string, error)
	RemoveNetwork(ctx context.Context, r NetworkRemoval) (string, error)
	Leave(ctx context.Context, d Departure) (string, error)
	RecoverLedger(ctx context.Context, r Recovery) (string, error)
	History(ctx context.Context, q HistoryQuery) (*History, error)
}

// Handler answers GET /status, GET /health and operators' orders. The report is made
// anew for each request.
func Handler(a Agent) http.Handler {
	mux := readOnly(a)
	mux.HandleFunc("POST /hosts/remove", order(a.RemoveHost))
	mux.HandleFunc("POST /peers/connect", order(a.Connect))
	mux.HandleFunc("POST /peers/forget", order(a.Forget))
	mux.HandleFunc("POST /host/new-identity", order(a.NewIdentity))
	mux.HandleFunc("POST /ranges/add", order(a.AddRange))
	mux.HandleFunc("POST /networks/remove", order(a.RemoveNetwork))
	mux.HandleFunc("POST /host/leave", order(a.Leave))
	mux.HandleFunc("POST /ledger/recover", order(a.RecoverLedger))
	mux.HandleFunc("POST /ledger/log", serveHistory(a))
	return mux
}

// Serve answers GET /status, GET /health and operators' orders on a unix socket of mode 0600
// until ctx ends. It replaces a socket that an earlier agent left behind.
func Serve(ctx context.Context, path string, a Agent) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("status: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close() // the chmod error is the one to tell
		return fmt.Errorf("status: %w", err)
	}
	srv := &http.Server{Handler: Handler(a), ReadTimeout: 5 * time.Second, WriteTimeout: slowest}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end(srv)
	})
	err = srv.Serve(ln)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// end lets the answer get out to an order that ends the agent.
func end(srv *http.Server) {
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := srv.Shutdown(limit); err != nil {
		_ = srv.Close() // who has not got its answer by now gets none
	}
}

// Fetch asks the agent behind a unix socket for its report.
func Fetch(ctx context.Context, path string) (*Report, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weft/status", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	resp, err := do(path, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var r Report
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxReport)).Decode(&r); err != nil {
		return nil, fmt.Errorf("status: the agent's answer cannot be read: %w", err)
	}
	return &r, nil
}

// NotReady asks the agent behind a unix socket why its host cannot serve containers. The
// sentence is empty if it can.
func NotReady(ctx context.Context, path string) (sentence string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weft/health", http.NoBody)
	if err != nil {
		return "", fmt.Errorf("status: %w", err)
	}
	resp, err := do(path, req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxAnswer))
	switch {
	case err != nil:
		return "", fmt.Errorf("status: the agent's answer cannot be read: %w", err)
	case resp.StatusCode == http.StatusOK:
		return "", nil
	case resp.StatusCode == http.StatusServiceUnavailable:
		return strings.TrimSpace(string(text)), nil
	}
	return "", fmt.Errorf("status: the agent answers %s; is it of another release?", resp.Status)
}

// do sends a request to the agent behind a unix socket.
func do(path string, req *http.Request) (*http.Response, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("status: %w at %s: is the plugin enabled (docker plugin ls)? (%w)", ErrNoAgent, path, err)
	}
	return resp, nil
}
