package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// call is one request and its answer. The handler answers, or giveUp does if the handler
// does not end in time.
type call struct {
	*Server
	w        http.ResponseWriter
	r        *http.Request
	conn     *conn // nil without a socket
	method   string
	began    time.Time
	answered sync.Once
}

// outcome is the result of a call.
type outcome struct {
	status   int
	answer   any
	err      error
	panicked bool
}

// failure is the answer with an error, in the form of both protocols.
type failure struct {
	Err   string
	Error string
}

// serve finds the handler, reads the body and calls the handler.
func (c *call) serve() outcome {
	h, known := c.cfg.Routes[c.method]
	switch {
	case !known:
		return c.refuse(http.StatusNotFound, fmt.Errorf("weft does not know the method %.100q", c.method))
	case c.r.Method != http.MethodPost:
		c.w.Header().Set("Allow", http.MethodPost)
		return c.refuse(http.StatusMethodNotAllowed, fmt.Errorf("%s takes POST, not %s", c.method, c.r.Method))
	}
	body, done, o := c.body()
	if o.err != nil {
		return o
	}
	defer done()
	select {
	case c.slots <- struct{}{}:
	default:
		return c.refuse(http.StatusServiceUnavailable, fmt.Errorf("%s: %d calls are under way already, none was answered yet; try again", c.method, maxCalls))
	}
	defer func() { <-c.slots }()
	// A caller that hangs up does not interrupt a call; only the deadline does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.context()), c.cfg.Deadline)
	defer cancel()
	return c.judge(run(ctx, h, body))
}

// body reads the request's body. A large body first waits for its part of the budget, which
// it keeps until done is called. Small ones never wait.
func (c *call) body() (body []byte, done func(), refused outcome) {
	size, done := c.r.ContentLength, func() {}
	if size < 0 || size > maxBody {
		size = maxBody // it is read until it is too long
	}
	if size > smallBody {
		ctx, cancel := context.WithDeadline(context.Background(), c.began.Add(c.cfg.Deadline))
		defer cancel()
		var err error
		if done, err = c.large.take(ctx, size); err != nil {
			return nil, nil, c.refuse(http.StatusServiceUnavailable, fmt.Errorf("%s: %d MiB of other large requests are under way already; try again", c.method, largeUnits*largeUnit>>20))
		}
	}
	body, err := c.read()
	if err != nil {
		done()
		return nil, nil, c.refuse(http.StatusBadRequest, fmt.Errorf("%s: read the request: %w", c.method, err))
	}
	return body, done, outcome{}
}

// read reads the body in one piece if the request has its length, as Docker's do.
func (c *call) read() ([]byte, error) {
	if c.conn != nil {
		_ = c.conn.expect(2 * maxBody) // with the lengths of its parts; a connection that is gone is found out below
	}
	in := http.MaxBytesReader(c.w, c.r.Body, maxBody)
	if size := c.r.ContentLength; 0 <= size && size <= maxBody {
		body := make([]byte, size)
		_, err := io.ReadFull(in, body)
		return body, err
	}
	return io.ReadAll(in)
}

// context returns the context of the call, with the peer in it.
func (c *call) context() context.Context {
	if c.conn == nil {
		return c.r.Context()
	}
	return WithPeer(c.r.Context(), c.conn.peer)
}

// refuse is the outcome of a call that no handler was called for.
func (c *call) refuse(status int, err error) outcome {
	c.refused.Add(1)
	return outcome{status: status, err: err}
}

// run calls the handler and turns a panic in it into an error of this call.
func run(ctx context.Context, h Handler, body []byte) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = outcome{err: fmt.Errorf("weft failed inside (please report this): %v", p), panicked: true}
		}
	}()
	answer, err := h.call(ctx, body)
	return outcome{answer: answer, err: err}
}

// judge counts an outcome and returns its HTTP status.
func (c *call) judge(o outcome) outcome {
	var bad *BadRequest
	switch {
	case o.err == nil:
		o.status = http.StatusOK
		return o
	case errors.As(o.err, &bad):
		return c.refuse(http.StatusBadRequest, o.err) // Docker puts the method before it
	case o.panicked:
		c.panics.Add(1)
	case errors.Is(o.err, context.DeadlineExceeded):
		c.late.Add(1)
		o.err = fmt.Errorf("%s was not done in time; look at weft status, and try again: %w", c.method, o.err)
	}
	c.failed.Add(1)
	return outcome{status: http.StatusInternalServerError, err: o.err}
}

// giveUp answers while the handler still runs, so that Docker does not wait any longer. The
// connection cannot carry another call until the handler ends, so the answer makes Docker
// open a new one.
func (c *call) giveUp() {
	c.answered.Do(func() {
		c.late.Add(1)
		c.failed.Add(1)
		c.w.Header().Set("Connection", "close")
		c.write(http.StatusInternalServerError, nil, fmt.Errorf("%s had no answer within %v; look at weft status, and try again", c.method, c.cfg.Deadline))
		c.flush()
	})
}

func (c *call) flush() {
	_ = http.NewResponseController(c.w).Flush() // a caller that is gone is told nothing
}

// conclude sends the handler's answer, unless it came too late.
func (c *call) conclude(o outcome) {
	c.answered.Do(func() { c.write(o.status, o.answer, o.err) })
}

func (c *call) write(status int, answer any, err error) {
	if err != nil {
		said := strings.ReplaceAll(err.Error(), "\n", "; ") // of errors that were joined
		answer = failure{Err: said, Error: said}
	}
	body, encErr := json.Marshal(answer)
	if encErr != nil {
		status, body = http.StatusInternalServerError, []byte(`{"Err":"the answer cannot be encoded"}`)
		err = encErr
		c.failed.Add(1)
	}
	c.w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.2+json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body))) // else it ends with the handler
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // a caller that is gone is told nothing
	c.observe(err)
}

func (c *call) observe(err error) {
	if c.cfg.Observe == nil {
		return
	}
	p, _ := PeerOf(c.context())
	c.cfg.Observe(Done{Method: c.method, Peer: p, Took: time.Since(c.began), Err: err})
}
