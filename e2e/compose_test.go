package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// composeProgram is Compose, the program or Docker's plugin of that name.
func composeProgram(t *testing.T) []string {
	t.Helper()
	for _, argv := range [][]string{{"docker-compose"}, {"docker", "compose"}} {
		if exec.CommandContext(t.Context(), argv[0], append(argv[1:], "version")...).Run() == nil {
			return argv
		}
	}
	const missing = "neither docker-compose nor docker compose is installed: apt-get install docker-compose"
	if os.Getenv("WEFT_LAB_REQUIRED") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return nil
}

// TestIntegrationCompose runs examples/compose: redis on one host, the web tier on two
// others. The web tier finds redis by the name of its service and by its alias, and itself by the
// name of its own. The lab has no registry, so a stand-in answers PONG on redis's port.
func TestIntegrationCompose(t *testing.T) {
	compose := composeProgram(t)
	s := onMembers(t)
	one, tier := s.lab.Host(1), s.members()[1:]
	name := s.network(one, "compose")
	file, err := filepath.Abs("../examples/compose/docker-compose.yml")
	must(t, err)
	s.docker(one, "create", "--name", s.name("redis"), lab.BusyBoxImage)
	s.docker(one, "commit", "--change", `CMD ["nc", "-ll", "-p", "6379", "-e", "echo", "+PONG"]`, s.name("redis"), "redis-standin")
	s.docker(one, "rm", s.name("redis"))

	project := strings.TrimSuffix(s.name("project"), "-")
	run := func(h *lab.Host, args ...string) error {
		var said strings.Builder
		err := h.Run(t.Context(), lab.Command{
			Args:   append(append(compose, "-f", file, "-p", project), args...),
			Env:    []string{"NETWORK=" + name, "REDIS_IMAGE=redis-standin", "WEB_IMAGE=" + lab.WebImage},
			Stdout: &said, Stderr: &said,
		})
		if err != nil {
			err = fmt.Errorf("%s: %v: %w: %s", h.Name(), args, err, said.String())
		}
		return err
	}
	must(t, run(one, "up", "-d", "redis"))
	must(t, each(tier, func(h *lab.Host) error {
		return run(h, "up", "-d", "--no-deps", "--scale", "web=2", "web")
	}))
	var webs []box
	for _, h := range tier {
		ids := s.docker(h, "ps", "-q", "--filter", "label=com.docker.compose.service=web", "--filter", "label=com.docker.compose.project="+project)
		for id := range strings.FieldsSeq(ids) {
			webs = append(webs, box{h, id, s.addr(h, id, name)})
		}
	}
	if len(webs) != 4 {
		t.Fatalf("%d web containers, want 4", len(webs))
	}
	for _, web := range webs {
		eventually(t, healWithin, func(ctx context.Context) error {
			out, err := web.exec(ctx, "sh", "-c", "for at in redis $REDIS_HOST; do echo PING | timeout 2 nc $at 6379; done")
			if err == nil && strings.Count(out, "+PONG") < 2 {
				err = fmt.Errorf("redis said %q to %s on %s", out, web.name, web.host.Name())
			}
			return err
		})
		for _, other := range webs {
			s.page(web, other.addr, other.name)
		}
	}
	var all []string
	for _, web := range webs {
		all = append(all, web.addr.String())
	}
	for _, web := range webs {
		s.resolves(web, "web", all...)
	}
	must(t, each(s.members(), func(h *lab.Host) error { return run(h, "down", "-t", "1") }))
}
