package lab

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestScriptIsAShellProgram(t *testing.T) {
	for _, trees := range [][]hierarchy{
		{{mountpoint: "/sys/fs/cgroup", v2: true}},
		{{mountpoint: "/sys/fs/cgroup/cpu,cpuacct", options: "cpu,cpuacct"}, {mountpoint: "/sys/fs/cgroup/unified", v2: true}},
	} {
		p := hostPlan{name: "host1", disk: "/tmp/it's a dir/host1", trees: trees, join: []string{"/sys/fs/cgroup/x y"}, dns: "10.99.0.254"}
		for _, script := range []string{p.script(), p.inner()} {
			cmd := exec.Command("/bin/sh", "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s\n%s", err, out, script)
			}
		}
	}
}

// Nothing may be mounted before the copies of the machine's mounts are cut off from it.
func TestScriptCutsPropagationFirst(t *testing.T) {
	p := hostPlan{name: "host1", disk: "/d", trees: []hierarchy{{mountpoint: "/sys/fs/cgroup", v2: true}}}
	for line := range strings.SplitSeq(p.inner(), "\n") {
		if strings.Contains(line, "mount ") {
			if line != "mount --make-rprivate /" {
				t.Errorf("the first mount command is %q", line)
			}
			return
		}
	}
	t.Error("no mount command")
}

func TestScriptWaitsForItsRecord(t *testing.T) {
	p := hostPlan{disk: "/d", join: []string{t.TempDir()}}
	cmd := exec.Command("/bin/sh", "-c", p.script())
	if err := cmd.Run(); err == nil {
		t.Error("without the word to go on it went on")
	}
	if _, err := os.Stat(p.join[0] + "/cgroup.procs"); !errors.Is(err, os.ErrNotExist) {
		t.Error("it entered a cgroup before it was in the record")
	}
}

func TestQuote(t *testing.T) {
	for _, text := range []string{"", "plain", "a b", "it's", `$(x) "y" \z`, "line\nline"} {
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+quote(text)).Output()
		if err != nil || string(out) != text {
			t.Errorf("%q came out as %q, %v", text, out, err)
		}
	}
}
