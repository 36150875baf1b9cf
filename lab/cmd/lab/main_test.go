package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/labtest"
)

// command runs the lab command and returns what it printed.
func command(t *testing.T, state, line string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs(append([]string{"--state", state}, strings.Fields(line)...))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommandsSayThatTheLabIsDown(t *testing.T) {
	state := filepath.Join(t.TempDir(), "lab")
	for _, line := range []string{
		"status", "exec 1 -- true", "docker 1 -- ps", "shell 1", "cut 1", "heal", "kill-agent 1", "kill-docker 1",
		"restart-docker 1", "power-off 1", "power-on 1", "plugin 1 dir", "registry 1", "swarm",
	} {
		if _, err := command(t, state, line); err == nil || !strings.Contains(err.Error(), "not up") {
			t.Errorf("lab %s: %v", line, err)
		}
	}
	if _, err := command(t, state, "down"); err != nil {
		t.Errorf("taking down what is down: %v", err)
	}
}

func TestCommandsCheckTheirArguments(t *testing.T) {
	state := t.TempDir()
	for _, line := range []string{"nonsense", "up 3", "up --hosts 0", "up --mtu 10", "exec 1", "docker", "shell", "cut", "cut 1 2 3", "plugin 1"} {
		if _, err := command(t, state, line); err == nil {
			t.Errorf("lab %s was accepted", line)
		}
	}
}

func TestIntegrationCommands(t *testing.T) {
	labtest.Need(t, lab.Config{})
	state := filepath.Join(t.TempDir(), "lab")
	run := func(line string) string {
		t.Helper()
		out, err := command(t, state, line)
		if err != nil {
			t.Fatalf("lab %s: %v", line, err)
		}
		return out
	}
	t.Cleanup(func() {
		if err := lab.Down(context.WithoutCancel(t.Context()), lab.Config{Dir: state}, false); err != nil {
			t.Error(err)
		}
	})
	if out := run("up --hosts 2 --mtu 1400"); !strings.Contains(out, "host2 up, took") {
		t.Errorf("up shows no progress: %q", out)
	}
	run("exec host1 -- grep -qx 1400 /sys/class/net/eth0/mtu")
	run("docker 2 -- image inspect --format ok weft/busybox")
	var exit *exec.ExitError
	if _, err := command(t, state, "exec 1 -- false"); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("a program that fails gives %v", err)
	}
	if _, err := command(t, state, "exec 3 -- true"); err == nil || !strings.Contains(err.Error(), "hosts 1 to 2") {
		t.Errorf("a host that is not there: %v", err)
	}
	run("cut 1 2 --one-way")
	if out := run("status"); !strings.Contains(out, "cut: host1 to host2\n") || strings.Contains(out, "host2 to host1") {
		t.Errorf("after a one-way cut the status is\n%s", out)
	}
	run("heal 1")
	run("restart-docker 1 -- --debug")
	run("kill-docker 1")
	run("power-off 2")
	out := run("status")
	for _, want := range []string{"host1  10.99.0.1  runs", "host2  10.99.0.2  off"} {
		if !strings.Contains(out, want) {
			t.Errorf("the status has no %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "cut:") {
		t.Errorf("the cut was not healed:\n%s", out)
	}
	if _, err := command(t, state, "up --mtu 1500"); err == nil || !strings.Contains(err.Error(), "MTU 1400") {
		t.Errorf("another MTU for a lab that is up: %v", err)
	}
	run("up --hosts 2")
	if out := run("status"); strings.Contains(out, "off") {
		t.Errorf("up did not bring up what had ended:\n%s", out)
	}
	run("down")
	run("down")
}
