package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// overlayState is the answer of /overlay-master/state, as far as the test looks at it.
type overlayState struct {
	Agents []struct {
		IP       string
		Overlays []struct {
			Info   struct{ Name string }
			Subnet netip.Prefix
			State  struct{ Status, Error string }
		}
	}
}

// TestIntegrationOverlays: a DC/OS master's overlay file, behind a link outside of what a managed plugin has mounted, becomes a
// network on both hosts, with a Docker network and a CNI configuration, on which containers of both kinds reach each
// other; both hosts answer as the overlay modules do. An overlay that is added to the file appears.
func TestIntegrationOverlays(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	const one = `{"name":"dcos","subnet":"10.72.64.0/20","prefix":24}`
	write := func(h *lab.Host, overlays string) {
		t.Helper()
		file := `{"replicated_log_dir":"/var/lib/mesos","network":{"vtep_subnet":"44.128.0.0/16","vtep_mac_oui":"70:B3:D5:00:00:00","overlays":[` + overlays + `]}}`
		_, err := h.Exec(t.Context(), "sh", "-c", "mkdir -p /etc/weft /etc/dcos && ln -sf /etc/dcos/master.json /etc/weft/overlays.json && printf %s '"+file+"' > /etc/dcos/master.json")
		must(t, err)
	}
	for _, h := range []*lab.Host{a, b} {
		t.Cleanup(func() { // else what is removed is made again
			_, err := h.Exec(context.WithoutCancel(t.Context()), "rm", "-rf", "/etc/weft", "/etc/dcos", "/etc/mesos")
			must(t, err)
		})
		write(h, one)
	}
	settings := []string{"WEFT_OVERLAYS=/etc/weft/overlays.json", "WEFT_CNI_DIR=/etc/mesos/cni"}
	must(t, a.InstallPlugin(t.Context(), s.plugin, settings...))
	must(t, b.InstallPlugin(t.Context(), s.plugin, append(settings, "WEFT_JOIN="+a.Addr4().String())...))

	state := func(h *lab.Host) (out overlayState, err error) {
		text, err := h.Exec(t.Context(), "timeout", "5", "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:7951/overlay-master/state")
		if err == nil {
			err = json.Unmarshal([]byte(text), &out)
		}
		return out, err
	}
	are := func(overlays ...string) {
		t.Helper()
		for _, h := range []*lab.Host{a, b} {
			eventually(t, 3*spreadWithin, func(context.Context) error {
				got, err := state(h)
				if err != nil || len(got.Agents) != 2 {
					return fmt.Errorf("%s answers %+v, %w", h.Name(), got, err)
				}
				for _, agent := range got.Agents {
					ok := ""
					for _, o := range agent.Overlays {
						if o.State.Status == "STATUS_OK" {
							ok += o.Info.Name + " "
						}
					}
					if want := strings.Join(overlays, " ") + " "; ok != want {
						return fmt.Errorf("%s says that %s has %q, want %q: %+v", h.Name(), agent.IP, ok, want, agent)
					}
				}
				return nil
			})
		}
	}
	are("dcos")

	box := s.run(a, "dcos", "box")
	r := s.runtime(b)
	conf, err := b.Exec(t.Context(), "cat", "/etc/mesos/cni/dcos.conf")
	must(t, err)
	r.configure("dcos", "%s", conf)
	ns := r.namespace("pod")
	pod := parsed(t, r.does("add", "dcos", ns)).IP4.IP.Addr()
	eventually(t, healWithin, func(ctx context.Context) error {
		_, err := box.exec(ctx, "ping", "-c", "1", "-W", "1", pod.String())
		return err
	})
	_, err = b.Exec(t.Context(), "nsenter", "--net="+ns, "busybox", "ping", "-c", "1", "-W", "2", box.addr.String())
	must(t, err)
	got, err := state(b)
	must(t, err)
	for _, agent := range got.Agents { // each has a block of its own, of the file's size
		at := box.addr
		if agent.IP == b.Addr4().String() {
			at = pod
		}
		if o := agent.Overlays[0]; o.Subnet.Bits() != 24 || !o.Subnet.Contains(at) {
			t.Errorf("%s has %s, and a container at %s", agent.IP, o.Subnet, at)
		}
	}
	r.does("del", "dcos", ns)

	for _, h := range []*lab.Host{a, b} {
		write(h, one+`,{"name":"later","subnet":"10.72.80.0/20","prefix":26}`)
	}
	are("dcos", "later")
}
