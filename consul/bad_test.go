package consul

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/consul/consultest"
	"github.com/weftnet/weft/netmap"
)

// TestBadConsul is bounded in time and memory, said with what to do, and over when it is mended.
func TestBadConsul(t *testing.T) {
	long := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for range 100 << 20 / 1024 {
				if _, err := w.Write([]byte(text)); err != nil {
					return
				}
			}
		}
	}
	kilobyte := strings.Repeat("x", 1024)
	for story, c := range map[string]struct {
		how  http.HandlerFunc
		says []string
	}{
		"500": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no disk\x1b[2J", http.StatusInternalServerError)
		}, []string{"500", `no disk\x1b[2J`, "log of Consul"}},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []string{"no answer within 4s", "start this host's Consul agent"}},
		"hangs later": {func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("{"))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, []string{"cannot be read"}},
		"a long list": {long(`"a":` + kilobyte), []string{"cannot be read"}},
		"a long name": {func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(`{"`)); long(kilobyte)(w, r) }, []string{"longer than 8 MiB"}},
		"long blanks": {long(strings.Repeat(" ", 1024)), []string{"longer than 8 MiB"}},
		"a long 500": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			long(kilobyte)(w, r)
		}, []string{"500"}},
		"a list": {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("[]")) }, []string{"no JSON object"}},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:8510"+r.URL.Path, http.StatusTemporaryRedirect)
		}, []string{"307"}},
		"no token": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Permission denied", http.StatusForbidden) }, []string{"403", "/consul/token", "service:write"}},
	} {
		t.Run(story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "")
				w.consul.Break(c.how)
				r, _ := w.agent(self, url)
				w.run(1, web, nil, r)
				within(askTimeout + time.Second)
				for _, word := range append(c.says, url) {
					if !strings.Contains(w.problem(), word) {
						t.Errorf("it says %q, without %q", w.problem(), word)
					}
				}
				if len(w.problem()) > 1500 {
					t.Errorf("it says %d bytes", len(w.problem()))
				}
				w.consul.Break(nil)
				within(every + askTimeout)
				if w.answers("web", "10.32.0.1"); w.problem() != "" {
					t.Errorf("afterwards it says %q", w.problem())
				}
			})
		})
	}
}

// TestOneServiceIsRefused: the others are registered, and the container is named.
func TestOneServiceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.consul.Deny("secret")
		r, _ := w.agent(self, url)
		w.run(1, netmap.EndpointName{Services: tcp(80)}, []string{"SERVICE_NAME=secret"}, r)
		w.run(2, netmap.EndpointName{Services: tcp(80)}, []string{"SERVICE_CHECK_SCRIPT=reboot"}, r)
		w.run(3, netmap.EndpointName{Services: tcp(80)}, []string{"SERVICE_LONG=" + strings.Repeat("x", mostMetadata)}, r)
		w.run(4, web, nil, r)
		within(time.Millisecond)
		w.answers("web", "10.32.0.4")
		if p := w.problem(); !strings.Contains(p, "3 in all") || !strings.Contains(p, "container c") || !strings.Contains(p, "service:write") {
			t.Errorf("it says %q", p)
		}
		w.stop(1)
		w.stop(3)
		within(time.Millisecond)
		if p := w.problem(); !strings.Contains(p, "container c2") || !strings.Contains(p, "Scripts are disabled") || !strings.Contains(p, "SERVICE_ settings") {
			t.Errorf("it says %q", p)
		}
		w.stop(2)
		within(time.Millisecond)
		if p := w.problem(); p != "" {
			t.Errorf("it says %q", p)
		}
	})
}

// TestToken: it is read again, so that it can be replaced.
func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "s3cret")
		r, _ := w.agent(self, url)
		w.run(1, web, nil, r)
		within(time.Millisecond)
		w.answers("web", "")
		path := filepath.Join(w.state, tokenFile)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("s3cret\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		within(every)
		w.answers("web", "10.32.0.1")
		if w.problem() != "" || strings.Contains(w.log.String(), "s3cret") {
			t.Errorf("problem %q, log %q", w.problem(), w.log.String())
		}
	})
}

// TestSomebodyElseDeregistered it between Weft's look and its request.
func TestSomebodyElseDeregistered(t *testing.T) {
	s := httptest.NewServer(consultest.New(""))
	defer s.Close()
	c, err := open(s.URL, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.deregister(t.Context(), serviceID(self, endpoint, tcp(80)[0])); err != nil {
		t.Error(err)
	}
}
