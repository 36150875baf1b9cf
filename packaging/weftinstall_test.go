package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keepingDocker knows one plugin, whose id is in $DIR/id when it exists, and which runs when $DIR/on exists. It writes
// down what changes something.
const keepingDocker = `#!/bin/sh
cd "$DIR"
case "$1 $2 $4" in
"version"*) [ -z "$AWAY" ]; exit ;;
"plugin inspect {{.Id}}") cat id; exit ;;
"plugin inspect {{.Enabled}}") [ -e on ] && echo true || echo false; exit ;;
esac
shift; echo "$*" >>calls
case $1 in
create) echo "id$(grep -c create calls)" >id ;;
enable) [ -z "$BROKEN" ] && : >on ;;
disable) [ -e on ] && rm on ;;
rm) rm id ;;
esac
`

// TestWeftInstall: examples/systemd/weft-install on one host, again and again.
func TestWeftInstall(t *testing.T) {
	script, err := filepath.Abs("../examples/systemd/weft-install")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("docker", keepingDocker)
	write("plugin/config.json", "{}")
	write("plugin/rootfs/weft", "1")
	write("env", "# a comment\nWEFT_JOIN=192.0.2.1,192.0.2.2\nOTHER=x\nWEFT_NAME=a b\n")
	const (
		started  = "set weftnet/weft:latest WEFT_JOIN=192.0.2.1,192.0.2.2 WEFT_NAME=a b\nenable weftnet/weft:latest\n"
		created  = "create weftnet/weft:latest DIR/plugin\n"
		replaced = "disable -f weftnet/weft:latest\nrm -f weftnet/weft:latest\n" + created
	)
	for _, step := range []struct {
		name, args, env string
		before          func()
		calls, fails    string
	}{
		{name: "Docker is away", env: "AWAY=1", fails: "exit status"},
		{name: "it does not start", env: "BROKEN=1", calls: created + started, fails: "did not start"},
		{name: "the first time, interrupted", calls: started},
		{name: "again", calls: ""},
		{name: "again, with --update", args: "--update", calls: ""},
		{name: "another release", before: func() { write("plugin/rootfs/weft", "2") }, calls: ""},
		{name: "another release, with --update", args: "--update", calls: replaced + started},
		{name: "once more", args: "--update", calls: ""},
		{
			name: "another setting", args: "--update", before: func() { write("env", "WEFT_JOIN=192.0.2.1\n") },
			calls: replaced + "set weftnet/weft:latest WEFT_JOIN=192.0.2.1\nenable weftnet/weft:latest\n",
		},
		{name: "no setting", args: "--update", before: func() { write("env", "") }, calls: replaced + "enable weftnet/weft:latest\n"},
		{name: "somebody else's plugin", args: "--update", before: func() { write("id", "other\n") }, calls: replaced + "enable weftnet/weft:latest\n"},
		{
			name: "disabled, and another release", before: func() { write("plugin/rootfs/weft", "3"); remove("on") },
			calls: "enable weftnet/weft:latest\n",
		},
		{name: "then with --update", args: "--update", calls: replaced + "enable weftnet/weft:latest\n"},
		{name: "half a release", args: "--update", before: func() { remove("plugin/config.json") }, fails: "there is no"},
		{name: "the other half", args: "--update", before: func() { write("plugin/config.json", "{2}"); remove("plugin/rootfs/weft") }, fails: "there is no"},
		{name: "no settings' file", before: func() { write("plugin/rootfs/weft", "3"); remove("env") }, fails: "there is no"},
	} {
		if step.before != nil {
			step.before()
		}
		write("calls", "")
		cmd := exec.CommandContext(t.Context(), script, strings.Fields(step.args)...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "DIR="+dir, "WEFT_PLUGIN_DIR="+dir+"/plugin", "WEFT_ENV_FILE="+dir+"/env", step.env)
		out, err := cmd.CombinedOutput()
		if (err != nil) != (step.fails != "") || err != nil && !strings.Contains(string(out)+err.Error(), step.fails) {
			t.Errorf("%s: %v, want %q\n%s", step.name, err, step.fails, out)
		}
		calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
		if diff := cmp.Diff(step.calls, strings.ReplaceAll(string(calls), dir, "DIR")); diff != "" {
			t.Errorf("%s (-want +got):\n%s%s", step.name, diff, out)
		}
		if changed := string(calls) != ""; err == nil && changed != (len(out) > 0) {
			t.Errorf("%s: it says %q", step.name, out)
		}
	}
}

// TestSystemdUnits are read by systemd itself, which finds what they name and in which order they start.
func TestSystemdUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd-analyze (Debian's package systemd)")
	}
	dir := t.TempDir()
	unit, err := os.ReadFile("../examples/systemd/weft.service")
	if err != nil {
		t.Fatal(err)
	}
	text := string(unit)
	for _, command := range []string{"/usr/local/lib/weft/weft-install", "/usr/local/bin/weft"} {
		if !strings.Contains(text, "ExecStart="+command) {
			t.Errorf("%s is not run", command)
		}
		text = strings.ReplaceAll(text, "ExecStart="+command, "ExecStart=/bin/true") // it need not be installed here
	}
	dropIn, err := os.ReadFile("../examples/systemd/mesos-slave.service.d/10-weft.conf")
	if err != nil {
		t.Fatal(err)
	}
	const other = "[Service]\nType=oneshot\nExecStart=/bin/true\n"
	for name, text := range map[string]string{
		"weft.service": text, "docker.service": other, "mesos-slave.service": "[Unit]\nDescription=Mesos\n" + other,
		"mesos-slave.service.d/10-weft.conf": string(dropIn),
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", filepath.Join(dir, "weft.service"), filepath.Join(dir, "mesos-slave.service"))
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
