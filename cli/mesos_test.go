package cli

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain is weft's own main in the processes that shimmed starts.
func TestMain(m *testing.M) {
	if os.Getenv("WEFT_TEST_MAIN") == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := Run(ctx, "test")
	stop()
	if err != nil {
		os.Exit(1)
	}
}

// shimmed is a shim in a process of its own, before a docker command that is this shell script.
func shimmed(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	docker := filepath.Join(t.TempDir(), "docker")
	if err := os.WriteFile(docker, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], append([]string{"mesos", "docker-shim", "--docker", docker, "--default-network", "overlay", "--"}, args...)...)
	cmd.Env = append(os.Environ(), "WEFT_TEST_MAIN=1", "SELF="+os.Args[0], "DOCKER="+docker)
	return cmd
}

// TestShimIsDocker: arguments that hold blanks, new lines and dashes, the three streams, the environment and the
// exit code are Docker's.
func TestShimIsDocker(t *testing.T) {
	cmd := shimmed(t, `for a; do echo "<$a>"; done; cat; echo "err $HOME" >&2; exit 125`,
		"-H", "unix:///d.sock", "run", "-e", "A=1 2\n3", "--net", "bridge", "nginx", "--", "-x", "")
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("in"), &out, &errs
	cmd.Env = append(cmd.Env, "HOME=/sandbox")
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 125 {
		t.Errorf("exit code %d (%v), want 125", code, err)
	}
	if diff := cmp.Diff("<-H>\n<unix:///d.sock>\n<run>\n<-e>\n<A=1 2\n3>\n<--net>\n<overlay>\n<nginx>\n<-->\n<-x>\n<>\nin", out.String()); diff != "" {
		t.Errorf("standard output (-want +got):\n%s", diff)
	}
	if errs.String() != "err /sandbox\n" {
		t.Errorf("standard error is %q", errs.String())
	}
}

// TestShimLeavesNoProcess: Docker's command has the process id that was started, and dies of the signals that this
// gets, as if the shim had never been.
func TestShimLeavesNoProcess(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1} {
		cmd := shimmed(t, "echo $$; exec sleep 60", "run", "nginx")
		signal.Notify(make(chan os.Signal, 1), sig) // else it is inherited that this process ignores one
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if want := strconv.Itoa(cmd.Process.Pid) + "\n"; line != want {
			t.Errorf("Docker's command is process %q (%v), want %q", line, err, want)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != sig {
			t.Errorf("after %v it ended by %v", sig, cmd.ProcessState)
		}
	}
}

// TestShimErrors say what to do.
func TestShimErrors(t *testing.T) {
	again := shimmed(t, `exec "$SELF" mesos docker-shim --docker "$DOCKER" -- "$@"`, "--version")
	missing := shimmed(t, "", "--version")
	missing.Args[4] = "/nonexistent/docker"
	host := shimmed(t, "", "--version")
	host.Args[6] = "host"
	for _, c := range []struct {
		cmd  *exec.Cmd
		want string
	}{
		{again, "is this shim again; set it to Docker's own command"},
		{missing, "cannot run /nonexistent/docker: no such file or directory; set --docker to the path of Docker's command"},
		{host, "--default-network host is none of Weft's networks"},
	} {
		if out, err := c.cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v %s, want %q", err, out, c.want)
		}
	}
}

// TestMesosImport prints settings that the agent takes.
func TestMesosImport(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent_modules.json")
	text := `{"libraries":[{"modules":[{"name":"com_mesosphere_mesos_OverlayAgentManager","parameters":[{"key":"master","value":"m:5050"},{"key":"cni_dir","value":"/etc/cni/net.d"}]}]}]}`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := root("test")
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"mesos", "import", file})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	want := "# com_mesosphere_mesos_OverlayAgentManager\nWEFT_JOIN=mesos+http://m:5050\nWEFT_CNI_DIR=/etc/cni/net.d\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	cmd.SetArgs([]string{"mesos", "import", filepath.Join(dir, "none")})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
}
