package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weftnet/weft/api"
)

// TestIntegrationARestartedContainerKeepsItsAddress: a container that restarts gets its address
// again, and a new one gets another, although engines before 29 do not send the container's name
// with the request. No other test starts containers meanwhile, because the agent then could not
// tell which container the request is for.
func TestIntegrationARestartedContainerKeepsItsAddress(t *testing.T) {
	s := onMembersAlone(t)
	one := s.lab.Host(1)
	name := s.network(one, "again", "--subnet", "10.65.48.0/24")
	other, web := s.run(one, name, "other"), s.run(one, name, "web")
	named := func() {
		t.Helper()
		s.seen(name, func(_ *api.Report, n api.Network) error {
			if slices.ContainsFunc(n.Endpoints, func(e api.Endpoint) bool { return e.Name == "" }) {
				return fmt.Errorf("not all have a name: %+v", n.Endpoints)
			}
			return nil
		})
	}
	for _, again := range [][][]string{
		{{"restart", "-t", "0", web.name}},
		{{"restart", "-t", "0", web.name}},
		{{"stop", "-t", "0", web.name}, {"start", web.name}},
	} {
		named()
		for _, command := range again {
			s.docker(one, command...)
		}
		if got := s.addr(one, web.name, name); got != web.addr {
			t.Errorf("docker %q: it has %s, had %s", again, got, web.addr)
		}
	}
	named()
	s.docker(one, "stop", "-t", "0", web.name)
	if late := s.run(one, name, "late"); late.addr == web.addr {
		t.Errorf("a new container got the old address %s", late.addr)
	}
	s.docker(one, "start", web.name)
	if got := s.addr(one, web.name, name); got != web.addr {
		t.Errorf("after a new container came: it has %s, had %s", got, web.addr)
	}
	s.matrix(other, web)
}
