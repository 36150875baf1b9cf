package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weftnet/weft/lab"
)

// caller asks over a unix socket, on one connection that stays, as Docker does.
type caller struct{ http *http.Client }

func newCaller(dial func(context.Context) (net.Conn, error)) *caller {
	return &caller{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}}
}

// ask posts a body and decodes the answer; what is not a success is an error with
// the server's words.
func (c *caller) ask(ctx context.Context, path string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://socket"+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, bytes.TrimSpace(got))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got, answer)
}

func (c *caller) close() { c.http.CloseIdleConnections() }

// docker is a caller of a host's Docker.
func docker(h *lab.Host) (*caller, error) {
	socket, err := h.DockerSocket()
	return newCaller(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}), err
}

// idleDriver is a network driver that does nothing, so that what is left of docker
// network connect is Docker's own work and its IPAM's.
const idleDriver = "bench-idle"

// serveIdle answers Docker on a host as that driver, until closed.
func serveIdle(h *lab.Host) (io.Closer, error) {
	root, err := h.Root()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "run/docker/plugins")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, idleDriver+".sock"))
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: http.HandlerFunc(idle), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }() // ends when closed
	return s, nil
}

func idle(w http.ResponseWriter, r *http.Request) {
	answer := "{}"
	switch {
	case r.URL.Path == "/Plugin.Activate":
		answer = `{"Implements":["NetworkDriver"]}`
	case strings.HasSuffix(r.URL.Path, ".GetCapabilities"):
		answer = `{"Scope":"local","ConnectivityScope":"local"}`
	}
	w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.1+json")
	_, _ = io.WriteString(w, answer) // else Docker says so
}
