package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// Where Ansible puts its files on the lab's hosts, which share the rest of this machine's disk.
const ansibleFiles = "/var/lib/by-ansible"

// ansible runs the playbooks of examples/ansible on some hosts.
type ansible struct {
	s   *scene
	dir string // of the releases, the inventory, and what stands for ssh
}

func (s *scene) ansible(hosts ...*lab.Host) ansible {
	s.t.Helper()
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		s.t.Skip("there is no ansible-playbook (Debian's package ansible-core)")
	}
	a := ansible{s, s.t.TempDir()}
	tool, err := filepath.Abs("../build/lab")
	must(s.t, err)
	// ssh [OPTION…] HOST COMMAND
	a.write("ssh", "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\nexec "+tool+" exec --state "+shared.dir+" \"$1\" -- sh -c \"$2\"\n")
	inventory := "[weft_founders]\n"
	for _, h := range hosts {
		inventory += fmt.Sprintf("%s weft_address=%s\n", h.Name(), h.Addr4())
	}
	a.write("inventory", inventory+`[weft:children]
weft_founders
[all:vars]
ansible_become=false
ansible_python_interpreter=/usr/bin/python3
ansible_ssh_executable=`+a.dir+`/ssh
ansible_ssh_transfer_method=piped
ansible_ssh_retries=0
ansible_remote_tmp=`+ansibleFiles+`/tmp
weft_lib=`+ansibleFiles+`/lib
weft_bin=`+ansibleFiles+`/bin
weft_etc=`+ansibleFiles+`/etc
`)
	s.t.Cleanup(func() {
		for _, h := range hosts {
			_, _ = h.Exec(context.WithoutCancel(s.t.Context()), "rm", "-rf", ansibleFiles)
		}
	})
	return a
}

func (a ansible) write(name, text string) {
	a.s.t.Helper()
	must(a.s.t, os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o755))
}

// release packs a built plugin as make release does.
func (a ansible) release(version, plugin string) {
	a.s.t.Helper()
	name := version + "-linux-" + goruntime.GOARCH
	const pack = `cd "$1"; cp "$3/rootfs/weft" "weft-$2"; tar -czf "weft-plugin-$2.tar.gz" --transform 's,^\.,weft-plugin,' -C "$3" .; sha256sum -- "weft-$2" "weft-plugin-$2.tar.gz" >SHA256SUMS`
	dir := filepath.Join(a.dir, version)
	must(a.s.t, os.Mkdir(dir, 0o755))
	out, err := exec.CommandContext(a.s.t.Context(), "sh", "-ec", pack, "sh", dir, name, plugin).CombinedOutput()
	if err != nil {
		a.s.t.Fatalf("%v: %s", err, out)
	}
}

// play runs a playbook and returns what it prints.
func (a ansible) play(version, book string, args ...string) (string, error) {
	a.s.t.Helper()
	args = append([]string{"-i", filepath.Join(a.dir, "inventory"), "-e", "ansible_service_mgr=none", "-e", "weft_version=" + version, "-e", "weft_release=" + filepath.Join(a.dir, version), book}, args...)
	cmd := exec.CommandContext(a.s.t.Context(), "ansible-playbook", args...)
	cmd.Dir = "../examples/ansible"
	cmd.Env = append(os.Environ(), "ANSIBLE_NOCOLOR=1", "ANSIBLE_PIPELINING=1", "LC_ALL=C.UTF-8", "ANSIBLE_LOCAL_TEMP="+a.dir+"/tmp")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var changedHosts = regexp.MustCompile(`(?m)^\S+ +: ok=\d+ +changed=(\d+) `)

// played runs a playbook that succeeds, and returns how much it says that it has changed.
func (a ansible) played(version, book string, args ...string) (changed string) {
	a.s.t.Helper()
	out, err := a.play(version, book, args...)
	if err != nil {
		a.s.t.Fatalf("%s: %v\n%s", book, err, out)
	}
	for _, m := range changedHosts.FindAllStringSubmatch(out, -1) {
		changed += m[1] + " "
	}
	if changed != "0 0 0 " {
		a.s.t.Logf("%s %v changed %son the hosts", book, args, changed)
	}
	return changed
}

// TestIntegrationAnsible: the playbooks found a cluster, change nothing the second time, upgrade it host by host under
// running containers, and take a host out that has no containers any more.
func TestIntegrationAnsible(t *testing.T) {
	long(t)
	s := onSpares(t)
	lent := s.lend(members)
	a := s.ansible(lent...)
	next, err := pluginDir(t.Context(), "nextlevel")
	must(t, err)
	a.release("1.0", s.plugin)
	a.release("1.1", next)

	if changed := a.played("1.0", "site.yml"); strings.HasPrefix(changed, "0") {
		t.Errorf("the first time it says that it has changed %s", changed)
	}
	s.hosts, s.prefix = lent, "" // the playbook names its network
	must(t, s.ready(t.Context(), members, lent...))
	s.oneCluster()
	boxes := s.runOnAll("overlay", "by-ansible")
	s.matrix(boxes...)
	if changed := a.played("1.0", "site.yml"); changed != "0 0 0 " {
		t.Errorf("the second time it says that it has changed %s", changed)
	}

	version := func(h *lab.Host) string {
		report, err := s.report(t.Context(), h)
		must(t, err)
		return fmt.Sprint(report.Version, " level ", report.Level)
	}
	before := version(lent[0])
	a.played("1.1", "site.yml")
	for _, h := range lent {
		if now := version(h); now == before {
			t.Errorf("%s runs %s after the upgrade as before", h.Name(), now)
		}
	}
	s.matrix(boxes...)

	last := lent[2]
	if out, err := a.play("1.1", "remove.yml", "--limit", last.Name()); err == nil || !strings.Contains(out, "stop these containers first, nothing was changed: "+boxes[2].name) {
		t.Errorf("a host with a container was removed, or it does not say which: %v\n%s", err, out)
	}
	s.matrix(boxes...)
	s.docker(last, "rm", "-f", boxes[2].name)
	a.played("1.1", "remove.yml", "--limit", last.Name())
	if out := s.docker(last, "plugin", "ls", "-q"); out != "" {
		t.Errorf("%s still has the plugin %s", last.Name(), out)
	}
	s.hosts = lent[:2]
	s.matrix(boxes[:2]...)
	if changed := a.played("1.1", "remove.yml", "--limit", last.Name()); strings.TrimSpace(changed) != "0" {
		t.Errorf("removed again, it says that it has changed %s", changed)
	}
}
