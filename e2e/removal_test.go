package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// goneWithin is how soon after its last container's end a network goes from a host that
// did not remove it. It takes a second at most, and some more on a machine that is busy
// with other tests.
const goneWithin = 3 * time.Second

// idOf is Docker's id of a network on a host.
func (s *scene) idOf(h *lab.Host, network string) string {
	s.t.Helper()
	return s.docker(h, "network", "inspect", "-f", "{{.Id}}", network)
}

// renewed waits until a host's Docker has another network of this name than the old one.
func (s *scene) renewed(h *lab.Host, network, old string) {
	s.t.Helper()
	began := time.Now()
	eventually(s.t, spreadWithin, func(ctx context.Context) error {
		got, err := h.Docker(ctx, "network", "inspect", "-f", "{{.Id}}", network)
		if err == nil && got == old {
			err = fmt.Errorf("network %s on %s is the old one still", network, h.Name())
		}
		return err
	})
	s.t.Logf("%s has the new network %s after %.2f s", h.Name(), network, time.Since(began).Seconds())
}

// TestIntegrationNetworkRemovedAndMadeAgain under its name, while another host has a
// container of the old one: an exited one does not hold it there; one that runs does, and
// nobody else joins it.
func TestIntegrationNetworkRemovedAndMadeAgain(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	name := s.network(one, "job")
	again := func() (old string) {
		t.Helper()
		old = s.idOf(two, name)
		s.docker(one, "network", "rm", name)
		s.docker(one, "network", "create", "-d", lab.PluginName, "--ipam-driver", lab.PluginName, name)
		return old
	}
	s.docker(two, "run", "--name", s.name("batch"), "--net", name, lab.BusyBoxImage, "true")
	s.renewed(two, name, again())
	s.matrix(s.run(one, name, "a1"), s.run(two, name, "b1"))
	s.docker(one, "rm", "-f", s.name("a1"))

	old := again() // b1 runs
	eventually(t, goneWithin, s.problem(two, "network "+name+" was removed", s.name("b1"), "docker network disconnect", "new network"))
	began := time.Now()
	s.refused(two, []string{name + " was removed on another host", s.name("b1"), "stop them"}, s.command(two, name, "late")...)
	if took := time.Since(began); took > answerWithin {
		t.Errorf("the refusal took %v", took)
	}
	s.docker(two, "rm", "-f", s.name("b1"))
	s.renewed(two, name, old)
	// What was refused starts as it was told to; what ran on a network that is gone has to
	// be told of the new one, as on a single Docker.
	s.docker(two, "start", s.name("late"))
	s.refused(two, []string{"not found"}, "start", s.name("batch"))
	s.docker(two, "network", "connect", name, s.name("batch"))
	s.docker(two, "start", "-a", s.name("batch"))
	s.docker(two, "rm", s.name("batch"))
	s.matrix(s.run(one, name, "a2"), box{two, s.name("late"), s.addr(two, s.name("late"), name)})
}

// TestIntegrationRemovedNetworkGoesWithItsLastContainer from the host that it ran on, at
// once, however it ends.
func TestIntegrationRemovedNetworkGoesWithItsLastContainer(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	for how, end := range map[string]func(last, network string){
		"rm":         func(last, _ string) { s.docker(two, "rm", "-f", last) },
		"stop":       func(last, _ string) { s.docker(two, "stop", "-t", "0", last) },
		"stop-rm":    func(last, _ string) { s.docker(two, "stop", "-t", "0", last); s.docker(two, "rm", last) },
		"auto-rm":    func(last, _ string) { s.docker(two, "kill", last) },
		"disconnect": func(last, network string) { s.docker(two, "network", "disconnect", network, last) },
	} {
		name := s.network(one, how)
		var args []string
		if how == "auto-rm" {
			args = []string{"--rm"}
		}
		last := s.run(two, name, "last-"+how, args...)
		s.docker(one, "network", "rm", name)
		eventually(t, goneWithin, s.problem(two, "network "+name+" was removed", last.name))
		end(last.name, name)
		began := time.Now()
		eventually(t, goneWithin, func(ctx context.Context) error { return s.noneLeft(ctx, name) })
		t.Logf("%s: gone after %.2f s", how, time.Since(began).Seconds())
	}
}

// TestIntegrationComposeDownAndUp: Compose makes the network of its project anew, and the
// other host's containers find it.
func TestIntegrationComposeDownAndUp(t *testing.T) {
	compose := composeProgram(t)
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	project := strings.TrimSuffix(s.name("down"), "-")
	network := project + "_default"
	file := filepath.Join(t.TempDir(), "docker-compose.yml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `version: "2.4"
services: {web: {image: %s, command: [sh, -c, %q], hostname: web}}
networks: {default: {driver: %q, ipam: {driver: %q}}}
`, lab.BusyBoxImage, serving, lab.PluginName, lab.PluginName), 0o600))
	run := func(args ...string) {
		t.Helper()
		var said strings.Builder
		err := one.Run(t.Context(), lab.Command{Args: append(append(compose, "-f", file, "-p", project), args...), Stdout: &said, Stderr: &said})
		if err != nil {
			t.Fatalf("compose %q: %v: %s", args, err, said.String())
		}
	}
	run("up", "-d")
	s.everywhere(network)
	old := s.idOf(two, network)
	s.docker(two, "run", "--name", s.name("batch"), "--net", network, lab.BusyBoxImage, "true")
	run("down", "-t", "0")
	run("up", "-d")
	s.renewed(two, network, old)
	web := strings.TrimSpace(s.docker(one, "ps", "-q", "--filter", "label=com.docker.compose.project="+project))
	client := s.run(two, network, "client")
	s.reach(client, s.addr(one, web, network))
	s.docker(two, "rm", "-f", client.name, s.name("batch"))
	run("down", "-t", "0")
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.noneLeft(ctx, network) })
}
