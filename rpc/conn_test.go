package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// impatient is a server with other limits of its connections, and a way to one.
func impatient(t *testing.T, most int, readTimeout, deadline time.Duration) (s *Server, dial func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weft.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s = New(Config{Deadline: deadline, Routes: map[string]Handler{
		"Test.Echo": Call(func(_ context.Context, m struct{ Text string }) (struct{ Text string }, error) { return m, nil }),
	}})
	s.conns = newConns(most, readTimeout)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return s, func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
}

const request = "POST /Test.Echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"

// answer is the first line of what comes, or why nothing does.
func answer(c net.Conn) string {
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// TestConnectionsHaveLimits: silence, slowness and length end a connection, of whatever part
// of a request.
func TestConnectionsHaveLimits(t *testing.T) {
	_, dial := impatient(t, 16, 100*time.Millisecond, time.Minute)
	for story, c := range map[string]struct{ sent, want string }{
		"an ordinary request":     {fmt.Sprintf(request, 2, "{}"), "HTTP/1.1 200 OK"},
		"silence":                 {"", "EOF"},
		"half a header":           {"POST /Test.Echo HTTP/1.1\r\nHost:", "EOF"},
		"half a body":             {fmt.Sprintf(request, 20, "{}"), "HTTP/1.1 400 Bad Request"},
		"half a large body":       {fmt.Sprintf(request, 1<<20, "{}"), "HTTP/1.1 400 Bad Request"},
		"a header that is long":   {"POST /Test.Echo HTTP/1.1\r\nX: " + strings.Repeat("x", 15<<10) + "\r\n" + fmt.Sprintf(request, 2, "{}")[26:], "HTTP/1.1 200 OK"},
		"one that is too long":    {"POST /Test.Echo HTTP/1.1\r\nX: " + strings.Repeat("x", 32<<10), "HTTP/1.1 400 Bad Request"},
		"a body that is too long": {fmt.Sprintf(request, 17<<20, "{}"), "HTTP/1.1 400 Bad Request"},
		"a body in parts":         {"POST /Test.Echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "HTTP/1.1 200 OK"},
	} {
		t.Run(story, func(t *testing.T) {
			conn := dial()
			go func() { _, _ = io.WriteString(conn, c.sent) }() // what is too long is not all read
			if got := answer(conn); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestAnIdleConnectionStays: whoever made a request may make another one at any time later,
// and is to go on with that once it has begun.
func TestAnIdleConnectionStays(t *testing.T) {
	const patience = 100 * time.Millisecond
	_, dial := impatient(t, 16, patience, time.Minute)
	conn := dial()
	in := bufio.NewReader(conn)
	for range 3 {
		if _, err := fmt.Fprintf(conn, request, 2, "{}"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != `{"Text":""}` {
			t.Errorf("%q, %v", b, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(3 * patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the idle connection has %v", err)
		}
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(conn, "POST /Test.Echo HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(in); err != nil || len(b) > 0 {
		t.Errorf("after half a header: %q, %v", b, err)
	}
}

// TestACallAfterShutIsRefusedInWords: the connection of a call that was under way stays open for its answer, and
// dockerd may make the next call over it at once.
func TestACallAfterShutIsRefusedInWords(t *testing.T) {
	s, dial := impatient(t, 16, time.Second, time.Minute)
	s.cfg.Routes["Test.Shut"] = Ask(func(context.Context) (struct{}, error) { return struct{}{}, s.conns.shut() })
	conn := dial()
	in := bufio.NewReader(conn)
	for _, c := range []struct {
		method, body string
		status       int
	}{{"Test.Shut", "{}", http.StatusOK}, {"Test.Echo", "give the docker command again", http.StatusServiceUnavailable}} {
		if _, err := fmt.Fprintf(conn, strings.Replace(request, "Test.Echo", c.method, 1), 2, "{}"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != c.status || !strings.Contains(string(b), c.body) {
			t.Errorf("%s: %s %q, %v", c.method, resp.Status, b, err)
		}
	}
}

// TestAnIdleConnectionMakesRoom for one more than there may be.
func TestAnIdleConnectionMakesRoom(t *testing.T) {
	_, dial := impatient(t, 2, time.Minute, time.Minute)
	for range 5 {
		conn := dial()
		if _, err := fmt.Fprintf(conn, request, 2, "{}"); err != nil {
			t.Fatal(err)
		}
		if got := answer(conn); got != "HTTP/1.1 200 OK" {
			t.Fatal(got)
		}
	}
}

// TestThereAreNotTooManyConnections: one more waits until a silent one has ended.
func TestThereAreNotTooManyConnections(t *testing.T) {
	_, dial := impatient(t, 2, 100*time.Millisecond, time.Minute)
	dial()
	dial()
	late := dial()
	if _, err := fmt.Fprintf(late, request, 2, "{}"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if got := answer(late); got != "HTTP/1.1 200 OK" || time.Since(began) < 50*time.Millisecond {
		t.Errorf("%s after %v", got, time.Since(began))
	}
}
