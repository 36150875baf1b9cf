package consul

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/consul/consultest"
)

// eventually waits until look finds nothing wrong.
func eventually(t *testing.T, look func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err := look(); err != nil; err = look() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// overNetwork is a world whose agents reach the network.
func overNetwork(t *testing.T, url string) (w *world, tell func()) {
	w = newWorld(t, "")
	w.dial = new(net.Dialer).DialContext
	r, _ := w.agent(self, url)
	return w, func() { w.run(1, web, nil, r) }
}

// TestTLS: Consul's certificate counts when that of its CA is in the state directory.
func TestTLS(t *testing.T) {
	agent := consultest.New("")
	s := httptest.NewUnstartedServer(agent)
	s.Config.ErrorLog = nil
	s.StartTLS()
	defer s.Close()
	w, tell := overNetwork(t, s.URL)
	tell()
	eventually(t, func() error {
		if p := w.problem(); !strings.Contains(p, "x509") || !strings.Contains(p, "certificate of Consul's CA into "+w.state) {
			return fmt.Errorf("it says %q", p)
		}
		return nil
	})
	path := filepath.Join(w.state, caFile)
	write := func(text []byte) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("no certificate"))
	eventually(t, func() error {
		if p := w.problem(); !strings.Contains(p, path+" has no certificate") {
			return fmt.Errorf("it says %q", p)
		}
		return nil
	})
	write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	eventually(t, func() error {
		if got := agent.Answer("site1.customer1.web"); len(got) != 1 || w.problem() != "" {
			return fmt.Errorf("it answers %q, the problem is %q", got, w.problem())
		}
		return nil
	})
}

// TestRealConsul: the agent's requests and what becomes of them in Consul's own DNS, also beside
// registrator's entry for the same port.
func TestRealConsul(t *testing.T) {
	bin := os.Getenv("CONSUL_BIN")
	if bin == "" {
		t.Skip("CONSUL_BIN is not set to a consul binary: Debian has none, and this repository downloads none")
	}
	const api, dns = "18500", "18600"
	cmd := exec.CommandContext(t.Context(), bin, "agent", "-dev", "-bind=127.0.0.1", "-http-port="+api, "-dns-port="+dns,
		"-grpc-port=-1", "-server-port=18300", "-serf-lan-port=18301", "-serf-wan-port=18302")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	put := func(path, body string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://127.0.0.1:"+api+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
	const registrators = `{"ID":"host:c1:8080","Name":"web","Tags":["site1.customer1"],"Address":"10.32.0.1","Port":8080}`
	eventually(t, func() error { return put("/v1/agent/service/register", registrators) })
	w, tell := overNetwork(t, "http://127.0.0.1:"+api)
	tell()
	dig := func(name, want string) {
		t.Helper()
		eventually(t, func() error {
			out, err := exec.CommandContext(t.Context(), "dig", "+short", "@127.0.0.1", "-p", dns, name, "ANY").Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != want {
				return fmt.Errorf("dig %s: %q, %w, want %q; problem %q", name, got, err, want, w.problem())
			}
			return nil
		})
	}
	has := func(n int) func() error {
		return func() error {
			c, err := open("http://127.0.0.1:"+api, w.state, nil)
			if err != nil {
				return err
			}
			defer c.close()
			if all, err := c.services(t.Context()); err != nil || len(all) != n {
				return fmt.Errorf("%d services of Weft, %w; problem %q", len(all), err, w.problem())
			}
			return nil
		}
	}
	eventually(t, has(1))
	dig("site1.customer1.web.service.dc1.consul", "10.32.0.1") // once, of two registrations
	if err := put("/v1/agent/service/deregister/host:c1:8080", ""); err != nil {
		t.Fatal(err)
	}
	dig("web.service.consul", "10.32.0.1")
	w.stop(1)
	dig("web.service.consul", "")
	eventually(t, has(0))
}
