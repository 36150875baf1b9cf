package overlays

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// world is a cluster and a Docker that change at a test's word.
type world struct {
	view   *netmap.View
	six    bool
	local  []dockerapi.Network
	made   []dockerapi.ReplicaSpec
	broken error
	gone   []netmap.HostID // that were removed
	refuse error
}

func (w *world) View() *netmap.View { return w.view }
func (w *world) Synced() bool       { return w.view != nil }
func (w *world) Subscribe() (facts, rest <-chan struct{}, cancel func()) {
	return make(chan struct{}), make(chan struct{}), func() {}
}
func (w *world) Networks(context.Context) ([]dockerapi.Network, error) { return w.local, w.broken }
func (w *world) Drivers(context.Context) ([]string, error)             { return []string{"weft"}, w.broken }
func (w *world) OnlyIPv6(context.Context) (bool, error)                { return w.six, w.broken }
func (w *world) CreateReplica(_ context.Context, spec dockerapi.ReplicaSpec) (string, error) {
	w.made = append(w.made, spec)
	return "id", w.broken
}

func (w *world) keeper(t *testing.T, file string) *Keeper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "overlays.json")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	return New(KeeperConfig{
		Path: path, Admin: true, Replicate: true, Facts: w, Docker: w, Devices: devices, NotYet: errors.New("not yet"),
		Say: func(string) {}, Problem: func(string, string) {}, Log: slog.New(slog.DiscardHandler),
		Remove: func(_ context.Context, id netmap.HostID) error {
			if w.refuse == nil {
				w.gone = append(w.gone, id)
				w.view = &netmap.View{Hosts: w.view.Hosts[:1]}
			}
			return w.refuse
		},
	})
}

// TestOldDockerHasNoNetworkOfIPv6Alone: it would give it IPv4 too.
func TestOldDockerHasNoNetworkOfIPv6Alone(t *testing.T) {
	w := &world{view: &netmap.View{}}
	k := w.keeper(t, dcos)
	if err := k.load(); err != nil {
		t.Fatal(err)
	}
	got := k.look(t.Context(), k.loaded(), w.view)
	if s := got["dcos6"]; s.Status != StatusFailed || !strings.Contains(s.Error, "needs Docker 28") {
		t.Errorf("dcos6 is %+v", s)
	}
	if len(w.made) != 1 || w.made[0].Name != "dcos" || w.made[0].Network != 0 || w.made[0].Shown.Options["weft.block"] != "/24" || w.made[0].Shown.IPv6 {
		t.Errorf("made %+v", w.made)
	}
	w.six = true
	if s := k.look(t.Context(), k.loaded(), w.view)["dcos6"]; s.Status != StatusConfiguring || len(w.made) != 3 || w.made[2].Shown.Options["weft.block"] != "/80" || !w.made[2].Shown.IPv6 {
		t.Errorf("dcos6 is %+v of %+v", s, w.made)
	}
	w.broken = errors.New("no answer")
	for _, want := range []string{StatusConfiguring, StatusFailed} { // it may be restarting
		if s := k.look(t.Context(), k.loaded(), w.view)["dcos"]; s.Status != want {
			t.Errorf("without Docker dcos is %+v, want %s", s, want)
		}
	}
}

// TestAgentsAreDeleted: the answer is the state without them, or why it is not.
func TestAgentsAreDeleted(t *testing.T) {
	w := &world{}
	k := w.keeper(t, bare)
	post := func() *httptest.ResponseRecorder {
		out := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/overlay-master/agents/delete", strings.NewReader(`{"agents":["::ffff:10.0.0.2"]}`))
		k.Handlers()["POST /overlay-master/agents/delete"](out, req)
		return out
	}
	if got := post(); got.Code != http.StatusServiceUnavailable {
		t.Errorf("before anything is known: %d %s", got.Code, got.Body)
	}
	if err := k.load(); err != nil {
		t.Fatal(err)
	}
	w.view = &netmap.View{Hosts: []netmap.HostView{hostAt(1, "10.0.0.1", ""), hostAt(2, "10.0.0.2", "")}}
	for refusal, want := range map[netmap.RefusalKind]int{netmap.Held: http.StatusConflict, netmap.NoQuorum: http.StatusServiceUnavailable} {
		w.refuse = netmap.Refuse(refusal, "it lives")
		if got := post(); got.Code != want || !strings.Contains(got.Body.String(), "10.0.0.2: it lives") {
			t.Errorf("%s: %d %s", refusal, got.Code, got.Body)
		}
	}
	w.refuse = nil
	if got := post(); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), `"agents":[{"ip":"10.0.0.1","overlays":[]}]`) || len(w.gone) != 1 || w.gone[0] != (netmap.HostID{2}) {
		t.Errorf("%d %s, removed %v", got.Code, got.Body, w.gone)
	}
}

// TestRunWaitsForTheHostsFiles, which a managed plugin sees once Docker has called.
func TestRunWaitsForTheHostsFiles(t *testing.T) { synctest.Test(t, testRunWaits) }

func testRunWaits(t *testing.T) {
	w := &world{view: &netmap.View{
		Networks: []netmap.Network{{ID: 7, Name: "mz-overlay", Subnets: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}}},
		Subnets:  []netmap.Subnet{{Prefix: netip.MustParsePrefix("192.168.0.0/16"), BlockBits: 24}},
	}, local: []dockerapi.Network{{Name: "mz-overlay", Ours: true}}}
	k := w.keeper(t, bare)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	calls := 0
	k.cfg.InHost = func(fn func() error) error {
		if calls++; calls == 1 {
			return k.cfg.NotYet
		}
		return fn()
	}
	k.cfg.Problem = func(topic, sentence string) {
		if sentence != "" {
			t.Errorf("%s: %s", topic, sentence)
		}
	}
	said := ""
	k.cfg.Say = func(text string) { said = text; cancel() }
	k.Run(ctx)
	if said != `{"mz-overlay":{"status":"STATUS_OK"}}` || calls != 2 {
		t.Errorf("said %s after %d calls", said, calls)
	}
}

// TestCNIConfigurations: the one of an operator and of another plugin stays, and nothing is left half written.
func TestCNIConfigurations(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/b")
	for _, name := range []string{"new", "own", "bridge", "broken"} {
		path := filepath.Join(dir, name+".conf")
		before, refused := map[string]string{"own": `{"type":"weft-cni","dns":{}}`, "bridge": `{"type":"bridge"}`, "broken": "{"}[name], map[string]string{"bridge": `is of another CNI plugin ("bridge"), and stays`, "broken": "another CNI plugin"}[name]
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := writeCNI(dir, name)
		if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
			t.Errorf("%s: %v, want %q", name, err, refused)
		}
		after, err := os.ReadFile(path)
		if err != nil || before != "" && string(after) != before {
			t.Errorf("%s is %q, %v", name, after, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeCNI(filepath.Join(dir, "file"), "new"); err == nil {
		t.Error("a directory that is a file is no error")
	}
	for path, want := range map[string]string{dir: "is no file", filepath.Join(dir, "none"): "no such file"} {
		if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
