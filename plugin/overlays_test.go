package plugin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/overlays"
)

// The file of the modules' own tests, and what is added to it.
const (
	oneOverlay   = `{"vtep_subnet":"44.128.0.0/16","vtep_mac_oui":"70:B3:D5:00:00:00","overlays":[{"name":"mz-overlay","subnet":"192.168.0.0/16","prefix":24}]}`
	laterOverlay = `,{"name":"later","subnet":"11.0.0.0/8","prefix":24,"subnet6":"fd04::/64","prefix6":80}]}`
)

// overlaid has a host take an overlay file, and write CNI configurations beside it.
func overlaid(h *host) {
	h.set.Overlays.File, h.set.Overlays.CNIDir = h.overlayFile(), h.overlayFile()+".cni/net.d"
	h.overlay(oneOverlay)
}

func (h *host) overlayFile() string { return filepath.Join(h.c.dir, h.set.Name+".overlays") }

func (h *host) overlay(text string) {
	h.c.t.Helper()
	if err := os.WriteFile(h.overlayFile(), []byte(text), 0o644); err != nil {
		h.c.t.Fatal(err)
	}
}

// asked is what the host's HTTP server answers to a request about overlays.
func (h *host) asked(method, path, body string, header ...string) *httptest.ResponseRecorder {
	h.c.t.Helper()
	mux := http.NewServeMux()
	for pattern, handler := range h.OverlayHandlers() {
		mux.HandleFunc(pattern, handler)
	}
	req := httptest.NewRequestWithContext(h.c.t.Context(), method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, req)
	return w
}

// state is the answer of /overlay-master/state; empty while there is none.
func (h *host) state() (out overlays.State) {
	h.c.t.Helper()
	w := h.asked(http.MethodGet, "/overlay-master/state", "")
	if w.Code == http.StatusOK && w.Header().Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			h.c.t.Fatal(err)
		}
	}
	return out
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// said is the status of an overlay on a host, as another host answers.
func (h *host) said(of *host, overlay string) overlays.Status {
	for _, a := range h.state().Agents {
		for _, o := range a.Overlays {
			if a.IP == of.addr && o.Info.Name == overlay && o.State != nil {
				return *o.State
			}
		}
	}
	return overlays.Status{}
}

// isOK waits until an overlay is well on all hosts, as all of them say.
func isOK(overlay string, hosts ...*host) {
	for _, h := range hosts {
		for _, of := range hosts {
			h.until(overlay+" on "+of.set.Name, time.Minute, func() bool { return h.said(of, overlay).Status == overlays.StatusOK })
		}
	}
}

// TestOverlaysBecomeNetworks: one network on all hosts, with the blocks that the file says, a CNI configuration on each,
// and the same answers from all (checkMasterAgentComm, ROOT_checkMesosNetwork, ROOT_checkDockerNetwork); a host that is
// started again answers the same (ROOT_checkMasterRecovery, ROOT_checkAgentRecovery); overlays that are added appear
// without a restart (ROOT_checkAddVirtualNetworks), with IPv6 (ROOT_checkEnableDisableIPv6Configuration).
func TestOverlaysBecomeNetworks(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, overlaid)
		a, b := hosts[0], hosts[1]
		isOK("mz-overlay", hosts...)
		n := a.reported("192.168.0.0/16")
		for _, h := range hosts {
			if got := h.reported("192.168.0.0/16"); h.lookup("mz-overlay") == "" || got.ID != n.ID || len(h.Report().Networks) != 1 {
				t.Errorf("%s has %+v", h.set.Name, h.Report().Networks)
			}
			conf, err := os.ReadFile(filepath.Join(h.set.Overlays.CNIDir, "mz-overlay.conf"))
			if want := `{"cniVersion":"0.2.0","name":"mz-overlay","type":"weft-cni","ipam":{"type":"weft-cni"}}` + "\n"; err != nil || string(conf) != want {
				t.Errorf("%s: %v, %s", h.set.Name, err, conf)
			}
		}
		b.run("web", b.lookup("mz-overlay"), "")
		a.until("b's block", time.Minute, func() bool { return a.state().Agents[1].Overlays[0].Subnet.IsValid() })
		agent := a.state().Agents[1]
		if o := agent.Overlays[0]; o.Subnet.Bits() != 24 || o.Backend.VXLAN.VNI != n.VNI || o.DockerBridge.IP != o.Subnet || o.MesosBridge.IP != o.Subnet {
			t.Errorf("b is %+v", o)
		}
		var own overlays.Agent
		if err := json.Unmarshal(b.asked(http.MethodGet, "/overlay-agent/overlay", "").Body.Bytes(), &own); err != nil || own.Attempts == nil || *own.Attempts != 0 {
			t.Errorf("%+v, %v", own, err)
		}
		own.Attempts = nil
		if diff := cmp.Diff(text(t, agent), text(t, own)); diff != "" {
			t.Errorf("b answers differently from a:\n%s", diff)
		}

		before := text(t, a.state())
		for _, h := range []*host{a, b} {
			h.restart()
			h.ready()
		}
		isOK("mz-overlay", hosts...)
		if diff := cmp.Diff(before, text(t, a.state())); diff != "" {
			t.Errorf("after restarts (-before +after):\n%s", diff)
		}

		for _, h := range hosts {
			h.overlay(strings.TrimSuffix(oneOverlay, "]}") + laterOverlay)
		}
		isOK("later", hosts...)
		isOK("mz-overlay", hosts...)
		for _, h := range hosts {
			if got := h.docker.Subnets(h.lookup("later")); len(got) != 2 || got[1].String() != "fd04::/64" {
				t.Errorf("%s has %v", h.set.Name, got)
			}
		}
	})
}

// TestOverlaysThatCannotBe: every host says what is wrong with which overlay of which host; files that make no sense, and
// overlays that differ from what they were, change nothing; and attempts are counted anew
// (checkAgentResetConfigurationAttempts). Operators' settings of a host count (ROOT_checkAgentNetworkConfigChange).
func TestOverlaysThatCannotBe(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, overlaid, func(h *host) {
			if h.set.Name == "host-2" {
				h.docker.AddForeign("mz-overlay")
				h.set.Overlays.CNIDir = ""
			}
		})
		a, b := hosts[0], hosts[1]
		a.until("b's failure", time.Minute, func() bool {
			s := a.said(b, "mz-overlay")
			return s.Status == overlays.StatusFailed && holds(s.Error, "Docker on this host has a network of that name")
		})
		isOK("mz-overlay", a)
		b.problem(time.Minute, "overlay mz-overlay", "rename or remove one of them")
		if attempts := b.asked(http.MethodGet, "/overlay-agent/overlay", "").Body.String(); !strings.Contains(attempts, `"configuration_attempts":`) || strings.Contains(attempts, `"configuration_attempts":0`) {
			t.Errorf("b answers %s", attempts)
		}
		if _, err := os.Stat(b.overlayFile() + ".cni"); err == nil {
			t.Error("b was given no WEFT_CNI_DIR, and has one")
		}
		if err := b.docker.RemoveNetwork(t.Context(), b.lookup("mz-overlay")); err != nil {
			t.Fatal(err)
		}
		isOK("mz-overlay", a, b)
		b.until("a fresh count", time.Minute, func() bool {
			return strings.Contains(b.asked(http.MethodGet, "/overlay-agent/overlay", "").Body.String(), `"configuration_attempts":0`)
		})

		a.overlay(strings.Replace(oneOverlay, `"prefix":24`, `"prefix":26`, 1))
		b.until("a's change is refused", time.Minute, func() bool {
			return holds(b.said(a, "mz-overlay").Error, "gives each host /24 of 192.168.0.0/16, and the file says /26: overlays do not change")
		})
		a.overlay(strings.Replace(oneOverlay, "192.168.0.0/16", "192.168.0.0/17", 1))
		b.until("a's other change too", time.Minute, func() bool {
			return holds(b.said(a, "mz-overlay").Error, "has the subnets [192.168.0.0/16], and the file says [192.168.0.0/17]")
		})
		a.overlay("{}")
		a.problem(time.Minute, "WEFT_OVERLAYS="+a.overlayFile(), "Missing required fields: vtep_subnet", "mend the file")
		a.overlay(oneOverlay)
		isOK("mz-overlay", a, b)
		if got := a.Report(); len(got.Networks) != 1 || holds(strings.Join(got.Problems, " "), "overlay") {
			t.Errorf("a has %+v and problems %q", got.Networks, got.Problems)
		}
		if got := a.state().Network.Overlays; len(got) != 1 || got[0].Prefix != 24 {
			t.Errorf("a says %+v", got)
		}

		other := strings.Replace(oneOverlay, "mz-overlay", "other", 1)
		b.overlay(other)
		a.until("another name for the same subnet", time.Minute, func() bool {
			return holds(b.said(b, "other").Error, "subnet 192.168.0.0/16 is that of network mz-overlay")
		})
		b.overlay(strings.Replace(other, "192.168.0.0/16", "192.168.4.0/23", 1))
		a.until("a subnet in another one", time.Minute, func() bool { return holds(b.said(b, "other").Error, "192.168.4.0/23", "overlaps") })
		b.docker.BreakAPI(os.ErrClosed)
		a.until("a Docker that does not answer", time.Minute, func() bool { return holds(b.said(b, "other").Error, os.ErrClosed.Error()) })
		b.docker.BreakAPI(nil)
		if len(a.Report().Networks) != 1 {
			t.Errorf("there are %+v", a.Report().Networks)
		}
	})
}

// TestDisabledOverlays are not there, and appear when they are enabled (ROOT_checkDisabledIPV6OverlayNetwork); a network
// of IPv6 alone too (checkIPv6Configuration).
func TestDisabledOverlays(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		six := strings.TrimSuffix(oneOverlay, "]}") + `,{"name":"six","subnet6":"fd03::/64","prefix6":80,"enabled":false}]}`
		hosts := up(c, 2, overlaid, func(h *host) { h.overlay(six) })
		a := hosts[0]
		isOK("mz-overlay", hosts...)
		if s := a.state(); len(s.Network.Overlays) != 2 || len(s.Agents[0].Overlays) != 1 || len(a.Report().Networks) != 1 {
			t.Errorf("%+v", s)
		}
		for _, h := range hosts {
			h.overlay(strings.Replace(six, "false", "true", 1))
		}
		isOK("six", hosts...)
		if got := a.docker.Subnets(a.lookup("six")); len(got) != 1 || got[0].String() != "fd03::/64" {
			t.Errorf("a has %v", got)
		}
	})
}

// TestOverlayNetworksWithoutReplication: each host makes its own, and they are one.
func TestOverlayNetworksWithoutReplication(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, overlaid, unreplicated)
		isOK("mz-overlay", hosts...)
		if x, y := hosts[0].reported("192.168.0.0/16"), hosts[1].reported("192.168.0.0/16"); x.ID != y.ID || hosts[1].lookup("mz-overlay") == "" {
			t.Errorf("%+v, %+v", x, y)
		}
	})
}

// TestOverlayAgentsAreDeleted (checkMasterAgentDeletion): only where that is allowed, by the rules of `weft host rm`.
func TestOverlayAgentsAreDeleted(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 2, overlaid, func(h *host) { h.set.Overlays.Admin = h.set.Name == "host-1" })
		a, b := hosts[0], hosts[1]
		isOK("mz-overlay", hosts...)
		const path = "/overlay-master/agents/delete"
		if w := b.asked(http.MethodPost, path, `{"agents":["192.0.2.2"]}`); w.Code != http.StatusNotFound {
			t.Errorf("without WEFT_OVERLAYS_ADMIN the answer is %d %s", w.Code, w.Body)
		}
		for _, tc := range []struct {
			method, body, want string
			code               int
			header             []string
		}{
			{http.MethodGet, "", "Method Not Allowed", http.StatusMethodNotAllowed, nil},
			{http.MethodPost, "{", `want {"agents":["10.0.0.1"]}`, http.StatusBadRequest, nil},
			{http.MethodPost, `{"agents":["x"]}`, `want {"agents":["10.0.0.1"]}`, http.StatusBadRequest, nil},
			{http.MethodPost, `{"agents":[]}`, "names 0 agents", http.StatusBadRequest, nil},
			{http.MethodPost, `{"agents":["` + strings.Repeat("1", 70<<10) + `"]}`, "too large", http.StatusBadRequest, nil},
			{http.MethodPost, `{"agents":["192.0.2.2","192.0.2.9"]}`, "0 hosts of this cluster have the address 192.0.2.9, and nothing was removed", http.StatusBadRequest, nil},
			{http.MethodPost, `{"agents":["192.0.2.2"]}`, "cross-origin", http.StatusForbidden, []string{"Sec-Fetch-Site", "cross-site"}},
			{http.MethodPost, `{"agents":["192.0.2.2"]}`, "lease", http.StatusConflict, nil}, // it lives
		} {
			if w := a.asked(tc.method, path, tc.body, tc.header...); w.Code != tc.code || !strings.Contains(w.Body.String(), tc.want) {
				t.Errorf("%s %.80s: %d %s", tc.method, tc.body, w.Code, w.Body)
			}
		}
		if got := len(a.state().Agents); got != 2 {
			t.Fatalf("%d agents", got)
		}
		b.removedInPassing(a)
		a.until("b is deleted", time.Minute, func() bool { return len(a.state().Agents) == 1 })
		if w := a.asked(http.MethodPost, path, `{"agents":["192.0.2.2"]}`); w.Code != http.StatusBadRequest {
			t.Errorf("b again: %d %s", w.Code, w.Body)
		}
		b.reborn()
		isOK("mz-overlay", a, b)
	})
}

// TestOverlaysAreAnswered for clients that take JSON, once there is something to answer.
func TestOverlaysAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		h := c.host()
		overlaid(h)
		h.overlay("{")
		h.start()
		h.ready()
		if w := h.asked(http.MethodGet, "/overlay-master/state", ""); w.Code != http.StatusServiceUnavailable {
			t.Errorf("without a file: %d %s", w.Code, w.Body)
		}
		h.overlay(oneOverlay)
		isOK("mz-overlay", h)
		for accept, want := range map[string]int{"": 200, "application/json": 200, "text/html, */*;q=0.8": 200, "application/x-protobuf": 415} {
			if w := h.asked(http.MethodGet, "/overlay-agent/overlay", "", "Accept", accept); w.Code != want {
				t.Errorf("Accept: %s: %d %s", accept, w.Code, w.Body)
			}
		}
		if w := h.asked(http.MethodPost, "/overlay-master/state", ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST: %d", w.Code)
		}
		none := c.host(h)
		none.start()
		none.ready()
		if got := len(none.OverlayHandlers()); got != 0 {
			t.Errorf("a host without overlays answers %d requests", got)
		}
	})
}
