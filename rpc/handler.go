package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// AddressSpace is the name under which Weft's IPAM offers its addresses. The
// driver sees it in CreateNetwork and so knows whose addresses it is given.
const AddressSpace = "weft"

// Handler answers the calls of one method. It is safe for concurrent use if the
// function it was made from is.
type Handler struct {
	call func(ctx context.Context, body []byte) (any, error)
}

// Empty is the message without fields.
type Empty struct{}

// BadRequest is an error in the caller's message. The handler has done nothing.
type BadRequest struct{ Text string }

// Error implements error.
func (e *BadRequest) Error() string { return e.Text }

// Call makes a Handler that needs a JSON object as its body. Unknown fields are
// ignored, as newer Dockers send more than older ones; wrong types are named.
func Call[Req, Resp any](f func(context.Context, Req) (Resp, error)) Handler {
	return Handler{call: func(ctx context.Context, body []byte) (any, error) {
		req, err := Decode[Req](body)
		if err != nil {
			return nil, err
		}
		return f(ctx, req)
	}}
}

// Relay makes a Handler that passes the call on: pass may call one Handler after another.
func Relay(pass func(ctx context.Context, call func(Handler) (any, error)) (any, error)) Handler {
	return Handler{call: func(ctx context.Context, body []byte) (any, error) {
		return pass(ctx, func(h Handler) (any, error) { return h.call(ctx, body) })
	}}
}

// Ask makes a Handler for a method whose request has no body. If there is one, it is
// ignored.
func Ask[Resp any](f func(context.Context) (Resp, error)) Handler {
	return Handler{call: func(ctx context.Context, _ []byte) (any, error) { return f(ctx) }}
}

// Decode reads one JSON object. Anything after it is an error.
func Decode[T any](body []byte) (T, error) {
	var v T
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(trimmed) == 0:
		return v, &BadRequest{"the request has no body: Docker had no answer to the same call before, because the agent was ended, and repeats a call without its body; give the docker command again"}
	case trimmed[0] != '{':
		return v, &BadRequest{fmt.Sprintf("the request begins with %q, want a JSON object", trimmed[0])}
	}
	if err := json.Unmarshal(trimmed, &v); err != nil {
		return v, badJSON(err)
	}
	return v, nil
}

// embedded is the part of a field's path that only Go knows: a message that is embedded in
// another one.
var embedded = regexp.MustCompile(`^\w+Request\.`)

func badJSON(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := embedded.ReplaceAllString(wrong.Field, "")
		return &BadRequest{fmt.Sprintf("field %s is a JSON %s, want %s", field, wrong.Value, wrong.Type)}
	}
	return &BadRequest{"the request is not one JSON object: " + err.Error()}
}
