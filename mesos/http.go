package mesos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Bounds of an answer.
const (
	maxRedirects = 3
	maxSaid      = 120 // bytes of an answer that is an error
)

// Client asks Mesos masters and Marathon.
type Client struct {
	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: as usual
	MaxBody int64                                                                // bytes of an answer
}

// Agent is a Mesos agent that is active, or that a newly elected master has not heard of yet.
type Agent struct {
	Hostname  string
	Address   string // with which it registered; its hostname is arbitrary and need not resolve
	Recovered bool   // known from the time before the master's election; it has no Address
}

// Agents returns the agents of a Mesos cluster. A master that does not lead redirects to the one that does.
func (c Client) Agents(ctx context.Context, master *url.URL) ([]Agent, error) {
	var got struct {
		Slaves []struct {
			Hostname    string `json:"hostname"`
			PID         string `json:"pid"` // slave(1)@192.0.2.5:5051
			Active      *bool  `json:"active"`
			Deactivated bool   `json:"deactivated"`
		} `json:"slaves"`
		Recovered []struct {
			Hostname string `json:"hostname"`
		} `json:"recovered_slaves"`
	}
	if err := c.get(ctx, master.JoinPath("slaves"), &got); err != nil {
		return nil, err
	}
	if got.Slaves == nil {
		return nil, errors.New("the answer has no list of agents; is it a Mesos master?")
	}
	var out []Agent
	for _, s := range got.Slaves {
		if s.Deactivated || s.Active != nil && !*s.Active {
			continue
		}
		host, _, err := net.SplitHostPort(s.PID[strings.LastIndex(s.PID, "@")+1:])
		if err != nil {
			host = s.PID
		}
		out = append(out, Agent{Hostname: s.Hostname, Address: host})
	}
	for _, s := range got.Recovered {
		out = append(out, Agent{Hostname: s.Hostname, Recovered: true})
	}
	return out, nil
}

// TaskHosts returns the hosts on which the tasks of a Marathon app run.
func (c Client) TaskHosts(ctx context.Context, marathon *url.URL, app string) ([]string, error) {
	var got struct {
		Tasks []struct {
			Host string `json:"host"`
		} `json:"tasks"`
	}
	if err := c.get(ctx, marathon.JoinPath("v2", "apps", app, "tasks"), &got); err != nil {
		return nil, err
	}
	if got.Tasks == nil {
		return nil, errors.New("the answer has no list of tasks; is it Marathon?")
	}
	var out []string
	for _, task := range got.Tasks {
		out = append(out, task.Host)
	}
	return out, nil
}

// get decodes the JSON at a URL.
func (c Client) get(ctx context.Context, from *url.URL, into any) error {
	return c.do(ctx, http.MethodGet, from, "", into)
}

// do sends a request, with a body of JSON if there is one, and decodes the JSON of the answer.
func (c Client) do(ctx context.Context, method string, at *url.URL, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := http.Client{
		Transport:     &http.Transport{DialContext: c.Dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: follow,
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, maxSaid)) // it only adds to the error
		return fmt.Errorf("%s answers %w: %q", resp.Request.URL.Redacted(), status(resp.StatusCode), said)
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, c.MaxBody)).Decode(into); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w", resp.Request.URL.Redacted(), err)
	}
	return nil
}

// status is an answer that is no success.
type status int

// Error implements error.
func (s status) Error() string { return fmt.Sprintf("%d %s", int(s), http.StatusText(int(s))) }

// follow follows redirects of a master, a limited number of them.
func follow(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || req.URL.Scheme != via[0].URL.Scheme {
		return fmt.Errorf("redirected to %s, the %d. time", req.URL.Redacted(), len(via))
	}
	return nil
}
