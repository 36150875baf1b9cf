package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/weftnet/weft/turn"
)

// Bounds of the HTTP server, which every process of the host can reach.
const (
	maxConns    = 64      // the others wait in the kernel's queue
	maxHeader   = 8 << 10 // bytes
	headerLimit = 5 * time.Second
	answerLimit = 10 * time.Second
	idleLimit   = 30 * time.Second
)

// listenPause is how long after a failed try the server tries to listen again.
const listenPause = time.Second

// Reporter is the readable part of an Agent. Its methods may be called concurrently.
type Reporter interface {
	Report() *Report
	// NotReady says in one sentence why this host cannot serve containers now. It is
	// empty if the host can. It costs much less than a report.
	NotReady() string
}

// ServeLoopback answers GET /status and GET /health over HTTP at a loopback address until
// ctx ends, and what more has, by pattern. Nobody can change anything over the first two. While it cannot listen, it tries again
// every second and passes the reason to problem, which gets an empty sentence once
// the server listens.
func ServeLoopback(ctx context.Context, addr netip.AddrPort, r Reporter, more map[string]http.HandlerFunc, problem func(sentence string)) {
	var by holder
	for {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr.String())
		if err == nil {
			problem("")
			err = serveLoopback(ctx, ln, r, more)
		}
		if ctx.Err() != nil {
			return
		}
		problem(by.explain(addr, err))
		if !turn.Sleep(ctx, listenPause) {
			return
		}
	}
}

func serveLoopback(ctx context.Context, ln net.Listener, r Reporter, more map[string]http.HandlerFunc) error {
	mux := readOnly(r)
	for pattern, handler := range more {
		mux.HandleFunc(pattern, handler)
	}
	srv := &http.Server{
		Handler: literalHosts(mux), MaxHeaderBytes: maxHeader,
		ReadTimeout: headerLimit, WriteTimeout: answerLimit, IdleTimeout: idleLimit,
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // Serve returns, which is all that is wanted
	defer stop()
	return srv.Serve(netutil.LimitListener(ln, maxConns))
}

// explain says why the server does not listen and what to do.
func (h *holder) explain(addr netip.AddrPort, err error) string {
	why := err.Error()
	if errors.Is(err, syscall.EADDRINUSE) {
		why = h.of(addr) + " listens at this address"
	}
	return fmt.Sprintf("WEFT_STATUS=%s: %s, so GET /status and GET /health are not served; everything else works. Stop it, or set WEFT_STATUS to another port of 127.0.0.1, or to nothing; until then the agent tries again every %v", addr, why, listenPause)
}

// readOnly answers GET /status and GET /health. One report is made at a time: in a large
// cluster each costs memory.
func readOnly(r Reporter) *http.ServeMux {
	one := turn.New()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, req *http.Request) {
		end, err := one.WaitWithin(req.Context())
		if err != nil {
			return // the client has gone
		}
		report := r.Report()
		end()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(report) // the client has gone: nothing to do
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		why := r.NotReady()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if why != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			why = "ready"
		}
		fmt.Fprintln(w, oneLine(why))
	})
	return mux
}

// literalHosts refuses requests for a host that is named, other than localhost. A web page
// can have its own name resolve to 127.0.0.1 and then read what is served there with the
// user's browser (DNS rebinding); the Host header has the page's name then.
func literalHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !literal(req.Host) {
			http.Error(w, "this is served to 127.0.0.1, [::1] and localhost only, not to a host of another name", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// literal reports whether a Host header has an address or localhost. HTTP/1.0 has none.
func literal(header string) bool {
	host, _, err := net.SplitHostPort(header)
	if err != nil { // it has no port
		host = strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
	}
	_, err = netip.ParseAddr(host)
	return err == nil || host == "" || strings.EqualFold(host, "localhost")
}
