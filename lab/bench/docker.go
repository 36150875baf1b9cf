package bench

import (
	"bufio"
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

// caller asks over a unix socket, on one connection that stays, as Docker does. It
// costs as little as it can, since it runs on the processors of whom it asks: what it
// sends and reads is net/http's, without the goroutines of an http.Client. It is not
// safe for concurrent use.
type caller struct {
	dial func(context.Context) (net.Conn, error)
	conn net.Conn
	in   *bufio.Reader
	used time.Time
}

func newCaller(dial func(context.Context) (net.Conn, error)) *caller { return &caller{dial: dial} }

// staleAfter is sooner than servers close a connection that is idle.
const staleAfter = 5 * time.Second

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
	status, got, err := c.exchange(req)
	switch {
	case err != nil:
		c.close()
		return fmt.Errorf("%s: %w", path, err)
	case status >= 300:
		return fmt.Errorf("%s: %d: %s", path, status, bytes.TrimSpace(got))
	case answer == nil:
		return nil
	}
	return json.Unmarshal(got, answer)
}

// exchange sends a request and reads its answer. After an error the connection is of no
// more use.
func (c *caller) exchange(req *http.Request) (status int, body []byte, err error) {
	if c.conn != nil && time.Since(c.used) > staleAfter {
		c.close()
	}
	if c.conn == nil {
		if c.conn, err = c.dial(req.Context()); err != nil {
			return 0, nil, err
		}
		c.in = bufio.NewReader(c.conn)
	}
	deadline, _ := req.Context().Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return 0, nil, err
	}
	if err := req.Write(c.conn); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(c.in, req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	c.used = time.Now()
	return resp.StatusCode, body, err
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close() // what was to be heard from it was heard
	}
	c.conn = nil
}

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
