package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

// agent answers every request about hosts with its own words.
type agent struct {
	refusal error
	end     context.CancelFunc // of the service, by an order; may be nil
}

func (*agent) Report() *api.Report { return sample() }

func (a *agent) NotReady() string {
	if a.refusal != nil {
		return a.refusal.Error()
	}
	return ""
}

func (a *agent) RemoveHost(_ context.Context, r api.Removal) (string, error) {
	word := " if its lease ran out"
	if r.IsOff {
		word = " at once"
	}
	return "removed " + r.Host + word, a.refusal
}

func (a *agent) NewIdentity(_ context.Context, r api.IdentityReset) (string, error) {
	if a.end != nil {
		a.end()
	}
	return fmt.Sprintf("a new host: %+v", r), a.refusal
}

func (a *agent) Leave(_ context.Context, d api.Departure) (string, error) {
	if !d.Force {
		return "", errors.New("web-1 runs")
	}
	return "left", nil
}

func (a *agent) RecoverLedger(_ context.Context, r api.Recovery) (string, error) {
	if len(r.Off) == 0 {
		return "", errors.New("who is off?")
	}
	return fmt.Sprintf("recovered without %s, dry run %v", strings.Join(r.Off, ", "), r.DryRun), nil
}

func (a *agent) History(_ context.Context, q api.HistoryQuery) (*api.History, error) {
	return &api.History{Lines: []api.HistoryLine{{What: "granted", Space: q.Space, Host: q.Host, At: q.Since, Ended: q.Until}}, Missing: []string{"host-9"}}, a.refusal
}

func (a *agent) Connect(_ context.Context, p api.PeerChange) (string, error) {
	return "connected to " + p.Peer, a.refusal
}

func (a *agent) Forget(_ context.Context, p api.PeerChange) (string, error) {
	return "forgot " + p.Peer, a.refusal
}

func (a *agent) AddRange(_ context.Context, r api.Range) (string, error) {
	return "added " + r.Prefix.String(), a.refusal
}

func (a *agent) RemoveNetwork(_ context.Context, r api.NetworkRemoval) (string, error) {
	return fmt.Sprintf("removed %+v", r), a.refusal
}

func (a *agent) AttachEndpoint(_ context.Context, r api.AttachRequest) (*api.Attachment, error) {
	if a.refusal != nil {
		return nil, a.refusal
	}
	return &api.Attachment{Network: 7, Interface: "wfc" + string(r.Endpoint), Addrs: []netip.Prefix{netip.PrefixFrom(r.Addrs[0], 24)}, MTU: 1450}, nil
}

func (a *agent) DetachEndpoint(_ context.Context, r api.DetachRequest) (string, error) {
	return fmt.Sprintf("%s gave up %s", r.Owner, r.Endpoint), a.refusal
}

func (a *agent) AddName(_ context.Context, r api.StaticName) (string, error) {
	return fmt.Sprintf("added %+v", r), a.refusal
}

func (a *agent) RemoveName(_ context.Context, r api.StaticName) (string, error) {
	return fmt.Sprintf("removed %+v", r), a.refusal
}

func (a *agent) ListNames(_ context.Context, q api.NameQuery) ([]api.Name, error) {
	return []api.Name{{Name: "db", Network: q.Network, Source: "alias", Host: "host-a", Addrs: []netip.Addr{netip.MustParseAddr("10.32.0.7")}, Passed: "it is down"}}, a.refusal
}

func (a *agent) LookupName(ctx context.Context, q api.NameQuery) ([]api.NameAnswer, error) {
	names, err := a.ListNames(ctx, q)
	return []api.NameAnswer{{Type: "A", Outcome: "answered", Records: []string{q.Name + ". 5 IN A 10.32.0.7"}, Names: names}}, err
}

// window serves an agent and answers where.
func window(t *testing.T, a api.Agent) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, socket, a) }()
	t.Cleanup(func() { cancel(); <-served })
	if _, err := fetchSoon(t, socket); err != nil {
		t.Fatal(err)
	}
	return socket
}

func TestRemovalsReachTheAgentWhole(t *testing.T) {
	socket := window(t, &agent{})
	for _, c := range []struct {
		r    api.Removal
		want string
	}{
		{api.Removal{Host: "web-2"}, "removed web-2 if its lease ran out"},
		{api.Removal{Host: "web-2", IsOff: true}, "removed web-2 at once"},
	} {
		if got, err := api.At(socket).RemoveHost(t.Context(), c.r); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v; want %q", c.r, got, err, c.want)
		}
	}
}

// TestAnOrderThatEndsTheAgentIsAnswered: the operator hears what happens.
func TestAnOrderThatEndsTheAgentIsAnswered(t *testing.T) {
	for range 20 {
		socket := filepath.Join(t.TempDir(), "agent.sock")
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- api.Serve(ctx, socket, &agent{end: cancel}) }()
		if _, err := fetchSoon(t, socket); err != nil {
			t.Fatal(err)
		}
		got, err := api.At(socket).NewIdentity(t.Context(), api.IdentityReset{Force: true})
		if err != nil || got != "a new host: {Force:true DryRun:false}" {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); err == nil {
			t.Error("the socket is left")
		}
	}
}

func TestPeersReachTheAgent(t *testing.T) {
	socket := window(t, &agent{})
	peer := api.PeerChange{Peer: "exec:cat /etc/peers"}
	if got, err := api.At(socket).Connect(t.Context(), peer); err != nil || got != "connected to exec:cat /etc/peers" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := api.At(socket).Forget(t.Context(), peer); err != nil || got != "forgot exec:cat /etc/peers" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRangesReachTheAgent(t *testing.T) {
	socket := window(t, &agent{})
	got, err := api.At(socket).AddRange(t.Context(), api.Range{Prefix: netip.MustParsePrefix("fd00:5::/48")})
	if err != nil || got != "added fd00:5::/48" {
		t.Errorf("%q, %v", got, err)
	}
	socket = window(t, &agent{refusal: errors.New("overlaps")})
	if _, err := api.At(socket).AddRange(t.Context(), api.Range{}); err == nil || err.Error() != "overlaps" {
		t.Errorf("refused with %v", err)
	}
}

func TestNetworkRemovalsReachTheAgent(t *testing.T) {
	socket := window(t, &agent{})
	got, err := api.At(socket).RemoveNetwork(t.Context(), api.NetworkRemoval{Network: "web", DryRun: true})
	if err != nil || got != "removed {Network:web DryRun:true}" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRefusalsComeAsTheAgentSaidThem(t *testing.T) {
	socket := window(t, &agent{refusal: errors.New("web-2 may hand out addresses for another 3h0m0s")})
	if _, err := api.At(socket).RemoveHost(t.Context(), api.Removal{Host: "web-2"}); err == nil || err.Error() != "web-2 may hand out addresses for another 3h0m0s" {
		t.Errorf("got %v", err)
	}
	if _, err := api.At(socket+"x").RemoveHost(t.Context(), api.Removal{Host: "a"}); !errors.Is(err, api.ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
}

// TestRefusalsKeepTheirKind over the socket, however deep they are wrapped; what is no
// refusal has none.
func TestRefusalsKeepTheirKind(t *testing.T) {
	refusal := fmt.Errorf("ipam: %w", netmap.Refuse(netmap.Held, "10.40.0.7 is held by web-2; choose another address"))
	client := api.At(window(t, &agent{refusal: refusal}))
	_, attached := client.AttachEndpoint(t.Context(), api.AttachRequest{})
	_, ordered := client.DetachEndpoint(t.Context(), api.DetachRequest{})
	_, asked := client.History(t.Context(), api.HistoryQuery{})
	for _, err := range []error{attached, ordered, asked} {
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}) || err.Error() != refusal.Error() {
			t.Errorf("got %v", err)
		}
	}
	_, err := api.At(window(t, &agent{refusal: errors.New("the disk is full")})).DetachEndpoint(t.Context(), api.DetachRequest{})
	if _, refused := errors.AsType[*netmap.Refusal](err); refused || err == nil || err.Error() != "the disk is full" {
		t.Errorf("got %v", err)
	}
}

func TestEndpointsReachTheAgentWhole(t *testing.T) {
	client := api.At(window(t, &agent{}))
	got, err := client.AttachEndpoint(t.Context(), api.AttachRequest{Owner: netmap.OwnerCNI, Network: "web", Endpoint: "e1", Addrs: []netip.Addr{netip.MustParseAddr("10.40.0.7")}})
	if err != nil || got.Interface != "wfce1" || got.Addrs[0].String() != "10.40.0.7/24" || got.MTU != 1450 || got.Network != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	if said, err := client.DetachEndpoint(t.Context(), api.DetachRequest{Owner: netmap.OwnerCNI, Endpoint: "e1"}); err != nil || said != "cni gave up e1" {
		t.Errorf("%q, %v", said, err)
	}
}

// TestWhatNoClientSends: bodies and methods that only a mistake produces.
func TestWhatNoClientSends(t *testing.T) {
	socket := window(t, &agent{})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for body, want := range map[string]int{
		"": 400, "{": 400, "[]": 400, `{"host":"` + strings.Repeat("x", 5000) + `"}`: 400, `{"host":"a"}`: 200,
	} {
		resp, err := client.Post("http://weft/hosts/remove", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%.20q: %s, want %d", body, resp.Status, want)
		}
	}
	resp, err := client.Get("http://weft/hosts/remove")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", resp.Status)
	}
}

func TestDeparturesAndRecoveriesReachTheAgentWhole(t *testing.T) {
	socket := window(t, &agent{})
	if _, err := api.At(socket).Leave(t.Context(), api.Departure{}); err == nil || err.Error() != "web-1 runs" {
		t.Errorf("leave: %v", err)
	}
	if got, err := api.At(socket).Leave(t.Context(), api.Departure{Force: true}); err != nil || got != "left" {
		t.Errorf("leave by force: %q, %v", got, err)
	}
	if _, err := api.At(socket).RecoverLedger(t.Context(), api.Recovery{}); err == nil || err.Error() != "who is off?" {
		t.Errorf("recover: %v", err)
	}
	if got, err := api.At(socket).RecoverLedger(t.Context(), api.Recovery{Off: []string{"b", "c"}, DryRun: true}); err != nil || got != "recovered without b, c, dry run true" {
		t.Errorf("recover: %q, %v", got, err)
	}
}

func TestHistoryIsAskedAndAnsweredWhole(t *testing.T) {
	at := time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC)
	q := api.HistoryQuery{Space: netip.MustParsePrefix("10.40.0.7/32"), Host: "host-b", Since: at, Until: at.Add(time.Hour)}
	got, err := api.At(window(t, &agent{})).History(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if l := got.Lines[0]; l.Space != q.Space || l.Host != "host-b" || !l.At.Equal(at) || !l.Ended.Equal(q.Until) || got.Missing[0] != "host-9" {
		t.Errorf("got %+v", got)
	}
	if _, err := api.At(window(t, &agent{refusal: errors.New("no keeper answers")})).History(t.Context(), q); err == nil || err.Error() != "no keeper answers" {
		t.Errorf("got %v", err)
	}
}

func TestHistoryTextIsForPeople(t *testing.T) {
	at := time.Date(2026, 1, 31, 15, 4, 5, 0, time.Local)
	h := &api.History{
		Lines: []api.HistoryLine{
			{At: at, What: "granted", Space: netip.MustParsePrefix("10.40.0.0/28"), Host: "host-b", Network: "network web"},
			{At: at, Ended: at.Add(time.Hour), What: "endpoint", Space: netip.MustParsePrefix("10.40.0.7/32"), V6: netip.MustParsePrefix("fd40::7/128"), Host: "host-b", Container: "web-2"},
			{What: "removed", Host: "host-b", By: "host-a"},
		},
		Missing: []string{"the containers of host host-c, which does not answer"},
	}
	const want = `TIME                 WHAT      WHERE              HOST    
2026-01-31 15:04:05  granted   10.40.0.0/28       host-b  network web
2026-01-31 15:04:05  endpoint  10.40.0.7 fd40::7  host-b  web-2 until 2026-01-31 16:04:05
-                    removed   -                  host-b  by host-a
missing: the containers of host host-c, which does not answer
`
	var b strings.Builder
	if err := api.HistoryText(&b, h); err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	if err := api.HistoryText(&b, &api.History{}); err != nil || b.String() != "nothing is remembered that matches\n" {
		t.Errorf("%v %q", err, b.String())
	}
	if err := api.HistoryText(brokenWriter{}, h); err == nil {
		t.Error("no error from a writer that fails")
	}
}

// FuzzOrders: whatever somebody sends to the window is carried out or refused in words.
func FuzzOrders(f *testing.F) {
	for i, body := range []string{
		`{"host":"web-1","is_off":true}`, `{"no_other":true}`, `{"prefix":"10.64.0.0/12"}`, `{"force":true}`,
		`{"off":["host-1"],"dry_run":true}`, `{"space":"10.40.0.7/32","host":"web-1","limit":3}`, `{"prefix":"x"}`, `[]`, ``,
	} {
		f.Add(uint8(i), body)
	}
	routes := []string{"/hosts/remove", "/host/new-identity", "/ranges/add", "/host/leave", "/ledger/recover", "/ledger/log", "/endpoints/detach"}
	window := api.Handler(&agent{})
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		w := httptest.NewRecorder()
		window.ServeHTTP(w, httptest.NewRequest(http.MethodPost, routes[int(which)%len(routes)], strings.NewReader(body)))
		var answer struct{ Error string }
		err := json.Unmarshal(w.Body.Bytes(), &answer)
		if err != nil || (w.Code == http.StatusOK) != (answer.Error == "") {
			t.Errorf("%d %q: %d %s", which, body, w.Code, w.Body)
		}
	})
}
