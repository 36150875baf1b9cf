package underlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Handler answers one kind of request. ctx ends when the caller no longer waits or the Port
// closes. from is the other end of the connection; its port is not the caller's underlay port.
// A netmap.Refusal reaches the caller unchanged, another error as its text. The handler may
// keep body.
type Handler = func(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error)

// RemoteError is an error that a handler on another host returned.
type RemoteError struct{ Text string }

// Error implements error.
func (e *RemoteError) Error() string { return e.Text }

// Limits of the request side.
const (
	maxRequests = 256              // served at the same time, half of them of one source; more wait as pending streams
	maxPatience = 60 * time.Second // how long a caller may have a handler work
	readWait    = 5 * time.Second  // for the bytes of a request to arrive
	writeWait   = 5 * time.Second  // for the bytes of an answer to leave
)

// Handle serves requests of a name. A later one of the same name replaces it,
// nil withdraws it.
func (p *Port) Handle(name string, h Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h == nil {
		delete(p.handlers, name)
		return
	}
	p.handlers[name] = h
}

// Call sends a request to another host and returns its answer. It ends with ctx, or after ten
// seconds if ctx has no deadline. The error is a *netmap.Refusal or a *RemoteError from the
// handler, or says why the host did not answer. If the connection broke, the request may or may
// not have been carried out.
func (p *Port) Call(ctx context.Context, to netip.AddrPort, name string, body []byte) ([]byte, error) {
	return p.callBy(ctx, func(ctx context.Context) (net.Conn, error) { return p.network.Dial(ctx, p.source, to) }, to, name, body)
}

// Arrives reports whether another host gets so many bytes that are sent in packets of a size at most, headers
// included. Any answer will do, such as that of an earlier release. It is for the system's network.
func (p *Port) Arrives(ctx context.Context, to netip.AddrPort, size, bytes int) bool {
	_, err := p.callBy(ctx, sized(p.source, to, size), to, nothingRequest, make([]byte, bytes))
	_, refused := errors.AsType[*netmap.Refusal](err)
	_, other := errors.AsType[*RemoteError](err)
	return err == nil || refused || other
}

// nothingRequest asks for nothing: that it arrives is all.
const nothingRequest = "nothing"

func answerNothing(context.Context, netip.AddrPort, []byte) ([]byte, error) { return nil, nil }

// callBy is Call by a connection to the host that dial opens.
func (p *Port) callBy(ctx context.Context, dial func(context.Context) (net.Conn, error), to netip.AddrPort, name string, body []byte) ([]byte, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	got, err := p.call(ctx, dial, to, name, body)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	if err == nil {
		body, err = got.result()
	}
	if refusal, ok := errors.AsType[*netmap.Refusal](err); ok {
		return nil, refusal
	}
	if err == nil {
		return body, nil
	}
	return nil, fmt.Errorf("underlay: %s at %s: %w", name, to, err)
}

func (p *Port) call(ctx context.Context, dial func(context.Context) (net.Conn, error), to netip.AddrPort, name string, body []byte) (answer, error) {
	deadline, _ := ctx.Deadline() // bounded has set one
	frame, err := question{patience: time.Until(deadline), name: name, body: body}.encode()
	if err != nil {
		return answer{}, err
	}
	conn, err := p.connect(ctx, to, dial)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	head := prefaceOf(KindRequest)
	if err := writeAll(conn, append(head[:], frame...)); err != nil {
		return answer{}, err
	}
	from, held := sourceOf(conn), 0
	defer func() { p.bodies.give(from, held) }()
	reply, err := readFrame(conn, MaxBody+1, func(n int) error {
		if err := p.bodies.take(ctx, from, n); err != nil {
			return err
		}
		held = n
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return decodeAnswer(reply)
}

// serve answers one request.
func (p *Port) serve(g *pendingConn) {
	defer func() { _ = g.Close() }()
	defer p.release(g)
	held := 0
	defer func() { p.bodies.give(g.from, held) }()
	q, err := p.question(g, &held)
	if err != nil {
		if p.ctx.Err() == nil {
			p.stats.garbage.Add(1)
			p.limited.Warn("a request was refused", "underlay: a request was refused", "peer", g.RemoteAddr().String(), "err", g.why(err))
		}
		return
	}
	if !p.slot(g) {
		return
	}
	defer p.slots.give(g.from, 1)
	g.leave()
	ctx, cancel := context.WithTimeout(p.ctx, min(q.patience, maxPatience))
	defer cancel()
	a := answerOf(p.dispatch(ctx, addrPort(g.RemoteAddr()), q))
	p.stats.requests.Add(1)
	if a.verdict != verdictOK {
		p.stats.failed.Add(1)
	}
	_ = g.SetWriteDeadline(time.Now().Add(writeWait))
	_ = writeAll(g, a.encode()) // the caller sees a broken connection
}

// slot waits until one more request of this source may be served. It returns false if the
// stream ends first.
func (p *Port) slot(g *pendingConn) bool {
	for {
		ok, freed := p.slots.try(g.from, 1)
		if ok {
			return true
		}
		select {
		case <-freed:
		case <-g.sent:
			return false
		case <-p.ctx.Done():
			return false
		}
	}
}

// errCrowded refuses a large request; the other host tries again.
var errCrowded = fmt.Errorf("larger than %d bytes while others as large are received: at most %d MiB at once, %d MiB of one source",
	smallFrame, maxBodies>>20, maxBodiesFrom>>20)

// question reads a request. It sets held to the memory of its body. It does not wait for
// memory, since any number of requests could wait.
func (p *Port) question(g *pendingConn, held *int) (question, error) {
	_ = g.SetReadDeadline(time.Now().Add(readWait))
	frame, err := readFrame(g.over(), requestHead+maxName+MaxBody, func(n int) error {
		if ok, _ := p.bodies.try(g.from, n); !ok {
			return errCrowded
		}
		*held = n
		return nil
	})
	if err != nil {
		return question{}, err
	}
	return decodeQuestion(frame)
}

// dispatch runs the handler. If it panics, dispatch returns an error.
func (p *Port) dispatch(ctx context.Context, from netip.AddrPort, q question) (body []byte, err error) {
	p.mu.Lock()
	h := p.handlers[q.name]
	p.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("request %q is not served here (yet)", q.name)
	}
	defer func() {
		if r := recover(); r != nil {
			p.log.Error("underlay: a request handler panicked", "request", q.name, "peer", from.String(), "err", r, "stack", string(debug.Stack()))
			body, err = nil, fmt.Errorf("request %q failed inside this host's agent; its log says where", q.name)
		}
	}()
	return h(ctx, from, q.body)
}
