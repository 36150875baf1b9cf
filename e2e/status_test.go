package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// TestIntegrationEndpointsComeAndGo: every host's report has the endpoints with their names, soon
// after they start and until they stop.
func TestIntegrationEndpointsComeAndGo(t *testing.T) {
	s := onMembers(t)
	two := s.lab.Host(2)
	name := s.network(s.lab.Host(1), "come")
	b := s.run(two, name, "box")
	present := func(name string) func(*api.Report, api.Network) error {
		return func(r *api.Report, n api.Network) error {
			i := slices.IndexFunc(n.Endpoints, func(e api.Endpoint) bool { return e.V4 == b.addr })
			if i < 0 {
				return fmt.Errorf("no endpoint has %s: %+v", b.addr, n.Endpoints)
			}
			if e := n.Endpoints[i]; e.Name != name || r.HostName(e.Host) != two.Name() || len(n.Endpoints) != 1 {
				return fmt.Errorf("%s is %q on %s, one of %d; want %q on %s", b.addr, e.Name, r.HostName(e.Host), len(n.Endpoints), name, two.Name())
			}
			return nil
		}
	}
	absent := func(_ *api.Report, n api.Network) error {
		if len(n.Endpoints) != 0 {
			return fmt.Errorf("endpoints are left: %+v", n.Endpoints)
		}
		return nil
	}
	s.seen(name, present(b.name))
	s.docker(two, "stop", b.name)
	s.seen(name, absent)
	s.docker(two, "start", b.name)
	b.addr = s.addr(two, b.name, name)
	s.seen(name, present(b.name))
	s.docker(two, "network", "disconnect", name, b.name)
	s.seen(name, absent)
	s.docker(two, "network", "connect", name, b.name)
	b.addr = s.addr(two, b.name, name)
	s.seen(name, present(b.name))
	s.docker(two, "kill", b.name)
	s.seen(name, absent)
}

// TestIntegrationStatusCommand runs weft status, as text and as JSON.
func TestIntegrationStatusCommand(t *testing.T) {
	s := onMembers(t)
	name := s.network(s.lab.Host(1), "shown", "--subnet", "10.69.0.0/24")
	boxes := s.runOnAll(name, "box")
	s.seen(name, func(_ *api.Report, n api.Network) error {
		for _, e := range n.Endpoints {
			if e.Name == "" {
				return fmt.Errorf("%s has no name yet", e.V4)
			}
		}
		if len(n.Endpoints) != members {
			return fmt.Errorf("%d endpoints", len(n.Endpoints))
		}
		return nil
	})
	for _, h := range s.members() {
		out, err := h.Exec(t.Context(), s.weft, "status", "--json")
		must(t, err)
		var report api.Report
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		withoutHosts(&report)
		if n, ok := find(&report, name); !ok || len(n.Endpoints) != members || report.Name != h.Name() {
			t.Errorf("weft status --json on %s is of %s and has %+v", h.Name(), report.Name, n)
		}
		text, err := h.Exec(t.Context(), s.weft, "status")
		must(t, err)
		for _, word := range []string{"host1", "host2", "host3", "keepers", name, "10.69.0.0/24", boxes[0].name, boxes[2].addr.String()} {
			if !strings.Contains(text, word) {
				t.Errorf("weft status on %s has no %q:\n%s", h.Name(), word, text)
			}
		}
	}
	s.health(s.lab.Host(1), name)
	if got := s.docker(s.lab.Host(1), "plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"); got != lab.PluginName+" true" {
		t.Errorf("docker plugin ls says %q", got)
	}
}

// health checks what a program reads over HTTP inside a host.
func (s *scene) health(h *lab.Host, network string) {
	s.t.Helper()
	get := func(path string, header ...string) (string, error) {
		return h.Exec(s.t.Context(), append([]string{"busybox", "wget", "-qO-"}, append(header, "http://127.0.0.1:7951"+path)...)...)
	}
	_, err := h.Exec(s.t.Context(), s.weft, "status", "--wait", "ready", "--timeout", "20s")
	must(s.t, err)
	if got, err := get("/health"); err != nil || got != "ready" {
		s.t.Errorf("GET /health: %q, %v", got, err)
	}
	out, err := get("/status")
	must(s.t, err)
	var report api.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	if _, ok := find(&report, network); !ok || report.NotReady != "" {
		s.t.Errorf("GET /status has no %s, or is not ready: %s", network, out)
	}
	if got, err := get("/status", "--header", "Host: evil.example"); err == nil {
		s.t.Errorf("GET /status of another name: %s", got)
	}
}

// agent is the agent's own socket on a host.
func (s *scene) agent(h *lab.Host) api.Client {
	s.t.Helper()
	root, err := h.Root()
	must(s.t, err)
	return api.At(root + api.SocketPath)
}
