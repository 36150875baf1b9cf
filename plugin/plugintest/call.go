package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/rpc/rpctest"
	"github.com/weftnet/weft/turn"
)

// ErrDown is wrapped by what fails because no plugin answered: Docker dials again
// after 1, 2, 4 and 8 s and then gives up (moby pkg/plugins/client.go).
var ErrDown = errors.New("the plugin does not answer")

// Call is one call to the plugin. Before it is made, what follows Body is empty.
type Call struct {
	Method    string
	Container string // on whose behalf; empty: a network's
	Body      string // the request
	Answer    string // body of the answer; empty if there was none
	Took      time.Duration
	Err       error // nil = success
}

type containerKey struct{}

// of notes on whose behalf calls are made.
func of(ctx context.Context, container string) context.Context {
	return context.WithValue(ctx, containerKey{}, container)
}

// Plugin is one run of an agent, as Docker sees it: its socket is served until Gone is
// closed.
type Plugin struct {
	Handler http.Handler
	Gone    <-chan struct{}
}

// Serve sets the plugin that answers from now on. Calls that have found none so far reach it.
func (e *Engine) Serve(p Plugin) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plugin = p
}

func (e *Engine) serving() (Plugin, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.plugin.Gone:
		return Plugin{}, false
	default:
		return e.plugin, e.plugin.Handler != nil
	}
}

// call makes one call as Docker does, which repeats a call that was cut off in
// the middle without its body.
func (e *Engine) call(ctx context.Context, method string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("plugintest: %w", err)
	}
	c := Call{Method: method, Body: string(body)}
	c.Container, _ = ctx.Value(containerKey{}).(string)
	if e.Before != nil {
		e.Before(c)
	}
	for pause := time.Second; ; pause *= 2 {
		p, up := e.serving()
		if up && body != nil && e.Cut != nil && e.Cut(c) {
			body, up = nil, false
		}
		if up {
			begin := time.Now()
			var answered bool
			if c.Answer, answered, c.Err = e.post(ctx, p, method, body); answered {
				c.Took = time.Since(begin)
				break
			}
			body = nil
		}
		if pause > 8*time.Second || !turn.Sleep(ctx, pause) {
			c.Err = fmt.Errorf("%s: %w", method, ErrDown)
			break
		}
	}
	if c.Err == nil && response != nil {
		c.Err = json.Unmarshal([]byte(c.Answer), response)
	}
	if e.After != nil {
		e.After(c)
	}
	return c.Err
}

// post puts one request to a plugin; answered is false if it was gone before it
// answered.
func (e *Engine) post(ctx context.Context, p Plugin, method string, body []byte) (answer string, answered bool, err error) {
	e.mu.Lock()
	peer := rpc.Peer{PID: int32(e.life), Instance: fmt.Sprintf("dockerd %d of %s", e.life, e.name)}
	e.mu.Unlock()
	request := httptest.NewRequestWithContext(rpc.WithPeer(context.WithoutCancel(ctx), peer), http.MethodPost, "/"+method, bytes.NewReader(body))
	answers := make(chan *httptest.ResponseRecorder, 1)
	go func() { answers <- rpctest.Call(p.Handler, request) }()
	var recorder *httptest.ResponseRecorder
	select {
	case recorder = <-answers:
	case <-p.Gone:
		return "", false, nil
	}
	answer = recorder.Body.String()
	var failure struct{ Err, Error string }
	if err := json.Unmarshal([]byte(answer), &failure); err != nil {
		return answer, true, fmt.Errorf("%s answered %q: %w", method, answer, err)
	}
	if text := failure.Err + failure.Error; recorder.Code != http.StatusOK || text != "" {
		return answer, true, &Refused{Method: method, Text: failure.Err}
	}
	return answer, true, nil
}

// Refused is an error that the plugin answered.
type Refused struct{ Method, Text string }

// Error implements error.
func (r *Refused) Error() string { return r.Text }
