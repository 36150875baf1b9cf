package ipam_test

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/store"
)

//go:embed testdata/*.txt
var recorded embed.FS

// socket serves routes at a unix socket, and returns a function that calls them as dockerd does.
func socket(t testing.TB, routes map[string]rpc.Handler) func(method, body string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft") // t.TempDir() may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	l, err := rpc.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.New(rpc.Config{Routes: routes})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		<-served
		_ = os.RemoveAll(dir)
	})
	return func(method, body string) string {
		resp, err := client.Post("http://plugin.moby.localhost/"+method, "", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return fmt.Sprintf("%d %s", resp.StatusCode, b)
	}
}

// TestRecordedSessions replays recorded calls of engines: lines "METHOD BODY", each followed by a
// line "= ANSWER".
func TestRecordedSessions(t *testing.T) {
	files, err := recorded.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Run(f.Name(), func(t *testing.T) {
			text, err := recorded.ReadFile("testdata/" + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			call := socket(t, start(t, ipamtest.NewLedger(), "host-a").withNetworks().Routes())
			answer := ""
			for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
				line := lines.Text()
				verb, rest, _ := strings.Cut(line, " ")
				switch verb {
				case "", "#":
				case "=":
					if diff := cmp.Diff(rest, answer); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				default:
					answer = call("IpamDriver."+verb, rest)
				}
			}
		})
	}
}

// withNetworks adds a handler for the "CreateNetwork" lines of a session, in place of the driver.
func (r *rig) withNetworks() *withDriver { return &withDriver{r} }

type withDriver struct{ *rig }

// Routes returns the methods of the protocol and the stand-in for the driver's.
func (w *withDriver) Routes() map[string]rpc.Handler {
	routes := w.rig.Routes()
	routes["IpamDriver.-CreateNetwork"] = rpc.Call(func(ctx context.Context, req struct{ Pool string }) (rpc.Empty, error) {
		id, err := ipam.ParsePoolID("weft:" + req.Pool)
		if err != nil {
			return rpc.Empty{}, err
		}
		return rpc.Empty{}, w.NetworkCreated(ctx, strings.ReplaceAll(req.Pool, "/", "-"), []netip.Prefix{id.Subnet}, ipam.BlockBits{})
	})
	return routes
}

func TestGarbageOnTheSocket(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	call := socket(t, r.Routes())
	for _, method := range []string{"RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress"} {
		for _, body := range []string{
			"", "null", "{}", "[]", "{", "\x00", `{"PoolID":7}`, `{"PoolID":"weft"}`, `{"PoolID":"weft:10.0.0.0/99","Address":"x"}`,
			`{"PoolID":"weft:10.0.0.0/8,192.168.0.0/16"}`, `{"AddressSpace":"weft","Pool":"lots"}`, `{"Options":[]}`,
			`{"PoolID":"` + strings.Repeat("x", 1<<16) + `"}`,
		} {
			if got := call("IpamDriver."+method, body); !strings.HasPrefix(got, `400 {"Err":"`) || !strings.Contains(got, `"Error":"`) {
				t.Errorf("%s %.60s: %.200s", method, body, got)
			}
		}
	}
	if inv := r.Inventory(); len(inv) != 0 {
		t.Errorf("something came of it: %+v", inv)
	}
}

func TestFiftyContainersStartAtOnceOverTheSocket(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.network("10.40.0.0/16", "")
	call := socket(t, r.Routes())
	answers := make([]string, 50)
	var wg sync.WaitGroup
	for c := range answers {
		wg.Go(func() {
			answers[c] = call("IpamDriver.RequestAddress", `{"PoolID":"`+id+`","Address":"","Options":null}`)
		})
	}
	wg.Wait()
	slices.Sort(answers)
	if n := len(slices.Compact(answers)); n != 50 || !strings.HasPrefix(answers[0], "200 ") {
		t.Errorf("%d different answers, the first %s", n, answers[0])
	}
}

// BenchmarkRequestAddress measures one request and its release over a socket and a
// synced disk; see store's BenchmarkSync for the limit.
func BenchmarkRequestAddress(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, err := store.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			i, err := ipam.New(ipam.Config{Decisions: ipamtest.NewLedger().Host("host-a"), Disk: s.Bucket("ipam")})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { i.Close(); _ = s.Close() })
			r := &rig{IPAM: i, t: b}
			id := r.network("10.0.0.0/8", "")
			call := socket(b, i.Routes())
			call("IpamDriver.RequestAddress", `{"PoolID":"`+id+`"}`)
			var mu sync.Mutex
			var took []time.Duration
			var wg sync.WaitGroup
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for range (b.N + callers - 1) / callers {
						begin := time.Now()
						got := call("IpamDriver.RequestAddress", `{"PoolID":"`+id+`","Address":"","Options":null}`)
						d := time.Since(begin)
						if !strings.HasPrefix(got, "200") {
							b.Error(got)
						}
						mu.Lock()
						took = append(took, d)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "requests/s")
		})
	}
}
