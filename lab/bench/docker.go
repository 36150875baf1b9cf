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
// costs as little as it can, since it runs on the processors of whom it asks: it writes
// the request that Docker's client writes, and net/http reads the answer, without the
// goroutines of an http.Client. It is not safe for concurrent use.
type caller struct {
	dial func(context.Context) (net.Conn, error)
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	used time.Time
}

func newCaller(dial func(context.Context) (net.Conn, error)) *caller { return &caller{dial: dial} }

// staleAfter is sooner than servers close a connection that is idle.
const staleAfter = 5 * time.Second

// requestText is a request to a path, with a body of so many bytes.
const requestText = "POST %s HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: %d\r\n" +
	"Accept: application/vnd.docker.plugins.v1.2+json\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n%s"

// ask posts a body and decodes the answer; what is not a success is an error with
// the server's words.
func (c *caller) ask(ctx context.Context, path string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.out = fmt.Appendf(c.out[:0], requestText, path, len(raw), raw)
	status, got, err := c.exchange(ctx)
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

// exchange sends what is in out and reads the answer. After an error the connection is
// of no more use.
func (c *caller) exchange(ctx context.Context) (status int, body []byte, err error) {
	if err := c.connect(ctx); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	c.used = time.Now()
	if resp.Close {
		c.close()
	}
	return resp.StatusCode, body, err
}

// connect makes a connection unless there is one, which waits no longer than ctx.
func (c *caller) connect(ctx context.Context) (err error) {
	if c.conn != nil && time.Since(c.used) > staleAfter {
		c.close()
	}
	if c.conn == nil {
		if c.conn, err = c.dial(ctx); err != nil {
			return err
		}
		c.in = bufio.NewReader(c.conn)
	}
	deadline, _ := ctx.Deadline()
	return c.conn.SetDeadline(deadline)
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
