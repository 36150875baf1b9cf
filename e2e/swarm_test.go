package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationSwarmScopeIsRefused: Docker creates a network of swarm scope without calling
// the plugin. So the error of every task and the status of manager and worker say what is
// wrong and what to do. Once that is done, nothing of it is left.
func TestIntegrationSwarmScopeIsRefused(t *testing.T) {
	long(t)
	s := onSpares(t)
	manager, worker := s.spares()
	s.swarm(manager, worker)
	name, service := s.name("swarmed"), s.name("service")
	create := []string{"network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName, "--subnet", "10.77.0.0/24"}
	id := s.docker(manager, append(create, "--scope", "swarm", name)...)
	eventually(t, spreadWithin, s.problem(manager, "no task can start on "+name, "--scope swarm", "docker network rm", "-d overlay"))

	s.docker(manager, "service", "create", "--detach", "--mode", "global", "--name", service, "--network", name, lab.BusyBoxImage, "sleep", "600")
	eventually(t, 3*healWithin, func(ctx context.Context) error {
		out, err := manager.Docker(ctx, "service", "ps", "--no-trunc", "--format", "{{.Node}} {{.Error}}", service)
		for node, named := range map[string]string{manager.Name(): name, worker.Name(): id} {
			if want := "network " + named + ": Weft does not support --scope swarm yet"; err == nil && !hasLine(out, node, want) {
				err = fmt.Errorf("no task on %s ended with %q:\n%s", node, want, out)
			}
		}
		return err
	})
	eventually(t, spreadWithin, s.problem(worker, "no task can start on "+id, "--scope swarm", "on a manager"))
	// The operator does what they say.
	s.docker(manager, "service", "rm", service)
	eventually(t, healWithin, func(ctx context.Context) error {
		_, err := manager.Docker(ctx, "network", "rm", name)
		return err
	})
	s.docker(manager, s.create(manager, "swarmed", "--subnet", "10.77.0.0/24")...)
	eventually(t, spreadWithin, has(worker, name))
	s.matrix(s.run(manager, name, "one"), s.run(worker, name, "two"))
	eventually(t, 7*healWithin, func(ctx context.Context) error { return s.quiet(ctx, manager, worker) }) // a worker remembers for a while
}

// quiet is nil when hosts have no problem.
func (s *scene) quiet(ctx context.Context, hosts ...*lab.Host) error {
	return each(hosts, func(h *lab.Host) error {
		report, err := s.report(ctx, h)
		if err == nil && len(report.Problems) > 0 {
			err = fmt.Errorf("%s still has %q", h.Name(), report.Problems)
		}
		return err
	})
}

// swarm makes one Docker swarm of hosts until the test ends, the first its manager.
func (s *scene) swarm(manager *lab.Host, workers ...*lab.Host) {
	s.t.Helper()
	all := append([]*lab.Host{manager}, workers...)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
		defer cancel()
		if err := each(all, func(h *lab.Host) error {
			_, err := h.Docker(ctx, "swarm", "leave", "--force")
			return err
		}); err != nil {
			s.t.Error(err)
		}
	})
	at := manager.Addr4().String()
	s.docker(manager, "swarm", "init", "--advertise-addr", at, "--listen-addr", at+":2377")
	token := s.docker(manager, "swarm", "join-token", "--quiet", "worker")
	for _, h := range workers {
		s.docker(h, "swarm", "join", "--token", token, "--advertise-addr", h.Addr4().String(), at+":2377")
	}
}

// problem looks for a problem in a host's status that has all these words in it.
func (s *scene) problem(h *lab.Host, words ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		report, err := s.report(ctx, h)
		if err == nil && !hasLine(strings.Join(report.Problems, "\n"), words...) {
			err = fmt.Errorf("no problem of %s says all of %q: %q", h.Name(), words, report.Problems)
		}
		return err
	}
}

// hasLine reports whether a line of a text has all these words in it.
func hasLine(text string, words ...string) bool {
	for line := range strings.Lines(text) {
		missing := false
		for _, w := range words {
			missing = missing || !strings.Contains(line, w)
		}
		if !missing {
			return true
		}
	}
	return false
}
