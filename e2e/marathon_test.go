package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationMarathonApps runs the examples of examples/marathon by the exact
// command lines that Mesos makes of them, two instances on two hosts each.
func TestIntegrationMarathonApps(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	s.prefix = "" // the apps name their network
	s.network(one, "overlay")

	var addrs []netip.Addr
	for i, e := range apps[1:] {
		_, a := readExample(t, e.file)
		for j, h := range []*lab.Host{one, two} {
			s.docker(h, "tag", lab.WebImage, a.Container.Docker.Image)
			k := exampleTask(a, h.Addr4().String(), 10*i+j)
			s.launch(h, mesos112, a, k)
			addrs = append(addrs, s.addr(h, "mesos-"+k.UUID, "overlay"))
			s.instance(h, two, a, k)
		}
	}
	for i, h := range []*lab.Host{one, two} {
		box := box{h, "mesos-" + exampleTask(app{}, "", i).UUID, addrs[i]}
		for _, addr := range addrs {
			if out, err := box.exec(t.Context(), "timeout", "3", "wget", "-q", "-O", "-", "http://"+addr.String()+"/"); err != nil || out == "" {
				t.Errorf("%s fetched %q from %s (%v)", box.name, out, addr, err)
			}
		}
	}
}

// launch runs what Mesos runs.
func (s *scene) launch(h *lab.Host, v mesos, a app, k task) {
	s.t.Helper()
	argv, err := v.dockerRun(a, k)
	must(s.t, err)
	s.mu.Lock()
	s.boxes[h.Number()] = append(s.boxes[h.Number()], "mesos-"+k.UUID)
	s.mu.Unlock()
	// Mesos stays attached; the tests look at the container instead.
	run := slices.Index(argv, "run") + 1
	_, err = h.Exec(s.t.Context(), slices.Insert(argv, run, "-d")...)
	must(s.t, err)
}

// instance checks what Mesos and Marathon look at: the address as the executor
// finds it, the environment, and the published ports from another host.
func (s *scene) instance(h, from *lab.Host, a app, k task) {
	s.t.Helper()
	name := "mesos-" + k.UUID
	mode := s.docker(h, "inspect", "-f", "{{.HostConfig.NetworkMode}}", name)
	seen := s.docker(h, "inspect", "-f", fmt.Sprintf("{{.NetworkSettings.Networks.%s.IPAddress}}", mode), name)
	if _, err := netip.ParseAddr(seen); err != nil || mode != "overlay" {
		s.t.Errorf("%s: Mesos would find network mode %q and address %q", a.ID, mode, seen)
	}
	env := s.docker(h, "exec", name, "env")
	if want := "MARATHON_APP_ID=" + a.ID; !strings.Contains(env, want) {
		s.t.Errorf("%s: the task's environment has no %s:\n%s", a.ID, want, env)
	}
	_, mappings, err := a.network()
	must(s.t, err)
	mappings, err = offered(mappings, k.Ports)
	must(s.t, err)
	client := http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}, Timeout: answerWithin}
	for _, m := range mappings {
		if m.HostPort == nil || from.Number() == h.Number() {
			continue
		}
		eventually(s.t, healWithin, func(ctx context.Context) error {
			url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(h.Addr4(), uint16(*m.HostPort)))
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err == nil {
				err = resp.Body.Close()
			}
			return err
		})
	}
}

// TestIntegrationMarathonParametersNeedMesos112: with the command line of earlier
// ones a Docker command from 19.03 on refuses, and never asks the daemon.
func TestIntegrationMarathonParametersNeedMesos112(t *testing.T) {
	s := onMembers(t)
	_, a := readExample(t, "web-parameters.json")
	argv, err := mesosStock.dockerRun(a, exampleTask(a, "192.0.2.1", 99))
	must(t, err)
	const want = "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
	if out, err := s.lab.Host(1).Exec(t.Context(), argv...); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want %q: %s %v", want, out, err)
	}
}

// TestIntegrationMarathonInstallsTheAgent runs examples/marathon/weft.json as
// Mesos' command executor does, on two hosts that have nothing yet.
func TestIntegrationMarathonInstallsTheAgent(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	_, weft := readExample(t, "weft.json")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, h := range []*lab.Host{a, b} {
		registry, err := h.StartRegistry(t.Context())
		must(t, err)
		image := registry + "/" + lab.PluginName
		s.docker(h, "plugin", "create", image, s.plugin)
		s.docker(h, "plugin", "push", image)
		s.docker(h, "plugin", "rm", image)
		env := []string{"HOST=" + h.Addr4().String(), "PLUGIN=" + image, "FOUNDER=" + a.Addr4().String(), "WEFT_JOIN=" + a.Addr4().String() + "," + b.Addr4().String()}
		go func() { ended <- h.Run(ctx, lab.Command{Args: []string{"sh", "-c", weft.Cmd}, Env: env}) }()
	}
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
	})
	eventually(t, time.Minute, func(ctx context.Context) error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the task ended: %v", err)
		default:
		}
		return s.ready(ctx, 2, a, b)
	})
	s.docker(a, s.create(a, "net", "--subnet", "10.71.0.0/24")...)
	eventually(t, spreadWithin, has(b, s.name("net")))
	s.matrix(s.run(a, s.name("net"), "one"), s.run(b, s.name("net"), "two"))
}
