package packaging

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ansibleDir = "../examples/ansible"

// TestAnsibleLint judges the playbooks by the strictest of its profiles.
func TestAnsibleLint(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	if _, err := exec.LookPath("ansible-lint"); err != nil {
		t.Skip("there is no ansible-lint (Debian's package of that name)")
	}
	for _, args := range [][]string{
		{"ansible-playbook", "--syntax-check", "site.yml", "remove.yml"},
		{"ansible-lint", "--offline", "--profile", "production", "--strict", "site.yml", "remove.yml"},
	} {
		if out, err := ansible(t, t.TempDir(), args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// ansible is a command of Ansible's in the directory of the playbooks.
func ansible(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = ansibleDir
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "ANSIBLE_NOCOLOR=1", "HOME="+home, "LC_ALL=C.UTF-8")
	return cmd
}

// TestAnsibleSettings of hosts with and without an address in the inventory, and of which Ansible knows facts or none.
func TestAnsibleSettings(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	if _, err := exec.LookPath("ansible"); err != nil {
		t.Skip("there is no ansible (Debian's package ansible-core)")
	}
	inventory := filepath.Join(t.TempDir(), "inventory")
	if err := os.WriteFile(inventory, []byte(`[weft_founders]
set weft_address=fd00::1 ansible_default_ipv4='{"address": "198.51.100.1"}'
known ansible_default_ipv4='{"address": "192.0.2.2"}'
six ansible_default_ipv4='{}' ansible_default_ipv6='{"address": "2001:db8::3"}'
unknown
`), 0o644); err != nil {
		t.Fatal(err)
	}
	const join = "# Made by Ansible; the same on all hosts, but for WEFT_ADVERTISE.\nWEFT_JOIN=[fd00::1],192.0.2.2,[2001:db8::3],unknown\nWEFT_EXPECT=4\n"
	for host, want := range map[string]string{"set": join + "WEFT_ADVERTISE=fd00::1\n", "unknown": join} {
		out, err := ansible(t, t.TempDir(), "ansible", "-i", inventory, host, "-o", "-e", "@roles/weft/defaults/main.yml",
			"-m", "ansible.builtin.debug", "-a", "msg={{ lookup('template', 'roles/weft/templates/weft.env.j2') }}").CombinedOutput()
		_, result, _ := strings.Cut(string(out), " => ")
		var got struct{ Msg string }
		if jsonErr := json.Unmarshal([]byte(result), &got); err != nil || jsonErr != nil {
			t.Fatalf("%v, %v\n%s", err, jsonErr, out)
		}
		if diff := cmp.Diff(want, got.Msg); diff != "" {
			t.Errorf("%s (-want +got):\n%s", host, diff)
		}
	}
}

// Docker with one plugin, which exists when $DIR/plugin does, and the weft of a host that has left when $DIR/left
// exists. They write down what they do, and fail in what is $FAIL.
const (
	departingDocker = `#!/bin/sh
cd "$DIR"
case "$1 $2" in
"plugin ls") [ ! -e plugin ] || cat plugin; exit ;;
"network ls") exit ;;
esac
echo "$2" >>calls
[ "$2" != "$FAIL" ] || exit 1
case $2 in
rm) rm plugin ;;
esac
`
	departingWeft = `#!/bin/sh
cd "$DIR"
case "$*" in
"status --json") [ ! -e left ] || echo '  "state": "left",'; exit ;;
"status --wait ready"*) [ ! -e left ]; exit ;;
esac
echo "$*" >>calls
[ "$1" != "$FAIL" ] || exit 1
case $1 in
host) : >left ;;
cleanup) echo removed /var/lib/weft ;;
esac
`
)

// TestAnsibleRemovesInPieces: a removal that fails halfway goes on with the next run.
func TestAnsibleRemovesInPieces(t *testing.T) {
	if os.Getenv("WEFT_LONG") == "" {
		t.Skip("takes a minute of a processor: make test-long runs it (WEFT_LONG)")
	}
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		t.Skip("there is no ansible-playbook (Debian's package ansible-core)")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"docker": departingDocker, "bin/weft": departingWeft, "plugin": "weftnet/weft:latest\n", "lib/weft-install": "", "etc/weft.env": "",
		"inventory": "[weft_founders]\nlocalhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n[weft:children]\nweft_founders\n",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const again, leave = "disable\nset\nenable\n", "host leave\ndisable\nrm\n"
	for _, run := range []struct{ fail, calls string }{
		{"rm", again + leave}, {"cleanup", again + leave + "cleanup\n"}, {"", "cleanup\n"},
	} {
		calls := filepath.Join(dir, "calls")
		if err := os.WriteFile(calls, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := ansible(t, dir, "ansible-playbook", "-i", filepath.Join(dir, "inventory"), "-e", "ansible_service_mgr=none", "-e", "ansible_become=false",
			"-e", "weft_bin="+dir+"/bin", "-e", "weft_lib="+dir+"/lib", "-e", "weft_etc="+dir+"/etc", "remove.yml")
		cmd.Env = append(cmd.Env, "PATH="+dir+":"+os.Getenv("PATH"), "DIR="+dir, "FAIL="+run.fail, "ANSIBLE_PIPELINING=1", "ANSIBLE_GATHERING=explicit")
		out, err := cmd.CombinedOutput()
		if (err == nil) != (run.fail == "") {
			t.Errorf("with %q failing: %v\n%s", run.fail, err, out)
		}
		if diff := cmp.Diff(run.calls, readText(t, calls)); diff != "" {
			t.Errorf("with %q failing (-want +got):\n%s%s", run.fail, diff, out)
		}
		_, missing := os.Stat(filepath.Join(dir, "bin/weft"))
		if (missing != nil) != (run.fail == "") {
			t.Errorf("with %q failing the command is there: %v", run.fail, missing == nil)
		}
	}
}
