package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationHostsKeepTheirConnections: one connection of a host to a container of another host, and one of a
// container to that host itself, both made by name, outlive everything that the host's agent and its Docker do. The
// names are there again each time, and what the host's own containers are is as Docker says.
func TestIntegrationHostsKeepTheirConnections(t *testing.T) {
	long(t)
	s := onSpares(t)
	ctx := t.Context()
	next, err := pluginDir(ctx, "nextlevel")
	must(t, err)
	const serves = "WEFT_DNS_LISTEN=127.0.0.54:53"
	a, b := s.spares(serves)
	s.liveRestore(a)
	s.docker(a, s.create(a, "life", "--ipv6", "--subnet", "10.72.66.0/24", "--subnet", "fd72:66::/64")...)
	network := s.name("life")
	eventually(t, spreadWithin, has(b, network))
	here, there := s.run(a, network, "here", "--restart", "always"), s.run(b, network, "there")
	onA, hostA := s.own(a, network), a.Name()+".hosts.weft.local"
	s.answered(there, hostA, onA.String())
	_, err = a.Exec(ctx, "sh", "-c", "echo nameserver 127.0.0.54 >/etc/resolv.conf")
	must(t, err)
	probe := filepath.Join(shared.dir, "probe")
	s.background(a, probe, "serve", "-addr", netip.AddrPortFrom(onA, 7000).String())

	out := s.flow("a connection of a host", a, b, nil, fullName(there, network), true)
	in := s.streamTo(b, network, "in", "-tcp", "-every", "20ms", hostA)
	join := "WEFT_JOIN=" + b.Addr4().String()
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"kill -9 of the agent", func() error { return a.KillAgent(ctx) }},
		{"plugin disabled and enabled", func() error {
			_, offErr := a.Docker(ctx, "plugin", "disable", "-f", lab.PluginName)
			_, err := a.Docker(ctx, "plugin", "enable", lab.PluginName)
			return errors.Join(offErr, err)
		}},
		{"upgrade to the next release", func() error { return a.InstallPlugin(ctx, next, serves, join) }},
		{"restart of dockerd", func() error { return a.RestartDocker(ctx) }},
		{"kill -9 of dockerd", func() error { return errors.Join(a.KillDocker(ctx), a.StartDocker(ctx, "--live-restore")) }},
		{"kill -9 of containerd", func() error { return errors.Join(a.KillContainerd(ctx), a.StartDocker(ctx, "--live-restore")) }},
		{"restart of dockerd without --live-restore", func() error {
			return errors.Join(a.StopDocker(ctx), a.StartDocker(ctx))
		}},
	} {
		began := time.Now()
		must(t, c.do())
		eventually(t, 2*healWithin, func(ctx context.Context) error { return s.ready(ctx, 2, a, b) })
		s.back(a, here.name)
		here.addr = s.addr(a, here.name, network)
		s.matrix(here, there)
		s.answered(there, hostA, onA.String())
		s.answered(here, there.name, there.addr.String())
		eventually(t, healWithin, func(ctx context.Context) error {
			_, err := a.Exec(ctx, "busybox", "nslookup", "-type=a", fullName(here, network), "127.0.0.54")
			return errors.Join(err, pinged(ctx, b, here.addr), pinged(ctx, a, there.addr))
		})
		late := s.run(a, network, fmt.Sprintf("late%d", began.Unix()))
		s.unique(here, there, late)
		s.matrix(late, there)
		s.docker(a, "rm", "-f", late.name)
		t.Logf("%s: all is well after %.1f s", c.what, time.Since(began).Seconds())
	}
	loss, err := out.end()
	if err != nil || loss.Lost > 0 {
		t.Errorf("%v: %+v", err, loss)
	}
	t.Logf("%s: %d messages, longest gap %.0f ms", out.what, loss.Sent, loss.GapMillis)
	in.unbroken("a connection of a container to a host")
}

// liveRestore has a host's Docker run with --live-restore until the test ends.
func (s *scene) liveRestore(h *lab.Host) {
	s.t.Helper()
	must(s.t, h.RestartDocker(s.t.Context(), "--live-restore"))
	s.t.Cleanup(func() {
		ctx := context.WithoutCancel(s.t.Context())
		if err := errors.Join(h.StopDocker(ctx), h.StartDocker(ctx)); err != nil {
			s.t.Error(err)
		}
	})
}
