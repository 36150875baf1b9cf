package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/consul/consultest"
	"github.com/weftnet/weft/lab"
)

// TestIntegrationConsul: containers of a host answer in its Consul agent, by the rules of registrator and by their
// Marathon id, with their overlay addresses, while they run and while Consul, or the agent, does not; what is left when
// Weft is removed weft cleanup deregisters.
func TestIntegrationConsul(t *testing.T) {
	s := onSpares(t)
	a := s.lend(1)[0]
	consul := consultest.New("")
	ln, err := a.Listen(t.Context(), "tcp", "127.0.0.1:8500")
	must(t, err)
	server := &http.Server{Handler: consul}
	go func() { _ = server.Serve(ln) }() // until the test ends
	t.Cleanup(func() { _ = server.Close() })
	answers := func(name string, want ...box) {
		t.Helper()
		var addrs []string
		for _, b := range want {
			addrs = append(addrs, b.addr.String())
		}
		slices.Sort(addrs)
		eventually(t, healWithin, func(context.Context) error {
			if got := consul.Answer(name); !slices.Equal(got, addrs) {
				return fmt.Errorf("%s.service.consul is %q, want %q", name, got, addrs)
			}
			return nil
		})
	}

	must(t, a.InstallPlugin(t.Context(), s.plugin, "WEFT_CONSUL=http://127.0.0.1:8500"))
	s.docker(a, s.create(a, "consul")...)
	network := s.name("consul")
	consul.Put(consultest.Service{ID: "host:other:80", Name: "other", Address: "192.0.2.1"})
	app := s.run(a, network, "app", "-e", "MARATHON_APP_ID=/web/customer1/site1", "-e", "PORT_7000=31005")
	shop := s.run(a, network, "shop", "--expose", "7000", "--expose", "7001", "--label", "SERVICE_7001_NAME=shop", "-e", "SERVICE_7000_IGNORE=1", "-e", "SERVICE_TAGS=eu")
	answers("site1.customer1.web", app)
	answers("eu.shop", shop)

	must(t, a.KillAgent(t.Context()))
	s.docker(a, "rm", "-f", shop.name)
	answers("web", app)
	answers("shop")

	consul.Break(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no leader", http.StatusInternalServerError)
	})
	eventually(t, healWithin, func(ctx context.Context) error {
		report, err := s.report(ctx, a)
		if err == nil && !strings.Contains(fmt.Sprint(report.Problems), "Consul at http://127.0.0.1:8500") {
			err = fmt.Errorf("problems are %q", report.Problems)
		}
		return err
	})
	s.docker(a, "rm", "-f", app.name)
	s.docker(a, "network", "rm", network)
	s.docker(a, "plugin", "disable", lab.PluginName)
	s.docker(a, "plugin", "rm", lab.PluginName)
	consul.Break(nil)
	answers("web", app) // nobody told Consul
	out, err := a.Exec(t.Context(), s.weft, "cleanup")
	if err == nil && !strings.Contains(out, "in Consul at http://127.0.0.1:8500") {
		err = errors.New("it names no service")
	}
	if left := consul.Services(); err != nil || len(left) != 1 {
		t.Errorf("weft cleanup said %q, %v, and left %v", out, err, left)
	}
}
