package consul

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Bounds of what is asked of a Consul agent.
const (
	askTimeout = 4 * time.Second // for one request with its answer
	mostBytes  = 8 << 20         // of an answer; it is not kept in memory as a whole
	mostReason = 300             // bytes of the reason for a refusal that are shown
)

// Files below the state directory, which the managed plugin sees. Neither need exist.
const (
	tokenFile = "consul/token"
	caFile    = "consul/ca.pem"
)

// Dial connects to Consul; nil: as the system does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// client speaks to the Consul agent at a URL.
type client struct {
	url, token string
	http       *http.Client
	transport  *http.Transport
}

// open reads the token and the CA anew, so that a file that is replaced counts at once. close
// ends the connections.
func open(url, state string, dial Dial) (*client, error) {
	token, err := optional(filepath.Join(state, tokenFile))
	if err != nil {
		return nil, err
	}
	authority, err := optional(filepath.Join(state, caFile))
	if err != nil {
		return nil, err
	}
	c := &client{url: url, token: strings.TrimSpace(string(token)), transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	if authority != nil {
		c.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !c.transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(authority) {
			return nil, fmt.Errorf("%s has no certificate in PEM form: put that of the CA there which signed Consul's", filepath.Join(state, caFile))
		}
	}
	c.http = &http.Client{
		Transport: c.transport, Timeout: askTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for no other server
	}
	return c, nil
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// optional reads a file; one that does not exist is empty.
func optional(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// refusal is an answer of Consul that is no success.
type refusal struct {
	status int
	reason string
}

// Error implements error.
func (r *refusal) Error() string {
	return fmt.Sprintf("it answers %d %s: %q", r.status, http.StatusText(r.status), r.reason)
}

// about reports whether the refusal is about what was asked, and others may succeed.
func (r *refusal) about() bool { return r.status >= 400 && r.status < 500 }

// ask sends a request, and hands a successful answer to read.
func (c *client) ask(ctx context.Context, method, path string, body any, read func(io.Reader) error) error {
	var sent io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, sent)
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("X-Consul-Token", c.token)
	}
	resp, err := c.http.Do(req)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("it gives no answer within %v", askTimeout)
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // what was read is judged by read
	if resp.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, mostReason)) // as much of it as there is
		return &refusal{resp.StatusCode, strings.TrimSpace(string(reason))}
	}
	return read(resp.Body)
}

// none reads an answer that says no more than that it succeeded.
func none(io.Reader) error { return nil }

// services returns those services of the Consul agent that some agent of Weft made.
func (c *client) services(ctx context.Context) (has map[string]registered, err error) {
	err = c.ask(ctx, http.MethodGet, "/v1/agent/services", nil, func(r io.Reader) error {
		has, err = ownServices(r)
		return err
	})
	return has, err
}

// ownServices reads the services one by one, so that only one of others is in memory.
func ownServices(r io.Reader) (map[string]registered, error) {
	bounded := &io.LimitedReader{R: r, N: mostBytes}
	has, err := decode(json.NewDecoder(bounded))
	switch {
	case err == nil:
		return has, nil
	case bounded.N <= 0:
		return nil, fmt.Errorf("its list of services is longer than %d MiB", mostBytes>>20)
	default:
		return nil, fmt.Errorf("its list of services cannot be read: %w", err)
	}
}

func decode(d *json.Decoder) (map[string]registered, error) {
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	has := map[string]registered{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		id, _ := key.(string)
		if _, _, ok := splitID(id); !ok {
			var other json.RawMessage
			if err := d.Decode(&other); err != nil {
				return nil, err
			}
			continue
		}
		var s registered
		if err := d.Decode(&s); err != nil {
			return nil, err
		}
		has[id] = s
	}
	_, err := d.Token()
	return has, err
}

// register registers a service, in the place of one that has its id.
func (c *client) register(ctx context.Context, s Service) error {
	return c.ask(ctx, http.MethodPut, "/v1/agent/service/register?replace-existing-checks=true", s, none)
}

// deregister removes a service; one that is not there is no error.
func (c *client) deregister(ctx context.Context, id string) error {
	err := c.ask(ctx, http.MethodPut, "/v1/agent/service/deregister/"+id, nil, none)
	if r := (*refusal)(nil); errors.As(err, &r) && r.status == http.StatusNotFound {
		return nil
	}
	return err
}
