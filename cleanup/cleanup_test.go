package cleanup

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/consul"
	"github.com/weftnet/weft/consul/consultest"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/member"
	"github.com/weftnet/weft/store"
)

// TestCleanupLeavesAStateDirectoryInUse: an agent that is just starting does not answer
// on its socket yet.
func TestCleanupLeavesAStateDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out bytes.Buffer
	begin := time.Now()
	c := Cleanup{Socket: filepath.Join(t.TempDir(), "agent.sock"), State: dir}
	if err := c.Run(t.Context(), &out); err == nil || !holds(err.Error(), dir, "in use", "process id") || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	if _, err := os.Stat(filepath.Join(dir, store.FileName)); err != nil || out.Len() > 0 {
		t.Errorf("%v, it said %q", err, &out)
	}
}

// TestCleanupTakesWhatAnAgentLeaves beside its socket, and the directory with the last of it.
func TestCleanupTakesWhatAnAgentLeaves(t *testing.T) {
	run := filepath.Join(t.TempDir(), "weft")
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	left := []string{filepath.Join(run, "agent.sock"), filepath.Join(run, member.IncarnationFile), filepath.Join(run, member.ClocksFile)}
	for _, name := range left {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := Cleanup{Socket: left[0], State: filepath.Join(run, "none")}.files()
	if err != nil || !slices.Equal(gone, left) {
		t.Errorf("gone are %q, %v; want %q", gone, err, left)
	}
	if _, err := os.Stat(run); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", run, err)
	}
}

// TestCleanupDeregisters what Consul did not hear from the last agent, and nothing of other hosts.
func TestCleanupDeregisters(t *testing.T) {
	own, others := "weft-aa010000000000000000000000000000-e0e1e2e3e4e5-80-tcp", "weft-bb010000000000000000000000000000-e0e1e2e3e4e5-80-tcp"
	agent := consultest.New("")
	for _, id := range []string{own, others, "host:web:80"} {
		agent.Put(consultest.Service{ID: id, Name: "web"})
	}
	server := httptest.NewServer(agent)
	defer server.Close()
	c := Cleanup{State: t.TempDir(), DryRun: true}
	s, err := store.Open(c.State)
	if err != nil {
		t.Fatal(err)
	}
	const host = "aa010000000000000000000000000000 "
	err = s.Bucket(consul.Bucket).Commit(map[string][]byte{host + server.URL: []byte("1"), host + "http://127.0.0.1:1": []byte("1")})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		c.DryRun = dry
		gone, err := c.services(t.Context())
		if want := []string{"service " + own + " in Consul at " + server.URL}; !slices.Equal(gone, want) {
			t.Errorf("gone are %q", gone)
		}
		if err == nil || !holds(err.Error(), "http://127.0.0.1:1", "weft-aa01", "consul services deregister") {
			t.Errorf("about a Consul that is away it says %v", err)
		}
		if left := agent.Services(); (len(left) == 3) != dry || len(left) < 2 {
			t.Errorf("left are %v", left)
		}
	}
}

// TestCleanupKnowsNetworksByEveryName: the plugin may have been created under any, and be
// disabled or removed.
func TestCleanupKnowsNetworksByEveryName(t *testing.T) {
	state := t.TempDir()
	s, err := store.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bucket("attach").Commit(map[string][]byte{"network/n4": []byte(`{"owner":"docker"}`), "endpoint/n5": []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	const plugins = `[{"Name":"acme/mesh:2","Enabled":false,"Config":{"Interface":{"Socket":"weft.sock"}}},
		{"Name":"acme/other:1","Enabled":true,"Config":{"Interface":{"Socket":"other.sock"}}}]`
	for network, ours := range map[string]bool{
		`{"Id":"n1","Name":"web","Driver":"weftnet/weft:latest"}`:                                              true,
		`{"Id":"n2","Name":"web","Driver":"acme/mesh:2"}`:                                                      true,
		`{"Id":"n3","Name":"web","Driver":"acme/gone:1","Options":{"` + dockerapi.ReplicaOption + `":"7"}}`:    true,
		`{"Id":"n4","Name":"web","Driver":"acme/gone:1"}`:                                                      true,
		`{"Id":"n5","Name":"web","Driver":"acme/other:1"}`:                                                     false,
		`{"Id":"n6","Name":"web","Driver":"bridge","Options":{"` + dockerapi.ReplicaOption + `":"not by us"}}`: false,
	} {
		err := Cleanup{Docker: engine(t, plugins, "["+network+"]"), State: state}.unused(t.Context())
		if ours != (err != nil && holds(err.Error(), "docker has network web of Weft's", "docker network rm web")) {
			t.Errorf("with %s it says %v", network, err)
		}
	}
}

// holds reports whether a text has all of these words.
func holds(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// engine is the socket of a Docker that has these plugins and networks.
func engine(t *testing.T, plugins, networks string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-engine") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/plugins"):
			_, _ = w.Write([]byte(plugins))
		case strings.HasSuffix(r.URL.Path, "/networks"):
			_, _ = w.Write([]byte(networks))
		}
	})}}
	server.Start()
	t.Cleanup(func() {
		server.Close()
		_ = os.RemoveAll(dir)
	})
	return socket
}
