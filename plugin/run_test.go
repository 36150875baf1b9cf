package plugin_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/cleanup"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/underlay/lossy"
)

// ground is a machine's root directory, short enough for sockets.
func ground(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// realConfig is for an agent in real time, with real sockets towards Docker.
func realConfig(root string) plugin.Config {
	addr := netip.MustParseAddr("192.0.2.1")
	return plugin.Config{
		Settings: settings.Settings{
			Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}, Port: 7950, VXLANPort: 4789,
			Name: "host-1", State: "/var/lib/weft", Root: root,
		},
		Version: "test", Kernel: plugintest.NewKernel(addr, 1500), Log: slog.New(slog.DiscardHandler),
		Network: lossy.New(1, lossy.Link{}).Host(addr),
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// post calls a method over the socket.
func post(ctx context.Context, socket, method, body string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weft/"+method, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// awaitReady waits until the agent is ready and serves both sockets.
func awaitReady(t *testing.T, root, socket string) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	for {
		r, err := api.At(filepath.Join(root, api.SocketPath)).Report(ctx)
		if err == nil && r.State == "ready" {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("not ready: %v %+v", err, r)
		}
		runtime.Gosched()
	}
	for method, want := range map[string]string{
		"Plugin.Activate":                    "IpamDriver",
		"NetworkDriver.GetCapabilities":      `"Scope":"local"`,
		"IpamDriver.GetCapabilities":         `"RequiresRequestReplay":true`,
		"IpamDriver.GetDefaultAddressSpaces": `"weft"`,
	} {
		got, err := post(ctx, socket, method, "")
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v %s, want %s", method, err, got, want)
		}
	}
}

// TestRunServesDockerUntilItIsTold: Run serves until its context ends, leaves nothing, and can be called
// again.
func TestRunServesDockerUntilItIsTold(t *testing.T) {
	root := ground(t)
	socket := filepath.Join(root, "plugin", "weft.sock")
	heard := make(chan int32, 64)
	cfg := realConfig(root)
	cfg.OnCall = func(pid int32) {
		select {
		case heard <- pid:
		default:
		}
	}
	before := runtime.NumGoroutine()
	for range 2 {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- plugin.Run(ctx, cfg, socket) }()
		awaitReady(t, root, socket)
		r, err := api.At(filepath.Join(root, api.SocketPath)).Report(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if counted, _ := r.Counters["docker"].(map[string]any); counted["calls"] != float64(3) { // Docker's library answers Plugin.Activate
			t.Errorf("counters: %v", r.Counters)
		}
		if pid := <-heard; int(pid) != os.Getpid() {
			t.Errorf("called by process %d, this is %d", pid, os.Getpid())
		}
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("Run does not end")
		}
		for _, left := range []string{socket, filepath.Join(root, api.SocketPath)} {
			if _, err := os.Stat(left); err == nil {
				t.Errorf("%s is left", left)
			}
		}
	}
	// memberlist's timers are the last to end.
	limit := within(t, time.Minute)
	for runtime.NumGoroutine() > before {
		if limit.Err() != nil {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// failing is a kernel without an underlay.
type failing struct{ plugin.Kernel }

func (failing) Underlay(netip.Addr) (netip.Addr, int, error) {
	return netip.Addr{}, 0, errors.New("no route to anywhere; set WEFT_ADVERTISE")
}

// TestRunSaysWhatIsWrong and frees the socket for the next try.
func TestRunSaysWhatIsWrong(t *testing.T) {
	root := ground(t)
	socket := filepath.Join(root, "weft.sock")
	good := realConfig(root)

	broken := good
	broken.Kernel = failing{good.Kernel}
	state := good
	state.Settings.State = "/file/state"
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		cfg  plugin.Config
		want string
	}{
		"no underlay":            {broken, "WEFT_ADVERTISE"},
		"no place for the state": {state, "state directory"},
	} {
		err := plugin.Run(within(t, 20*time.Second), c.cfg, socket)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		if _, err := os.Stat(socket); err == nil {
			t.Errorf("%s: the socket is left", what)
		}
	}
	if err := os.WriteFile(socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := plugin.Run(within(t, 20*time.Second), good, socket); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("a file in the place of the socket: %v", err)
	}
}

// TestTheSocketOfAnotherAgentIsNotTaken.
func TestTheSocketOfAnotherAgentIsNotTaken(t *testing.T) {
	root := ground(t)
	socket := filepath.Join(root, "weft.sock")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plugin.Run(ctx, realConfig(root), socket) }()
	awaitReady(t, root, socket)
	second := realConfig(ground(t))
	if err := plugin.Run(within(t, 20*time.Second), second, socket); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent: %v", err)
	}
	awaitReady(t, root, socket)
	out := &strings.Builder{}
	clean := cleanup.Cleanup{Socket: filepath.Join(root, api.SocketPath), State: filepath.Join(root, "var/lib/weft")}
	if err := clean.Run(within(t, 20*time.Second), out); err == nil || !strings.Contains(err.Error(), "the agent runs") {
		t.Errorf("cleanup under a running agent: %v %s", err, out)
	}
	dry := clean
	dry.DryRun = true
	if err := dry.Run(within(t, 20*time.Second), out); err != nil || !strings.Contains(out.String(), "would remove") || !strings.Contains(out.String(), "not now: the agent runs") {
		t.Errorf("a dry run under a running agent: %v %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/weft/weft.db")); err != nil {
		t.Errorf("cleanup under a running agent: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestTheLastKnownPlace: at boot Docker may start before the host has an underlay address, and the agent
// uses the last one. If the operator has set another one, the agent uses that or fails.
func TestTheLastKnownPlace(t *testing.T) {
	good := realConfig(ground(t))
	once, err := plugin.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := once.Close(); err != nil {
		t.Fatal(err)
	}
	booting := good
	booting.Kernel = failing{good.Kernel}
	again, err := plugin.Open(booting)
	if err != nil {
		t.Fatalf("without an address yet: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	booting.Settings.Advertise = settings.Advertise{Interface: "eth9"}
	if changed, err := plugin.Open(booting); err == nil || !strings.Contains(err.Error(), "WEFT_ADVERTISE") {
		t.Errorf("with a device that is not there: %v (%v)", err, changed)
	}
}
