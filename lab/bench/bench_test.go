package bench

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigNamesTheFlagThatIsWrong(t *testing.T) {
	good := Config{Rounds: 5, Duration: 3 * time.Second, Connections: 1, RoundTrips: 1000, Starts: 3, Addresses: 400}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"--rounds 0, it can be 1 to 100":             func(c *Config) { c.Rounds = 0 },
		"--rounds 101":                               func(c *Config) { c.Rounds = 101 },
		"--duration 10ms, it can be 100ms to 1m":     func(c *Config) { c.Duration = 10 * time.Millisecond },
		"--duration 2m0s":                            func(c *Config) { c.Duration = 2 * time.Minute },
		"--round-trips 1, it can be 100 to 1000000":  func(c *Config) { c.RoundTrips = 1 },
		"--connections 0, it can be 1 to 100":        func(c *Config) { c.Connections = 0 },
		"--starts -1, it can be 1 to 100":            func(c *Config) { c.Starts = -1 },
		"--starts 0, it can be 1 to 100":             func(c *Config) { c.Starts = 0 },
		"--addresses 15, it can be 16 to 2000":       func(c *Config) { c.Addresses = 15 },
		"bench: --round-trips 2000000, it can be 10": func(c *Config) { c.RoundTrips = 2_000_000 },
	} {
		c := good
		spoil(&c)
		if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Over as many rounds as there are paths each has every place in the order once.
func TestTurnsAreFair(t *testing.T) {
	at := map[string][]int{}
	for n := range paths {
		for place, path := range turned(paths, n) {
			at[path] = append(at[path], place)
		}
	}
	for path, places := range at {
		slices.Sort(places)
		if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, places); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if diff := cmp.Diff(turned(paths, 1), turned(paths, 1+len(paths))); diff != "" {
		t.Errorf("turns do not repeat (-want +got):\n%s", diff)
	}
}

func TestEverythingComparedHasATitleAndANetwork(t *testing.T) {
	for _, name := range append(slices.Clone(paths), networks...) {
		if titles[name] == "" || dockerNetwork[name] == "" {
			t.Errorf("%s: title %q, network %q", name, titles[name], dockerNetwork[name])
		}
	}
	for _, name := range slices.Concat(timed, rated, granted, connected) {
		if titles[name] == "" {
			t.Errorf("%s has no title", name)
		}
	}
}

func TestVXLANCommands(t *testing.T) {
	got := vxlanCommands(netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2"), netip.MustParsePrefix("192.0.2.1/24"), "42")
	want := []string{
		"ip link add bare0 mtu 1450 type vxlan id 99 local 10.99.0.1 remote 10.99.0.2 dstport 4790 udpcsum nolearning",
		"ip link set bare0 netns 42",
		"nsenter --net=/proc/42/ns/net ip addr add 192.0.2.1/24 dev bare0",
		"nsenter --net=/proc/42/ns/net ip link set bare0 up",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFirstMask(t *testing.T) {
	for list, want := range map[string]string{"0-1": "1", "\t0-3,8\n": "1", "1": "2", "3,5": "8", "4-7": "10", "130": "400000000000000000000000000000000", "": "1", "none": "1", "-1": "1"} {
		if got := firstMask(list); got != want {
			t.Errorf("the first of %q has the mask %s, want %s", list, got, want)
		}
	}
	if list := strings.TrimSpace(allowedCPUs()); list == "" || strings.ContainsAny(list, "\n:") {
		t.Errorf("this process may run on %q", list)
	}
}

func TestPinned(t *testing.T) {
	want := []string{"taskset", "4", "probe", "serve", "-addr", ":7102"}
	if diff := cmp.Diff(want, pinned("4", "probe", "serve", "-addr", pinnedPort(2))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if freePort(2) == pinnedPort(2) {
		t.Error("both servers of a path have one port")
	}
}

func TestProgressOfARound(t *testing.T) {
	const want = "round 1 of 5: weft 9.5 Gbit/s 11.5 µs, swarm 9.0 Gbit/s 12.0 µs, vxlan 10.0 Gbit/s 10.0 µs, underlay 11.5 Gbit/s 8.0 µs, host 9.5 Gbit/s 11.5 µs; " +
		"docker run 0.50 s on weft, 0.40 s on user-bridge"
	if got := progress(1, 5, example()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFirstField(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{"0.52 0.58 0.59 1/467 12345\n": "0.52", "6.1.0\n": "6.1.0", "\n": "unknown", "": "unknown"} {
		file := filepath.Join(dir, "f")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := firstField(file); got != want {
			t.Errorf("%q: got %q, want %q", content, got, want)
		}
	}
	if got := firstField(filepath.Join(dir, "none")); got != "unknown" {
		t.Errorf("a file that is not there: %q", got)
	}
}

func TestQuantiles(t *testing.T) {
	var took []time.Duration
	for i := 100; i > 0; i-- {
		took = append(took, time.Duration(i)*time.Microsecond)
	}
	if p50, p99 := quantile(took, 50), quantile(took, 99); p50 != 50 || p99 != 99 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
	if got := quantile(took[:1], 99); got != 100 {
		t.Errorf("p99 of one is %v", got)
	}
	if took[0] != 100*time.Microsecond {
		t.Error("what was given is reordered")
	}
}

// TestTheIdleDriverAnswersDocker what it needs to use a driver, and nothing more.
func TestTheIdleDriverAnswersDocker(t *testing.T) {
	for path, want := range map[string]string{
		"/Plugin.Activate":                `{"Implements":["NetworkDriver"]}`,
		"/NetworkDriver.GetCapabilities":  `{"Scope":"local","ConnectivityScope":"local"}`,
		"/NetworkDriver.CreateEndpoint":   "{}",
		"/NetworkDriver.Join":             "{}",
		"/NetworkDriver.DiscoverNew":      "{}",
		"/NetworkDriver.ProgramExternal…": "{}",
	} {
		w := httptest.NewRecorder()
		idle(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}")))
		if w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestACallerTellsWhatTheServerSaid(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"Err":"held by web-2"}`))
			return
		}
		_, _ = w.Write([]byte(`{"Address":"10.201.0.2/16"}`))
	}))
	defer s.Close()
	c := newCaller(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
	})
	defer c.close()
	if addr, took, err := pick(t.Context(), c, poolSubnet); bare(addr) != "10.201.0.2" || took <= 0 || err != nil {
		t.Errorf("%s after %v, %v", addr, took, err)
	}
	if err := c.ask(t.Context(), "/no", nil, nil); err == nil || !strings.Contains(err.Error(), "409") || !strings.Contains(err.Error(), "held by web-2") {
		t.Errorf("a refusal is %v", err)
	}
}

// TestProcessorTimeIsThatOfBothEnds: of this process and of another one.
func TestProcessorTimeIsThatOfBothEnds(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pid, err := listener(t.Context(), func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.Addr().String())
	})
	if pid != os.Getpid() || err != nil {
		t.Errorf("process %d listens, %v; this is %d", pid, err, os.Getpid())
	}
	d := desk{agent: os.Getppid()}
	before, err := d.processor()
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		continue
	}
	if after, err := d.processor(); err != nil || after <= before {
		t.Errorf("%v, then %v, %v", before, after, err)
	}
	d.agent = 1 << 22 // the kernel gives out smaller ones (proc(5), pid_max)
	if _, err := d.processor(); err == nil {
		t.Error("a process that does not exist has run")
	}
}

// TestADocumentWithoutAPlace is refused before anything is measured.
func TestADocumentWithoutAPlace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "README.md")
	c := Config{Rounds: 1, Duration: 1e9, Connections: 1, RoundTrips: 100, Starts: 1, Addresses: 16, Document: name}
	if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
		t.Error(err)
	}
}
