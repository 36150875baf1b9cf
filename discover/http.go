package discover

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

// Bounds of a master's answer.
const (
	maxBody      = 16 << 20 // bytes; some thousand Mesos agents
	maxRedirects = 3
	maxSaid      = 120 // bytes of an answer that is an error
)

// agents returns the active agents of a Mesos cluster, at the addresses with which they
// registered: their hostnames are arbitrary and need not resolve. A master that does not
// lead redirects to the one that does.
func (p *Peers) agents(ctx context.Context, e Entry) ([]Entry, error) {
	var got struct {
		Slaves []struct {
			PID    string `json:"pid"` // slave(1)@192.0.2.5:5051
			Active *bool  `json:"active"`
		} `json:"slaves"`
	}
	if err := p.get(ctx, e.url.JoinPath("slaves"), &got); err != nil {
		return nil, err
	}
	if got.Slaves == nil {
		return nil, errors.New("the answer has no list of agents; is it a Mesos master?")
	}
	var words []string
	for _, s := range got.Slaves {
		if s.Active != nil && !*s.Active {
			continue
		}
		host, _, err := net.SplitHostPort(s.PID[strings.LastIndex(s.PID, "@")+1:])
		if err != nil {
			host = s.PID
		}
		words = append(words, host)
	}
	return hostsIn(words, p.cfg.Self.Port())
}

// appHosts returns the hosts on which the tasks of a Marathon app run. The ports of the
// tasks are not Weft's.
func (p *Peers) appHosts(ctx context.Context, e Entry) ([]Entry, error) {
	var got struct {
		Tasks []struct {
			Host string `json:"host"`
		} `json:"tasks"`
	}
	base := &url.URL{Scheme: e.url.Scheme, Host: e.url.Host}
	if err := p.get(ctx, base.JoinPath("v2", "apps", e.url.Path, "tasks"), &got); err != nil {
		return nil, err
	}
	if got.Tasks == nil {
		return nil, errors.New("the answer has no list of tasks; is it Marathon?")
	}
	var words []string
	for _, task := range got.Tasks {
		words = append(words, task.Host)
	}
	return hostsIn(words, p.cfg.Self.Port())
}

// get fetches a URL and decodes its JSON.
func (p *Peers) get(ctx context.Context, from *url.URL, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	dialer := net.Dialer{Resolver: p.cfg.Resolver}
	client := http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: follow,
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, maxSaid)) // it only adds to the error
		return fmt.Errorf("%s answers %s: %q", resp.Request.URL, resp.Status, said)
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxBody)).Decode(into); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w", resp.Request.URL, err)
	}
	return nil
}

// follow follows redirects of a master, a limited number of them and only to HTTP.
func follow(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || req.URL.Scheme != "http" {
		return fmt.Errorf("redirected to %s, the %d. time", req.URL, len(via))
	}
	return nil
}
