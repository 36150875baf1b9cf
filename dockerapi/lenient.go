package dockerapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
)

// mostBytes bounds the length of an answer: 10,000 networks are 10 MB.
const mostBytes = 64 << 20

var networksPath = regexp.MustCompile(`^(/v[0-9.]+)?/networks(/[^/]+)?$`)

// lenient makes answers about networks readable for the client library, which
// refuses a whole list because of one address that it cannot parse. Engines
// before 28 write the gateway of an IPv6 pool that they chose themselves with its
// prefix length, or as "<nil>" (moby daemon/network.go, buildIpamResources); and
// any driver's network may hold text that is no address at all.
type lenient struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (l lenient) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil || req.Method != http.MethodGet || resp.StatusCode != http.StatusOK || !networksPath.MatchString(req.URL.Path) {
		return resp, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, mostBytes+1))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("dockerapi: answer broke off: %w", err)
	}
	if len(raw) > mostBytes {
		return nil, fmt.Errorf("dockerapi: answer is longer than %d bytes", mostBytes)
	}
	raw = tidy(raw)
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	resp.ContentLength = int64(len(raw))
	return resp, nil
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (l lenient) CloseIdleConnections() { l.next.CloseIdleConnections() }

// tidy rewrites a network or a list of them. It leaves text that is no JSON as it is, so
// that the client library reports the error.
func tidy(raw []byte) []byte {
	var answer any
	if json.Unmarshal(raw, &answer) != nil {
		return raw
	}
	list, ok := answer.([]any)
	if !ok {
		list = []any{answer}
	}
	for _, network := range list {
		tidyNetwork(network)
	}
	out, err := json.Marshal(answer)
	if err != nil {
		return raw
	}
	return out
}

func tidyNetwork(network any) {
	n, _ := network.(map[string]any)
	ipam, _ := n["IPAM"].(map[string]any)
	pools, _ := ipam["Config"].([]any)
	for _, pool := range pools {
		p, _ := pool.(map[string]any)
		tidyField(p, "Subnet", prefixText)
		tidyField(p, "IPRange", prefixText)
		tidyField(p, "Gateway", addrText)
		aux, _ := p["AuxiliaryAddresses"].(map[string]any)
		for name := range aux {
			tidyField(aux, name, addrText)
		}
	}
}

func tidyField(object map[string]any, key string, tidied func(string) string) {
	if v, ok := object[key].(string); ok {
		object[key] = tidied(v)
	}
}

// addrText is the address in v, which may carry a prefix length, or nothing.
func addrText(v string) string {
	if a, err := netip.ParseAddr(v); err == nil {
		return a.String()
	}
	if p, err := netip.ParsePrefix(v); err == nil {
		return p.Addr().String()
	}
	return ""
}

func prefixText(v string) string {
	if p, err := netip.ParsePrefix(v); err == nil {
		return p.String()
	}
	return ""
}
