package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// stream is a numbered stream of packets that goes on until it is stopped.
type stream struct {
	s    *scene
	host *lab.Host
	name string
}

// stream starts one from a container of its own.
func (s *scene) stream(h *lab.Host, network, name string, to box) stream {
	s.t.Helper()
	s.reach(to, to.addr) // it serves
	return s.streamTo(h, network, name, "-every", "2ms", to.addr.String())
}

// streamTo starts a stream with these arguments, which end with who serves it.
func (s *scene) streamTo(h *lab.Host, network, name string, args ...string) stream {
	s.t.Helper()
	command := s.command(h, network, name)
	s.docker(h, append(append(command[:len(command)-3], "probe", "stream"), args...)...)
	return stream{s, h, s.name(name)}
}

// unbroken stops a stream and checks that it lost nothing.
func (m stream) unbroken(what string) {
	m.s.t.Helper()
	m.s.docker(m.host, "kill", "--signal", "TERM", m.name)
	m.s.docker(m.host, "wait", m.name)
	var loss probe.Loss
	out := m.s.docker(m.host, "logs", m.name)
	if err := json.Unmarshal([]byte(out), &loss); err != nil {
		m.s.t.Fatalf("%v: %s", err, out)
	}
	m.s.t.Logf("%s: %d packets sent, %d lost, longest gap %.1f ms", what, loss.Sent, loss.Lost, loss.GapMillis)
	if loss.Lost != 0 || loss.Sent < 100 {
		m.s.t.Errorf("%s: the stream was broken: %+v", what, loss)
	}
}

func TestIntegrationAgentRestartsLoseNoPacket(t *testing.T) {
	s := onMembersAlone(t)
	name := s.network(s.lab.Host(1), "overlay")
	boxes := s.runOnAll(name, "box")
	s.matrix(boxes...)
	for i, c := range []struct {
		what    string
		restart func(*lab.Host) error
	}{
		{"kill -9 of the agent", func(h *lab.Host) error { return h.KillAgent(t.Context()) }},
		{"docker plugin disable and enable", func(h *lab.Host) error {
			if _, err := h.Docker(t.Context(), "plugin", "disable", "-f", lab.PluginName); err != nil {
				return err
			}
			_, err := h.Docker(t.Context(), "plugin", "enable", lab.PluginName)
			return err
		}},
	} {
		// Agents restart on the sending and on the receiving host, one after the other, then on all.
		m := s.stream(s.lab.Host(1), name, fmt.Sprintf("stream%d", i), boxes[1])
		for _, some := range [][]*lab.Host{{s.lab.Host(1)}, {s.lab.Host(2)}, s.members()} {
			must(t, each(some, c.restart))
			eventually(t, healWithin, s.allMembers)
		}
		m.unbroken(c.what)
		s.seen(name, func(_ *api.Report, n api.Network) error {
			if want := members * (1 + i); len(n.Endpoints) != want {
				return fmt.Errorf("after %s it sees %d endpoints, want %d: %+v", c.what, len(n.Endpoints), want, n.Endpoints)
			}
			return nil
		})
		// The agents continue with what is on their disks.
		late := s.runOnAll(name, fmt.Sprintf("late%d-", i))
		s.matrix(append(late, boxes...)...)
	}
}

// TestIntegrationDockerRestarts: containers with a restart policy come back, with
// addresses that work and that nobody else has.
func TestIntegrationDockerRestarts(t *testing.T) {
	s := onMembersAlone(t)
	two := s.lab.Host(2)
	name := s.network(s.lab.Host(1), "overlay")
	boxes := s.runOnAll(name, "box", "--restart", "always")
	pair := s.network(s.lab.Host(3), "pair")
	s.docker(two, "network", "connect", pair, boxes[1].name)
	peer := s.run(s.lab.Host(3), pair, "peer")
	for _, c := range []struct {
		what    string
		restart func() error
	}{
		{"an orderly restart of dockerd", func() error { return two.RestartDocker(t.Context()) }},
		{"kill -9 of dockerd", func() error {
			if err := two.KillDocker(t.Context()); err != nil {
				return err
			}
			return two.StartDocker(t.Context())
		}},
		{"loss of power", func() error {
			if err := two.PowerOff(t.Context()); err != nil {
				return err
			}
			return two.PowerOn(t.Context())
		}},
	} {
		must(t, c.restart())
		s.back(two, boxes[1].name)
		eventually(t, 2*healWithin, s.allMembers)
		boxes[1].addr = s.addr(two, boxes[1].name, name)
		t.Logf("after %s it has %s", c.what, boxes[1].addr)
		late := s.run(two, name, "late")
		s.matrix(append(boxes, late)...)
		s.reach(peer, s.addr(two, boxes[1].name, pair))
		s.docker(two, "rm", "-f", late.name)
		s.seen(name, func(_ *api.Report, n api.Network) error {
			if len(n.Endpoints) != members {
				return fmt.Errorf("after %s it sees endpoints %+v", c.what, n.Endpoints)
			}
			return nil
		})
	}
}

// back waits until a container runs, as its restart policy wants.
func (s *scene) back(h *lab.Host, name string) {
	s.t.Helper()
	eventually(s.t, 3*healWithin, func(ctx context.Context) error {
		out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Running}} {{.State.Error}}", name)
		if err == nil && out != "true" {
			err = fmt.Errorf("%s on %s: running is %s", name, h.Name(), out)
		}
		return err
	})
}

// TestIntegrationRestartedContainersKeepTheirAddresses, where those are still free.
func TestIntegrationRestartedContainersKeepTheirAddresses(t *testing.T) {
	s := onMembersAlone(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	name := s.network(one, "again", "--subnet", "10.72.64.0/24")
	b := s.run(one, name, "box")
	peer := s.run(two, name, "peer")
	same := func(what string) {
		t.Helper()
		if got := s.addr(one, b.name, name); got != b.addr {
			t.Errorf("after %s it has %s, before %s", what, got, b.addr)
		}
		s.reach(peer, b.addr)
	}
	s.docker(one, "restart", "-t", "0", b.name)
	same("docker restart")
	s.docker(one, "stop", "-t", "0", b.name)
	s.run(one, name, "meanwhile")
	s.docker(one, "start", b.name)
	same("docker stop, docker start")
}

// TestIntegrationLiveRestore: with --live-restore containers go on while dockerd does not,
// and lose neither a packet nor their addresses nor the names of the cluster.
func TestIntegrationLiveRestore(t *testing.T) {
	s := onSpares(t)
	a, b := s.spares()
	s.liveRestore(a)
	eventually(t, spreadWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
	s.docker(a, s.create(a, "live", "--subnet", "10.72.65.0/24")...)
	name := s.name("live")
	eventually(t, spreadWithin, has(b, name))
	here, there := s.run(a, name, "here"), s.run(b, name, "there")
	s.answered(here, there.name, there.addr.String())
	asked := s.asking(here, there.name, true, 10*time.Second)
	for i, c := range []struct {
		what    string
		restart func() error
	}{
		{"an orderly restart of dockerd", func() error { return a.RestartDocker(t.Context()) }},
		{"kill -9 of dockerd", func() error {
			return errors.Join(a.KillDocker(t.Context()), a.StartDocker(t.Context(), "--live-restore"))
		}},
	} {
		in, out := s.stream(b, name, fmt.Sprintf("in%d", i), here), s.stream(a, name, fmt.Sprintf("out%d", i), there)
		must(t, c.restart())
		eventually(t, healWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
		late := s.run(a, name, fmt.Sprintf("late%d", i))
		if got := s.addr(a, here.name, name); got != here.addr {
			t.Errorf("after %s the container has %s, before %s", c.what, got, here.addr)
		}
		s.unique(here, there, late)
		s.matrix(here, there, late)
		in.unbroken(c.what + ", to its host")
		out.unbroken(c.what + ", from its host")
		s.docker(a, "rm", "-f", late.name)
	}
	s.answers("a name of the cluster", asked(), 0, there.addr.String())
}
