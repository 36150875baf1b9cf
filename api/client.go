package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// ErrNoAgent is wrapped by all requests when nobody listens on the socket.
var ErrNoAgent = errors.New("no agent answers")

// Bounds of what a client reads, bytes.
const (
	maxReport = 64 << 20
	maxHealth = 64 << 10
)

// Client asks the agent behind a unix socket. An error is the agent's own sentence: a
// *netmap.Refusal of the same kind where the agent refused. It is safe for concurrent use.
type Client struct{ socket string }

// At returns a client of the agent at a socket: SocketPath, below the host's root directory.
func At(socket string) Client { return Client{socket} }

// Report returns what `weft status` shows.
func (c Client) Report(ctx context.Context) (*Report, error) {
	return get[*Report](ctx, c, http.MethodGet, "/status", nil)
}

// NotReady returns why the host cannot serve containers. The sentence is empty if it can.
func (c Client) NotReady(ctx context.Context) (sentence string, err error) {
	resp, err := c.do(ctx, http.MethodGet, "/health", nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxHealth))
	switch {
	case err != nil:
		return "", fmt.Errorf("api: the agent's answer cannot be read: %w", err)
	case resp.StatusCode == http.StatusOK:
		return "", nil
	case resp.StatusCode == http.StatusServiceUnavailable:
		return strings.TrimSpace(string(text)), nil
	}
	return "", fmt.Errorf("api: the agent answers %s; is it of another release?", resp.Status)
}

// RemoveHost removes a host for good. Like every order, it returns a sentence for the operator.
func (c Client) RemoveHost(ctx context.Context, r Removal) (string, error) {
	return c.order(ctx, "/hosts/remove", r)
}

// Connect adds a peer at which the host looks for other hosts.
func (c Client) Connect(ctx context.Context, p PeerChange) (string, error) {
	return c.order(ctx, "/peers/connect", p)
}

// Forget removes a peer at which the host looks for other hosts.
func (c Client) Forget(ctx context.Context, p PeerChange) (string, error) {
	return c.order(ctx, "/peers/forget", p)
}

// NewIdentity gives the host a new identity.
func (c Client) NewIdentity(ctx context.Context, r IdentityReset) (string, error) {
	return c.order(ctx, "/host/new-identity", r)
}

// AddRange adds address space for networks without --subnet.
func (c Client) AddRange(ctx context.Context, r Range) (string, error) {
	return c.order(ctx, "/ranges/add", r)
}

// RemoveNetwork removes a network from all hosts.
func (c Client) RemoveNetwork(ctx context.Context, r NetworkRemoval) (string, error) {
	return c.order(ctx, "/networks/remove", r)
}

// ListNames lists the names on one network, or on all.
func (c Client) ListNames(ctx context.Context, q NameQuery) ([]Name, error) {
	return get[[]Name](ctx, c, http.MethodPost, "/dns/list", q)
}

// LookupName answers as a container on a network is answered, or without a network as the host.
func (c Client) LookupName(ctx context.Context, q NameQuery) ([]NameAnswer, error) {
	return get[[]NameAnswer](ctx, c, http.MethodPost, "/dns/lookup", q)
}

// AddName gives a name to something outside of containers.
func (c Client) AddName(ctx context.Context, r StaticName) (string, error) {
	return c.order(ctx, "/dns/add", r)
}

// RemoveName takes such a name away.
func (c Client) RemoveName(ctx context.Context, r StaticName) (string, error) {
	return c.order(ctx, "/dns/remove", r)
}

// Leave takes the host out of the cluster.
func (c Client) Leave(ctx context.Context, d Departure) (string, error) {
	return c.order(ctx, "/host/leave", d)
}

// RecoverLedger makes the host the keeper of the ledger after a majority of its keepers was
// lost.
func (c Client) RecoverLedger(ctx context.Context, r Recovery) (string, error) {
	return c.order(ctx, "/ledger/recover", r)
}

// History returns a part of the past.
func (c Client) History(ctx context.Context, q HistoryQuery) (*History, error) {
	return get[*History](ctx, c, http.MethodPost, "/ledger/log", q)
}

// AttachEndpoint makes an endpoint for a container that is not Docker's.
func (c Client) AttachEndpoint(ctx context.Context, r AttachRequest) (*Attachment, error) {
	return get[*Attachment](ctx, c, http.MethodPost, "/endpoints/attach", r)
}

// DetachEndpoint deletes what AttachEndpoint made. An unknown endpoint is no error.
func (c Client) DetachEndpoint(ctx context.Context, r DetachRequest) (string, error) {
	return c.order(ctx, "/endpoints/detach", r)
}

// order sends a request that is answered by a sentence.
func (c Client) order(ctx context.Context, route string, what any) (string, error) {
	s, err := get[sentence](ctx, c, http.MethodPost, route, what)
	return s.Text, err
}

// get sends a request and reads the answer, or the error that comes instead.
func get[A any](ctx context.Context, c Client, method, route string, what any) (a A, err error) {
	resp, err := c.do(ctx, method, route, what)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	decode := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxReport))
	if resp.StatusCode == http.StatusOK {
		err = decode.Decode(&a)
	} else {
		var f failure
		if err = decode.Decode(&f); err == nil {
			return a, f.err()
		}
	}
	if err != nil {
		return a, fmt.Errorf("api: the agent's answer (%s) cannot be read; is it of another release? %w", resp.Status, err)
	}
	return a, nil
}

// do sends a request to the agent. The body is JSON, unless it is nil.
func (c Client) do(ctx context.Context, method, route string, what any) (*http.Response, error) {
	var body bytes.Buffer
	if what != nil {
		if err := json.NewEncoder(&body).Encode(what); err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://weft"+route, &body)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("api: %w at %s: is the plugin enabled (docker plugin ls)? (%w)", ErrNoAgent, c.socket, err)
	}
	return resp, nil
}

// sentence is the answer to an order.
type sentence struct {
	Text string `json:"text"`
}

// failure is an error on its way to the client.
type failure struct {
	Error string             `json:"error"`
	Kind  netmap.RefusalKind `json:"kind,omitempty"` // empty: it is no refusal
}

func (f failure) err() error {
	if f.Kind != "" {
		return &netmap.Refusal{Kind: f.Kind, Text: f.Error}
	}
	return errors.New(f.Error)
}

// failed returns the form in which an error is sent: its whole text and the kind of the refusal
// in it.
func failed(err error) failure {
	f := failure{Error: err.Error()}
	if r, ok := errors.AsType[*netmap.Refusal](err); ok {
		f.Kind = r.Kind
	}
	return f
}
