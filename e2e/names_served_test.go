package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationNamesOfOtherServers: an agent with every setting for names. Containers have the names of other
// zones, a zone without a server fails at once and is shown, those that are not healthy are left out, and the host itself
// has the names of the cluster through dnsmasq.
func TestIntegrationNamesOfOtherServers(t *testing.T) {
	requires(t, "dig", "dnsmasq")
	s := onSpares(t)
	a := s.lend(1)[0]
	must(t, a.InstallPlugin(t.Context(), s.plugin,
		"WEFT_DNS_HEALTH=true", "WEFT_DNS_ZONES=consul=127.0.0.1:8600,dead=127.0.0.1:8601", "WEFT_DNS_LISTEN=127.0.0.55:53"))
	s.docker(a, s.create(a, "zones")...)
	network := s.name("zones")
	consul := s.dnsmasq(a, "host", "consul", "--port=8600", "--listen-address=127.0.0.1", "--bind-interfaces", "--address=/web.service.consul/192.0.2.1")
	web := s.run(a, network, "web", "--network-alias", "both")
	ill := s.run(a, network, "ill", "--network-alias", "both", "--health-cmd", "test ! -e /tmp/ill", "--health-interval", "1s", "--health-retries", "1")

	s.answered(web, "web.service.consul", "192.0.2.1")
	began := time.Now()
	s.answered(web, "web.dead", "SERVFAIL")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a zone without a server failed after %v", took)
	}
	s.docker(a, "rm", "-f", consul)
	s.answered(web, "web.service.consul", "SERVFAIL")
	eventually(t, 2*healWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, a)
		if err == nil && !(strings.Contains(fmt.Sprint(report.Problems), "zone consul") && strings.Contains(fmt.Sprint(report.Problems), "zone dead")) {
			err = fmt.Errorf("problems are %q", report.Problems)
		}
		return err
	})

	s.resolves(web, "both", web.addr.String(), ill.addr.String())
	_, err := ill.exec(t.Context(), "touch", "/tmp/ill")
	must(t, err)
	s.answered(web, "both", web.addr.String())
	s.answered(web, ill.name, ill.addr.String())

	s.dnsmasq(a, "host", "forwarder", "--port=5353", "--listen-address=127.0.0.1", "--bind-interfaces", "--server=/weft.local/127.0.0.55")
	eventually(t, healWithin, func(ctx context.Context) error {
		for _, question := range [][]string{{"@127.0.0.55", web.name}, {"@127.0.0.1", "-p", "5353", web.name + "." + network + ".weft.local"}} {
			out, err := a.Exec(ctx, append([]string{"dig", "+short", "+time=1", "+tries=1"}, question...)...)
			if err == nil && out != web.addr.String() {
				err = errors.New("another answer")
			}
			if err != nil {
				return fmt.Errorf("dig %q on the host said %q, want %s: %w", question, out, web.addr, err)
			}
		}
		return nil
	})
}

// TestIntegrationNamesLeaveNothing: containers that end while they ask leave no socket and no namespace with the
// agent, one that flushes its nftables has the names of the cluster again, WEFT_DNS=false leaves all names to Docker, and
// weft cleanup takes the rules out of one that left its network while there was no agent.
func TestIntegrationNamesLeaveNothing(t *testing.T) {
	s := onSpares(t)
	a := s.lend(1)[0]
	must(t, a.InstallPlugin(t.Context(), s.plugin))
	s.docker(a, s.create(a, "leave")...)
	network, bridge := s.name("leave"), s.of(a, "bridge")
	s.docker(a, "network", "create", bridge)
	web := s.run(a, network, "web")
	s.answered(web, "web.weft.local", web.addr.String())

	before := s.inOtherNamespaces(a)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 3 {
				_, err := a.Docker(t.Context(), "run", "--rm", "--net", network, lab.BusyBoxImage,
					"sh", "-c", "for i in 1 2 3 4 5 6; do nslookup nobody & nslookup web.weft.local & nc 127.0.0.11 53 </dev/zero & done; sleep 0.1")
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	eventually(t, healWithin, func(context.Context) error {
		if after := s.inOtherNamespaces(a); after > before {
			return fmt.Errorf("the agent has %d namespaces and sockets in them open, %d before the containers", after, before)
		}
		return nil
	})

	_, err := web.inside(t.Context(), "nft", "flush", "ruleset")
	must(t, err)
	s.answered(web, "web.weft.local", web.addr.String())

	s.docker(a, "network", "connect", bridge, web.name)
	s.docker(a, "plugin", "disable", "-f", lab.PluginName)
	s.rest() // Docker asks the plugin for 45 s before it does so
	s.docker(a, "network", "disconnect", "-f", network, web.name)
	tables, err := web.inside(t.Context(), "nft", "list", "tables")
	must(t, err)
	if !strings.Contains(tables, "weft") {
		t.Fatalf("without an agent the tables are %q already", tables)
	}
	s.docker(a, "plugin", "set", lab.PluginName, "WEFT_DNS=false")
	s.docker(a, "plugin", "enable", lab.PluginName)
	dockers := s.run(a, network, "dockers")
	if got, err := dockers.ask(t.Context(), "dockers.weft.local"); err != nil || got == dockers.addr.String() {
		t.Errorf("with WEFT_DNS=false a name of the cluster is answered %s (%v)", got, err)
	}
	s.docker(a, "rm", "-f", dockers.name)
	s.docker(a, "network", "rm", network)
	s.docker(a, "plugin", "disable", "-f", lab.PluginName)
	_, err = a.Exec(t.Context(), s.weft, "cleanup")
	must(t, err)
	if tables, err = web.inside(t.Context(), "nft", "list", "tables"); err != nil || strings.Contains(tables, "weft") {
		t.Errorf("after weft cleanup the tables of the container are %q (%v)", tables, err)
	}
}

// inOtherNamespaces counts the network namespaces that the agent of a host has open, and its sockets
// in other ones than the host's own.
func (s *scene) inOtherNamespaces(h *lab.Host) (n int) {
	s.t.Helper()
	pid, err := h.Agent(s.t.Context())
	must(s.t, err)
	out, err := h.Exec(s.t.Context(), "sh", "-c", fmt.Sprintf(`cd /proc/%d && ls -l fd && { stat -L -f -c %%T fd/* || true; } && # files come and go
		echo OWN && cd net && cat tcp tcp6 udp udp6 raw raw6 packet unix netlink`, pid))
	must(s.t, err)
	files, own, _ := strings.Cut(out, "OWN")
	for word := range strings.FieldsSeq(files) {
		inode, socket := strings.CutPrefix(strings.TrimSuffix(word, "]"), "socket:[")
		if word == "nsfs" || socket && !slices.Contains(strings.Fields(own), inode) {
			n++
		}
	}
	return n
}
