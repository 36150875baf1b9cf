package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// zoneEnv names the file with the records of the DNS server; see TestServeZone.
const zoneEnv = "WEFT_TEST_ZONE"

// TestServeZone is no test: TestIntegrationPeersAreLookedUp runs it inside a host, as a
// DNS server at the address that zoneEnv begins with, until it is killed.
func TestServeZone(t *testing.T) {
	address, file, ok := strings.Cut(os.Getenv(zoneEnv), " ")
	if !ok {
		t.Skip("it is run by another test")
	}
	server := &dns.Server{Addr: net.JoinHostPort(address, "53"), Net: "udp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(r, dns.RcodeNameError)
		text, _ := os.ReadFile(file) // without one there is no record
		for line := range strings.Lines(string(text)) {
			if rr, err := dns.NewRR(line); err == nil && rr != nil && strings.EqualFold(rr.Header().Name, r.Question[0].Name) {
				if m.Rcode = dns.RcodeSuccess; rr.Header().Rrtype == r.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		_ = w.WriteMsg(m) // the client has gone
	})}
	t.Fatal(server.ListenAndServe())
}

// TestIntegrationPeersAreLookedUp: two hosts have only a DNS name as their peer, and found a cluster
// when the name resolves to both of them, some time after their start. A third one joins with exec:.
func TestIntegrationPeersAreLookedUp(t *testing.T) {
	s := onSpares(t)
	lent := s.lend(members)
	a, b, c := lent[0], lent[1], lent[2]
	zone := filepath.Join(t.TempDir(), "zone")
	s.serveZone(a, zone, a, b)

	must(t, each(lent, func(h *lab.Host) error {
		if h == c {
			return h.InstallPlugin(t.Context(), s.plugin, "WEFT_JOIN=exec:cat /etc/weft-peers")
		}
		return h.InstallPlugin(t.Context(), s.plugin, "WEFT_EXPECT=2", "WEFT_JOIN=dns+peers.example")
	}))
	said := map[*lab.Host]string{a: "no such host", b: "no such host", c: "/etc/weft-peers"}
	eventually(t, spreadWithin, func(ctx context.Context) error {
		return each(lent, func(h *lab.Host) error {
			report, err := s.report(ctx, h)
			if err == nil && (report.State == "ready" || len(report.Peers) != 1 || !strings.Contains(report.Peers[0].Error, said[h])) {
				err = fmt.Errorf("%s is %s with peers %+v, want the error %q", h.Name(), report.State, report.Peers, said[h])
			}
			return err
		})
	})
	began := time.Now()
	must(t, os.WriteFile(zone, []byte(fmt.Sprintf("peers.example. A %s\npeers.example. A %s\n", a.Addr4(), b.Addr4())), 0o644))
	eventually(t, healWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
	t.Logf("founded %.1f s after DNS named them", time.Since(began).Seconds())
	began = time.Now()
	_, err := c.Exec(t.Context(), "sh", "-c", "echo "+b.Addr4().String()+" >/etc/weft-peers")
	must(t, err)
	t.Cleanup(func() { _, _ = c.Exec(context.WithoutCancel(t.Context()), "rm", "-f", "/etc/weft-peers") })
	eventually(t, 2*healWithin, func(ctx context.Context) error { return s.ready(ctx, 3, lent...) })
	t.Logf("joined %.1f s after the command named a host", time.Since(began).Seconds())
	s.hosts = lent
	s.oneCluster()
	s.peersChange(c)
}

// serveZone runs a DNS server with the records of a file on a host, and has hosts ask it.
func (s *scene) serveZone(on *lab.Host, zone string, clients ...*lab.Host) {
	s.t.Helper()
	self, err := os.Executable()
	must(s.t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = on.Run(ctx, lab.Command{Args: []string{self, "-test.run=^TestServeZone$"}, Env: []string{zoneEnv + "=" + on.Addr4().String() + " " + zone}}) // it is killed
	}()
	s.t.Cleanup(func() { stop(); <-ended })
	for _, h := range clients {
		before, err := h.Exec(s.t.Context(), "cat", "/etc/resolv.conf")
		must(s.t, err)
		must(s.t, resolve(s.t.Context(), h, "nameserver "+on.Addr4().String()))
		s.t.Cleanup(func() {
			if err := resolve(context.WithoutCancel(s.t.Context()), h, before); err != nil {
				s.t.Error(err)
			}
		})
	}
}

// resolve writes a host's resolv.conf in place: a plugin has a bind of the file.
func resolve(ctx context.Context, h *lab.Host, text string) error {
	_, err := h.Exec(ctx, "sh", "-c", "printf '%s\\n' \"$1\" >/etc/resolv.conf", "sh", text)
	return err
}

// peersChange connects a host to one more peer and forgets it, as an operator does.
func (s *scene) peersChange(h *lab.Host) {
	s.t.Helper()
	listed := func(args ...string) (out []string) {
		text, err := h.Exec(s.t.Context(), append([]string{s.weft}, args...)...)
		must(s.t, err)
		var peers []api.Peer
		must(s.t, json.Unmarshal([]byte(text), &peers))
		for _, p := range peers {
			out = append(out, p.Peer+" from "+p.From)
		}
		return out
	}
	const own = "exec:cat /etc/weft-peers from WEFT_JOIN"
	if got, want := listed("connect", "192.0.2.77", "--json"), []string{own, "192.0.2.77:7950 from weft connect"}; !slices.Equal(got, want) {
		s.t.Errorf("after weft connect the peers are %q, want %q", got, want)
	}
	s.docker(h, "plugin", "disable", "-f", lab.PluginName)
	s.docker(h, "plugin", "enable", lab.PluginName)
	eventually(s.t, spreadWithin, func(ctx context.Context) error {
		_, err := s.report(ctx, h)
		return err
	})
	s.weftDoes(h, []string{"192.0.2.77:7950", "is forgotten"}, "forget", "192.0.2.77")
	s.weftRefuses(h, []string{"192.0.2.77:7950", "exec:cat /etc/weft-peers", "weft host rm"}, "forget", "192.0.2.77")
	if got := listed("connect", "exec:cat /etc/weft-peers", "--json"); !slices.Equal(got, []string{own}) {
		s.t.Errorf("in the end the peers are %q", got)
	}
}
