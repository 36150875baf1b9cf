package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/mesos/mesostest"
)

// mesosAgent is a host of the lab as an agent of Mesos.
type mesosAgent struct {
	*lab.Host
	scene *scene
}

// Hostname is the agent's address, as with --hostname.
func (a mesosAgent) Hostname() string { return a.Addr4().String() }

// Docker notes the containers that are started, so that they are removed at the end.
func (a mesosAgent) Docker(ctx context.Context, args ...string) (string, error) {
	if i := slices.Index(args, "--name"); i >= 0 {
		a.scene.mu.Lock()
		a.scene.boxes[a.Number()] = append(a.scene.boxes[a.Number()], args[i+1])
		a.scene.mu.Unlock()
	}
	return a.Host.Docker(ctx, args...)
}

// healthy waits until all health checks of a task succeed: Marathon's from master, Mesos' on the agent.
func healthy(master *lab.Host) func(context.Context, mesostest.Running) error {
	return func(ctx context.Context, r mesostest.Running) error {
		return await(ctx, healWithin, func(ctx context.Context) error {
			for _, h := range r.App.HealthChecks {
				check, err := r.Check(h)
				if err == nil {
					err = carryOut(ctx, master, r, check)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", h.Protocol, err)
				}
			}
			return nil
		})
	}
}

// carryOut does a health check once.
func carryOut(ctx context.Context, master *lab.Host, r mesostest.Running, c mesostest.Check) error {
	host := r.Agent.(mesosAgent).Host
	var argv []string // of Mesos, with the programs that it uses or what does the same
	switch {
	case c.Command != "":
		_, err := host.Docker(ctx, "exec", r.Container.Name(), "sh", "-c", c.Command)
		return err
	case c.Inside && c.URL != "":
		argv = []string{"curl", "-s", "-S", "-L", "-k", "-f", "-o", "/dev/null", "-g", c.URL}
	case c.Inside:
		argv = []string{"bash", "-c", "exec 3<>/dev/tcp/" + strings.ReplaceAll(c.Address, ":", "/")}
	case c.URL != "":
		client := http.Client{Transport: &http.Transport{DialContext: master.Dial, DisableKeepAlives: true}, Timeout: answerWithin}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		if resp.StatusCode < 200 || resp.StatusCode > 399 {
			err = errors.New(resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	default:
		conn, err := master.Dial(ctx, "tcp", c.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	pid, err := host.Docker(ctx, "inspect", "-f", "{{.State.Pid}}", r.Container.Name())
	if err != nil {
		return err
	}
	_, err = host.Exec(ctx, append([]string{"nsenter", "-t", pid, "-n"}, argv...)...)
	return err
}

// asksAgain requests the app by its name until it is told to end, as fast as it can. Like a browser it tries again
// before it gives up.
const asksAgain = `while [ ! -e /tmp/end ]; do
  for try in 1 2 3; do said=$(timeout 3 wget -q -O - http://nodejs-rest-api:8080/) && break; said=failed; done
  echo "$said" >>/tmp/said
done`

// TestIntegrationMarathonKeepsInstancesRunning: two instances of examples/marathon/nodejs-rest-api.json, scaled to four
// over two hosts, are found by one name in turn, and are updated and lost without a failed request.
func TestIntegrationMarathonKeepsInstancesRunning(t *testing.T) {
	long(t)
	requires(t, "curl", "nsenter")
	s := onMembers(t)
	one, two, three := s.lab.Host(1), s.lab.Host(2), s.lab.Host(3)
	network := s.network(one, "rest")
	client := s.run(three, network, "client")
	cluster := &mesostest.Cluster{Mesos: mesostest.Mesos112, Agents: []mesostest.Agent{mesosAgent{one, s}, mesosAgent{two, s}}, Healthy: healthy(three)}

	version := func(v string, instances int) mesostest.App {
		a := readApp(t, "nodejs-rest-api.json")
		a.Networks[0].Name, a.Container.Docker.Image, a.Instances = network, lab.BusyBoxImage, instances
		a.Cmd = "echo " + v + "-$(hostname) >/www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"
		for _, protocol := range []string{"HTTP", "TCP", "MESOS_TCP"} {
			a.HealthChecks = append(a.HealthChecks, mesostest.HealthCheck{Protocol: protocol})
		}
		command := mesostest.HealthCheck{Protocol: "COMMAND"}
		command.Command.Value = "wget -q -O /dev/null http://127.0.0.1:8080/"
		a.HealthChecks = append(a.HealthChecks, command)
		return a
	}
	// found are the addresses under the app's name, which must be those of its tasks.
	found := func() {
		t.Helper()
		var want []string
		for _, r := range cluster.Tasks("/nodejs-rest-api") {
			want = append(want, r.Addr.String())
		}
		s.resolves(client, "nodejs-rest-api", want...)
	}
	must(t, cluster.Deploy(t.Context(), version("v1", 2)))
	found()
	_, err := three.Docker(t.Context(), "exec", "-d", client.name, "sh", "-c", asksAgain)
	must(t, err)
	must(t, cluster.Deploy(t.Context(), version("v1", 4)))
	found()
	s.allAnswer(client, "v1", 4)

	must(t, cluster.Deploy(t.Context(), version("v2", 4)))
	found()
	s.allAnswer(client, "v2", 4)

	lost := cluster.Tasks("/nodejs-rest-api")[0]
	_, err = lost.Agent.Docker(t.Context(), "rm", "-f", lost.Container.Name())
	must(t, err)
	must(t, cluster.Tend(t.Context()))
	found()
	s.allAnswer(client, "v2", 4)
	said, err := client.exec(t.Context(), "sh", "-c", "touch /tmp/end; cat /tmp/said")
	must(t, err)
	t.Logf("%d requests were answered", len(strings.Fields(said)))
	if n := strings.Count(said, "failed"); n > 0 {
		t.Errorf("%d requests failed:\n%s", n, said)
	}
}

// allAnswer waits until the client's last requests were answered by that many instances of one version, and by no other.
func (s *scene) allAnswer(client box, version string, instances int) {
	s.t.Helper()
	eventually(s.t, time.Minute, func(ctx context.Context) error {
		said, err := client.exec(ctx, "tail", "-n", "30", "/tmp/said")
		if err != nil {
			return err
		}
		names := strings.Fields(said)
		slices.Sort(names)
		if names = slices.Compact(names); len(names) != instances || !strings.HasPrefix(names[0], version) || !strings.HasPrefix(names[len(names)-1], version) {
			return fmt.Errorf("answers come from %q, want %d instances of %s", names, instances, version)
		}
		return nil
	})
}
