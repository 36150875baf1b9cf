// Package rpctest calls a server of plugin calls without a socket.
package rpctest

import (
	"net/http"
	"net/http/httptest"
)

// Call puts a request to a handler and returns its answer: when that is flushed, which
// is how rpc.Server answers for a call that hangs, or when the handler has ended.
func Call(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := recorder{httptest.NewRecorder(), make(chan struct{})}
	ended := make(chan struct{})
	go func() { // ends with the call, which has a deadline of its own
		defer close(ended)
		h.ServeHTTP(w, r)
	}()
	select {
	case <-w.flushed:
	case <-ended:
	}
	return w.ResponseRecorder
}

// recorder tells of a flush. Nothing may be written after it.
type recorder struct {
	*httptest.ResponseRecorder
	flushed chan struct{}
}

// Flush implements http.Flusher.
func (r recorder) Flush() { close(r.flushed) }
