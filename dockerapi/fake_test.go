package dockerapi

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a Docker of one API version: it answers from what it was told and
// writes down what it was asked.
type fake struct {
	t      *testing.T
	socket string
	server *httptest.Server

	mu       sync.Mutex
	api      string
	networks []map[string]any
	beside   []map[string]any  // what a user creates just before each POST
	answers  map[string]string // by "METHOD /path" without version: status and body
	calls    []string
	streams  []chan string // open event streams
	hung     chan struct{} // if set, nothing is answered until it is closed
}

func newFake(t *testing.T, api string) *fake {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-fake") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, api: api, socket: filepath.Join(dir, "docker.sock"), answers: map[string]string{}}
	f.answers["GET /plugins"] = `[{"Id":"p","Name":"weftnet/weft:latest","Enabled":true,"Config":{"Interface":{"Socket":"weft.sock","Types":["docker.networkdriver/1.0"]}}},
		{"Id":"q","Name":"other:latest","Enabled":true,"Config":{"Interface":{"Socket":"other.sock","Types":["docker.networkdriver/1.0"]}}},
		{"Id":"r","Name":"weft-old:latest","Enabled":false,"Config":{"Interface":{"Socket":"weft.sock","Types":["docker.networkdriver/1.0"]}}}]`
	t.Cleanup(func() {
		f.stop()
		os.RemoveAll(dir)
	})
	return f
}

func (f *fake) start() {
	f.t.Helper()
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	f.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: f}}
	f.server.Start()
}

// stop is dockerd's end: every connection breaks.
func (f *fake) stop() {
	f.endStreams()
	if f.server != nil {
		f.server.CloseClientConnections()
		f.server.Close()
	}
	f.server = nil
}

func (f *fake) endStreams() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		close(s)
	}
	f.streams = nil
}

// open opens a client on the fake.
func (f *fake) open() *Docker {
	f.t.Helper()
	d, err := Open(Config{Socket: f.socket, Retry: time.Millisecond})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { d.Close() })
	return d
}

// say sends an event to every open stream, and waits until they took it.
func (f *fake) say(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		s <- event
	}
}

func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

var versioned = regexp.MustCompile(`^/v([0-9.]+)(/.*)$`)

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hung := f.hung
	f.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Api-Version", f.api)
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/_ping" {
		return
	}
	m := versioned.FindStringSubmatch(r.URL.Path)
	if m == nil || m[1] != f.api {
		http.Error(w, fmt.Sprintf(`{"message":"path %s, want version %s"}`, r.URL.Path, f.api), http.StatusBadRequest)
		return
	}
	call := r.Method + " " + m[2]
	f.answer(w, r, call)
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request, call string) {
	if call == "GET /events" {
		f.stream(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, strings.TrimSpace(call+" "+r.URL.Query().Get("filters")))
	if said, ok := f.answers[call]; ok {
		status, body := http.StatusOK, said
		if n, err := fmt.Sscanf(said, "%d ", &status); n == 1 && err == nil {
			body = said[4:]
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return
	}
	switch {
	case call == "GET /networks":
		json.NewEncoder(w).Encode(f.networks)
	case call == "POST /networks/create":
		var n map[string]any
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			f.t.Error(err)
		}
		f.networks = append(f.networks, f.beside...)
		n["Id"] = fmt.Sprintf("made-%d", len(f.networks))
		f.networks = append(f.networks, n)
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"Id": n["Id"]})
	case strings.HasPrefix(call, "DELETE /networks/"):
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"no %s"}`, call)
	}
}

func (f *fake) stream(w http.ResponseWriter, r *http.Request) {
	mine := make(chan string)
	f.mu.Lock()
	f.streams = append(f.streams, mine)
	f.calls = append(f.calls, "GET /events "+r.URL.Query().Get("filters"))
	f.mu.Unlock()
	flusher := w.(http.Flusher)
	flusher.Flush()
	for event := range mine {
		fmt.Fprintln(w, event)
		flusher.Flush()
	}
}
