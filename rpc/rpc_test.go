package rpc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/rpc"
)

type greeting struct {
	Name  string
	Times int
	Opts  map[string]string
}

type reply struct{ Text string }

// routes are one handler of each kind of behaviour.
func routes() map[string]rpc.Handler {
	return map[string]rpc.Handler{
		"Test.Greet": rpc.Call(func(_ context.Context, g greeting) (reply, error) {
			return reply{strings.Repeat(g.Name, g.Times)}, nil
		}),
		"Test.Capabilities": rpc.Ask(func(context.Context) (reply, error) { return reply{"can"}, nil }),
		"Test.Fail": rpc.Ask(func(context.Context) (reply, error) {
			return reply{}, errors.Join(errors.New("10.0.0.7 is held by web-2 on host-b"), errors.New("see there"))
		}),
		"Test.Panic":     rpc.Ask(func(context.Context) (reply, error) { panic("at the disco") }),
		"Test.Wait":      rpc.Ask(func(ctx context.Context) (reply, error) { <-ctx.Done(); return reply{}, ctx.Err() }),
		"Test.Late":      rpc.Ask(func(context.Context) (reply, error) { return reply{}, context.DeadlineExceeded }),
		"Test.Hang":      rpc.Ask(func(context.Context) (reply, error) { select {} }),
		"Test.Unsayable": rpc.Ask(func(context.Context) (any, error) { return func() {}, nil }),
		"Test.Peer": rpc.Ask(func(ctx context.Context) (rpc.Peer, error) {
			p, _ := rpc.PeerOf(ctx)
			return p, nil
		}),
	}
}

// serve starts a server on a socket of its own and returns the way to call it.
func serve(t *testing.T, cfg rpc.Config) (*rpc.Server, func(verb, method, body string) (int, string)) {
	t.Helper()
	s, do := serveRequests(t, cfg)
	return s, func(verb, method, body string) (int, string) {
		return do(verb, method, strings.NewReader(body), int64(len(body)))
	}
}

// serveBodies is serve for bodies that are not in memory; a length below zero is not told.
func serveBodies(t *testing.T, cfg rpc.Config) (*rpc.Server, func(method string, body io.Reader, length int64) (int, string)) {
	t.Helper()
	s, do := serveRequests(t, cfg)
	return s, func(method string, body io.Reader, length int64) (int, string) {
		return do("POST", method, body, length)
	}
}

func serveRequests(t *testing.T, cfg rpc.Config) (*rpc.Server, func(verb, method string, body io.Reader, length int64) (int, string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weft.sock")
	l, err := rpc.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.New(cfg)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_ = s.Close(ctx) // one test leaves a call hanging
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, func(verb, method string, body io.Reader, length int64) (int, string) {
		req, err := http.NewRequestWithContext(context.Background(), verb, "http://plugin/"+method, body)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.ContentLength = length
		req.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, string(b)
	}
}

func withoutHang() map[string]rpc.Handler {
	r := routes()
	delete(r, "Test.Hang")
	return r
}

func TestAnswersInDockersForm(t *testing.T) {
	s, call := serve(t, rpc.Config{Routes: withoutHang()})
	for _, c := range []struct {
		story, verb, method, body string
		status                    int
		says                      string
	}{
		{"ordinary", "POST", "Test.Greet", `{"Name":"ho","Times":2}`, 200, `{"Text":"hoho"}`},
		{"fields of a newer Docker", "POST", "Test.Greet", `{"Name":"ho","Times":1,"New":{"a":[1]}}`, 200, `"ho"`},
		{"null options", "POST", "Test.Greet", `{"Name":"ho","Times":1,"Opts":null}`, 200, `"ho"`},
		{"no body where none is needed", "POST", "Test.Capabilities", "", 200, `{"Text":"can"}`},
		{"a body where none is needed", "POST", "Test.Capabilities", "{}", 200, `{"Text":"can"}`},
		{"activation", "POST", "Plugin.Activate", "", 200, `{"Implements":["NetworkDriver","IpamDriver"]}`},
		{"empty body of a repeated call", "POST", "Test.Greet", "", 400, "no body"},
		{"blank body", "POST", "Test.Greet", " \n", 400, "no body"},
		{"null is no object", "POST", "Test.Greet", "null", 400, `begins with 'n'`},
		{"a list is no object", "POST", "Test.Greet", "[]", 400, `begins with '['`},
		{"garbage", "POST", "Test.Greet", "\x00\xff\x01", 400, "want a JSON object"},
		{"cut off", "POST", "Test.Greet", `{"Name":"h`, 400, "unexpected end of JSON input"},
		{"two objects", "POST", "Test.Greet", `{} {}`, 400, "invalid character '{' after top-level value"},
		{"wrong type", "POST", "Test.Greet", `{"Times":"many"}`, 400, "field Times is a JSON string, want int"},
		{"wrong type inside", "POST", "Test.Greet", `{"Opts":{"a":1}}`, 400, "is a JSON number, want string"},
		{"unknown method", "POST", "Test.Dance", `{}`, 404, "does not know the method"},
		{"no method", "POST", "", `{}`, 404, "does not know the method"},
		{"wrong verb", "GET", "Test.Greet", "", 405, "takes POST"},
		{"failure", "POST", "Test.Fail", "", 500, "10.0.0.7 is held by web-2 on host-b; see there"},
		{"panic", "POST", "Test.Panic", "", 500, "at the disco"},
		{"late", "POST", "Test.Late", "", 500, "Test.Late was not done in time"},
		{"unsayable", "POST", "Test.Unsayable", "", 500, "cannot be encoded"},
	} {
		t.Run(c.story, func(t *testing.T) {
			status, body := call(c.verb, c.method, c.body)
			if status != c.status || !strings.Contains(plain(t, status, body), c.says) {
				t.Errorf("answer %d %s\nwant %d saying %q", status, body, c.status, c.says)
			}
		})
	}
	// The library answers the activation itself.
	want := rpc.Counters{Calls: 21, Refused: 12, Failed: 4, Late: 1, Panics: 1}
	if diff := cmp.Diff(want, s.Counters()); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

// TestACallEndsAtItsDeadline: the handler's context ends, and what the handler says then is
// the answer.
func TestACallEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rpc.New(rpc.Config{Routes: routes()})
		w, began := httptest.NewRecorder(), time.Now()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/Test.Wait", nil))
		if took := time.Since(began); took != rpc.DefaultDeadline {
			t.Errorf("it took %v, want %v", took, rpc.DefaultDeadline)
		}
		if got := plain(t, w.Code, w.Body.String()); w.Code != 500 || !strings.Contains(got, "Test.Wait was not done in time") {
			t.Errorf("answer %d %s", w.Code, got)
		}
		if diff := cmp.Diff(rpc.Counters{Calls: 1, Failed: 1, Late: 1}, s.Counters()); diff != "" {
			t.Errorf("counters (-want +got):\n%s", diff)
		}
	})
}

// plain is the text of an error as either of Docker's proxies reads it, or the
// body of a success.
func plain(t *testing.T, status int, body string) string {
	t.Helper()
	if status == http.StatusOK {
		return body
	}
	var f struct{ Err, Error string }
	if err := json.Unmarshal([]byte(body), &f); err != nil || f.Err == "" {
		t.Errorf("error %q has no Err", body)
	}
	return f.Err
}

func TestHandlerThatIgnoresItsDeadlineIsAnsweredFor(t *testing.T) {
	s, call := serve(t, rpc.Config{Routes: routes(), Deadline: 20 * time.Millisecond})
	begin := time.Now()
	status, body := call("POST", "Test.Hang", "")
	if status != 500 || !strings.Contains(body, "Test.Hang had no answer within 20ms") {
		t.Errorf("answer %d %s", status, body)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if c := s.Counters(); c.Late != 1 {
		t.Errorf("counters %+v", c)
	}
}

// TestACallThatIsLateIsAnsweredOnce, and holds up no other: Docker makes a new connection
// while the handler still has the old one. What that says in the end is told to nobody.
func TestACallThatIsLateIsAnsweredOnce(t *testing.T) {
	release := make(chan struct{})
	seen := make(chan rpc.Done, 8)
	s, call := serve(t, rpc.Config{
		Deadline: 20 * time.Millisecond, Observe: func(d rpc.Done) { seen <- d },
		Routes: map[string]rpc.Handler{
			"Test.Slow": rpc.Ask(func(context.Context) (reply, error) { <-release; return reply{"done"}, nil }),
			"Test.Fast": rpc.Ask(func(context.Context) (reply, error) { return reply{"done"}, nil }),
		},
	})
	if status, body := call("POST", "Test.Slow", ""); status != 500 || !strings.Contains(body, "had no answer within") {
		t.Errorf("answer %d %s", status, body)
	}
	if status, body := call("POST", "Test.Fast", ""); status != 200 || body != `{"Text":"done"}` {
		t.Errorf("the next call, while the first one hangs: %d %s", status, body)
	}
	close(release)
	if err := s.Close(t.Context()); err != nil { // waits for the handler
		t.Error(err)
	}
	if c := s.Counters(); c.Calls != 2 || c.Late != 1 || c.Failed != 1 || len(seen) != 2 {
		t.Errorf("counters %+v, %d calls observed", c, len(seen))
	}
}

func TestPeerIsTheCallingProcess(t *testing.T) {
	seen := make(chan rpc.Done, 8)
	_, call := serve(t, rpc.Config{Routes: withoutHang(), Observe: func(d rpc.Done) { seen <- d }})
	_, body := call("POST", "Test.Peer", "")
	var p rpc.Peer
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	if int(p.PID) != os.Getpid() || int(p.UID) != os.Getuid() || !strings.HasPrefix(p.Instance, fmt.Sprintf("%d@", os.Getpid())) {
		t.Errorf("peer %+v, want process %d", p, os.Getpid())
	}
	call("POST", "Test.Fail", "")
	if d := <-seen; d.Method != "Test.Peer" || d.Err != nil || d.Peer != p {
		t.Errorf("observed %+v", d)
	}
	if d := <-seen; d.Method != "Test.Fail" || d.Err == nil {
		t.Errorf("observed %+v", d)
	}
}

func TestCloseLetsCallsEnd(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	s, call := serve(t, rpc.Config{Routes: map[string]rpc.Handler{
		"Test.Slow": rpc.Ask(func(context.Context) (reply, error) {
			close(started)
			<-release
			return reply{"done"}, nil
		}),
	}})
	answered := make(chan string, 1)
	go func() {
		_, body := call("POST", "Test.Slow", "")
		answered <- body
	}()
	<-started
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	close(release)
	if got := <-answered; got != `{"Text":"done"}` {
		t.Errorf("the call under way got %s", got)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestBytesThatAreNoHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weft.sock")
	l, err := rpc.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.New(rpc.Config{})
	go func() { _ = s.Serve(l) }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x16\x03\x01 garbage\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "400") {
		t.Errorf("answer %q, %v", line, err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestListenReplacesADeadSocketOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "weft.sock")
	l, err := rpc.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket is %v, %v", fi.Mode(), err)
	}
	if _, err := rpc.Listen(path); err == nil || !strings.Contains(err.Error(), "served by another agent") {
		t.Errorf("second agent: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as kill -9 leaves it
	_ = l.Close()
	again, err := rpc.Listen(path)
	if err != nil {
		t.Fatalf("after kill -9: %v", err)
	}
	_ = again.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.Listen(path); err == nil {
		t.Error("a plain file was replaced")
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", "{}", "null", `{"Name":"a","Times":2}`, `{"Opts":{"a":"b"}}`, `{"Times":1e99}`, `{} x`, "[", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		g, err := rpc.Decode[greeting](body)
		var bad *rpc.BadRequest
		if err != nil && (!errors.As(err, &bad) || bad.Text == "") {
			t.Errorf("error %v is no BadRequest", err)
		}
		if err == nil && !json.Valid(body) {
			t.Errorf("took %q for %+v", body, g)
		}
	})
}
