package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/mesos/mesostest"
)

// readApp is an example of examples/marathon.
func readApp(t *testing.T, file string) mesostest.App {
	t.Helper()
	text, err := os.ReadFile("../examples/marathon/" + file)
	must(t, err)
	a, err := mesostest.ParseApp(text)
	must(t, err)
	return a
}

// shim is the script of docs/mesos.md that stands for the docker command of Mesos agents.
func (s *scene) shim() string {
	s.t.Helper()
	text, err := os.ReadFile("../docs/mesos.md")
	must(s.t, err)
	_, script, found := strings.Cut(string(text), "```sh\n#!/bin/sh\n")
	script, _, _ = strings.Cut(script, "```")
	const weft, options = "/usr/local/bin/weft mesos docker-shim", " --default-network overlay"
	if !found || !strings.Contains(script, weft+options) {
		s.t.Fatalf("docs/mesos.md has no script that runs %s", weft)
	}
	docker := s.lab.Host(1).DockerCommand().Args[0]
	script = strings.ReplaceAll(script, weft, s.plugin+"/rootfs/weft mesos docker-shim --docker "+docker)
	file := filepath.Join(s.t.TempDir(), "docker-shim")
	must(s.t, os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755))
	return file
}

// TestIntegrationMarathonApps runs the examples of examples/marathon by the exact command lines that Mesos makes of
// them, two instances on two hosts each: as Mesos 1.12 does, and as earlier ones do with the shim.
func TestIntegrationMarathonApps(t *testing.T) {
	s := onMembers(t)
	one, two := s.lab.Host(1), s.lab.Host(2)
	s.prefix = "" // the apps name their network
	s.network(one, "overlay")
	docker, shim := one.DockerCommand().Args[0], s.shim()
	onBridge := readApp(t, "web-parameters.json")
	onBridge.ID, onBridge.Container.Docker.Parameters = "/bridge", nil // the shim brings it to the overlay

	var addrs []netip.Addr
	var boxes []box
	for i, e := range []struct {
		app     mesostest.App
		mesos   mesostest.Mesos
		command string
	}{
		{readApp(t, "web-parameters.json"), mesostest.Mesos112, docker},
		{readApp(t, "web-user.json"), mesostest.Mesos112, docker},
		{readApp(t, "web-networks.json"), mesostest.Mesos112, docker},
		{readApp(t, "web-parameters.json"), mesostest.Mesos111, shim},
		{onBridge, mesostest.Mesos111, shim},
	} {
		for j, h := range []*lab.Host{one, two} {
			s.docker(h, "tag", lab.WebImage, e.app.Container.Docker.Image)
			offer, container := mesostest.Instance(e.app, h.Addr4().String(), 10*i+j)
			task, err := mesostest.Marathon{}.Task(e.app, offer)
			must(t, err)
			s.launch(h, e.command, e.mesos, task, container)
			addr := s.instance(h, e.app, container)
			s.published(h, two, task)
			addrs, boxes = append(addrs, addr), append(boxes, box{h, container.Name(), addr})
		}
	}
	for _, b := range boxes[:2] {
		for _, addr := range addrs {
			if out, err := b.exec(t.Context(), "timeout", "3", "wget", "-q", "-O", "-", "http://"+addr.String()+"/"); err != nil || out == "" {
				t.Errorf("%s fetched %q from %s (%v)", b.name, out, addr, err)
			}
		}
	}
	onHost := mesostest.App{ID: "/host"}
	onHost.Container.Docker.Image = lab.BusyBoxImage
	onHost.Cmd = "hostname -i"
	offer, container := mesostest.Instance(onHost, "host", 99)
	task, err := mesostest.Marathon{}.Task(onHost, offer)
	must(t, err)
	s.launch(one, shim, mesostest.Mesos111, task, container)
	if mode := s.docker(one, "inspect", "-f", "{{.HostConfig.NetworkMode}}", container.Name()); mode != "host" {
		t.Errorf("a container of the host has network mode %q", mode)
	}
}

// launch runs what Mesos runs. command is what --docker of its agent names.
func (s *scene) launch(h *lab.Host, command string, m mesostest.Mesos, task mesostest.TaskInfo, c mesostest.Container) {
	s.t.Helper()
	argv, err := m.DockerRun(task, c)
	must(s.t, err)
	s.mu.Lock()
	s.boxes[h.Number()] = append(s.boxes[h.Number()], c.Name())
	s.mu.Unlock()
	argv[0] = command
	// Mesos stays attached; the tests look at the container instead.
	run := slices.Index(argv, "run") + 1
	_, err = h.Exec(s.t.Context(), slices.Insert(argv, run, "-d")...)
	must(s.t, err)
}

// instance checks what Mesos and Marathon look at: the environment, and the address as the executor finds it, which
// it returns.
func (s *scene) instance(h *lab.Host, a mesostest.App, c mesostest.Container) netip.Addr {
	s.t.Helper()
	addr, err := mesostest.Address([]byte(s.docker(h, "inspect", c.Name())))
	must(s.t, err)
	if on := s.addr(h, c.Name(), "overlay"); addr != on {
		s.t.Errorf("%s: Mesos finds the address %s, on the overlay it is %s", a.ID, addr, on)
	}
	env := s.docker(h, "exec", c.Name(), "env")
	if want := "MARATHON_APP_ID=" + a.ID; !strings.Contains(env, want) {
		s.t.Errorf("%s: the task's environment has no %s:\n%s", a.ID, want, env)
	}
	return addr
}

// published checks the ports of a task on its host, from another host.
func (s *scene) published(h, from *lab.Host, task mesostest.TaskInfo) {
	s.t.Helper()
	if from.Number() == h.Number() {
		return
	}
	client := http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}, Timeout: answerWithin}
	for _, port := range task.Ports {
		eventually(s.t, healWithin, func(ctx context.Context) error {
			url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(h.Addr4(), uint16(port)))
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
	a := readApp(t, "web-parameters.json")
	offer, container := mesostest.Instance(a, "192.0.2.1", 99)
	task, err := mesostest.Marathon{}.Task(a, offer)
	must(t, err)
	argv, err := mesostest.Mesos111.DockerRun(task, container)
	must(t, err)
	const want = "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
	if out, err := s.lab.Host(1).Docker(t.Context(), argv[1:]...); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want %q: %s %v", want, out, err)
	}
}

// TestIntegrationMarathonInstallsTheAgent runs examples/marathon/weft-everywhere.json as Mesos' command executor does,
// on two hosts that have nothing yet: one gets a tarball by the fetcher, the other asks a registry. They find each
// other in the list of a Mesos master, and found together. A second task on a host touches nothing.
func TestIntegrationMarathonInstallsTheAgent(t *testing.T) {
	s := onSpares(t)
	a, b := s.borrow()
	weft := readApp(t, "weft-everywhere.json")
	s.mesosMaster(a, a, b)
	registry, err := b.StartRegistry(t.Context())
	must(t, err)
	image := registry + "/" + lab.PluginName
	s.docker(b, "plugin", "create", image, s.plugin)
	s.docker(b, "plugin", "push", image)
	s.docker(b, "plugin", "rm", image)
	sandbox := t.TempDir()
	must(t, os.CopyFS(filepath.Join(sandbox, "weft-plugin"), os.DirFS(s.plugin))) // as the fetcher unpacks it
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	task := func(h *lab.Host, more ...string) {
		env := append(more, "HOST="+h.Addr4().String(), "WEFT_EXPECT=agents", fmt.Sprintf("WEFT_JOIN=mesos+http://%s:5050", a.Addr4()))
		go func() {
			ended <- h.Run(ctx, lab.Command{Args: []string{"sh", "-c", weft.Cmd}, Dir: sandbox, Env: env, Stderr: t.Output()})
		}()
	}
	running := func() {
		t.Helper()
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("a task ended: %v", err)
		default:
		}
	}
	task(a)
	task(b, "PLUGIN="+image)
	tasks := 2
	t.Cleanup(func() {
		cancel()
		for range tasks {
			<-ended
		}
	})
	eventually(t, time.Minute, func(ctx context.Context) error {
		running()
		return s.ready(ctx, 2, a, b)
	})
	s.docker(a, s.create(a, "net", "--subnet", "10.71.0.0/24")...)
	eventually(t, spreadWithin, has(b, s.name("net")))
	boxes := []box{s.run(a, s.name("net"), "one"), s.run(b, s.name("net"), "two")}
	s.matrix(boxes...)

	before, err := a.Agent(t.Context())
	must(t, err)
	task(a)
	tasks++
	s.matrix(boxes...)
	if again, err := a.Agent(t.Context()); err != nil || again != before {
		t.Errorf("the agent was process %d, and is %d after a second task (%v)", before, again, err)
	}
	running()
}

// mesosMaster runs what answers /slaves as a Mesos master with these agents does, on a host.
func (s *scene) mesosMaster(on *lab.Host, agents ...*lab.Host) {
	s.t.Helper()
	var list []string
	for _, h := range agents {
		list = append(list, fmt.Sprintf(`{"hostname":%q,"pid":"slave(1)@%s:5051","active":true}`, h.Name(), h.Addr4()))
	}
	dir := s.t.TempDir()
	must(s.t, os.WriteFile(filepath.Join(dir, "slaves"), []byte(`{"slaves":[`+strings.Join(list, ",")+`]}`), 0o644))
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- on.Run(ctx, lab.Command{Args: []string{"busybox", "httpd", "-f", "-p", "5050", "-h", dir}})
	}()
	s.t.Cleanup(func() {
		cancel()
		<-ended
	})
}
