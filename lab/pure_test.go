package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestConfigDefaults(t *testing.T) {
	c, err := Config{Hosts: 3}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := hostAddrs(c, 3)
	gw4, gw6 := switchAddrs(c)
	got := []string{c.Dir, v4.String(), v6.String(), gw4.String(), gw6.String()}
	want := []string{DefaultDir, "10.99.0.3/24", "fd99::3/64", "10.99.0.254/24", "fd99::ffff/64"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c.MTU != 1500 {
		t.Errorf("MTU %d", c.MTU)
	}
}

func TestConfigRefusals(t *testing.T) {
	p := netip.MustParsePrefix
	for want, c := range map[string]Config{
		"0 hosts asked for":            {},
		"201 hosts asked for":          {Hosts: 201},
		"underlay MTU 1000":            {Hosts: 1, MTU: 1000},
		"underlay MTU 70000":           {Hosts: 1, MTU: 70000},
		"IPv4 underlay 10.0.0.0/25":    {Hosts: 1, Underlay4: p("10.0.0.0/25")},
		"IPv4 underlay fd00::/16":      {Hosts: 1, Underlay4: p("fd00::/16")},
		"IPv6 underlay 10.0.0.0/8":     {Hosts: 1, Underlay6: p("10.0.0.0/8")},
		"IPv6 underlay fd00::/120":     {Hosts: 1, Underlay6: p("fd00::/120")},
		"/run/user/0/lab lies in /run": {Hosts: 1, Dir: "/run/user/0/lab"},
		"/var/lib lies in /var/lib":    {Hosts: 1, Dir: "/var/lib"},
	} {
		if _, err := c.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := (Config{Hosts: 1, Dir: "/running/lab"}).withDefaults(); err != nil {
		t.Errorf("a directory that only begins like a hidden one: %v", err)
	}
}

func TestFindTool(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(first, "nft"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second, "nft"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := findTool(first+":"+second, "nft"); err != nil || got != filepath.Join(second, "nft") {
		t.Errorf("found %q, %v; the first is not executable", got, err)
	}
	for name, want := range map[string]string{
		"dockerd": "apt-get install docker.io", "busybox": "apt-get install busybox-static", "nft": "apt-get install nftables",
		"nonsense": "nonsense is not in ",
	} {
		if _, err := findTool(first, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestRequireStatic(t *testing.T) {
	if err := requireStatic("/bin/sh"); err == nil || !strings.Contains(err.Error(), "busybox-static") {
		t.Errorf("a dynamic program: %v", err)
	}
	if err := requireStatic("/etc/passwd"); err == nil {
		t.Error("a text was taken for a program")
	}
}

func TestParseStat(t *testing.T) {
	tail := " S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n"
	for _, name := range []string{"sh", "a b", "a) Z 1 (", ")"} {
		state, started, err := parseStat([]byte("42 (" + name + ")" + tail))
		if err != nil || state != 'S' || started != 4711 {
			t.Errorf("%q: state %c, started %d, %v", name, state, started, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S 1 2", "42 (x)" + strings.Replace(tail, "4711", "x", 1)} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parseStat(b) })
}

func TestInnerNumber(t *testing.T) {
	for status, want := range map[string]string{
		"Name:\tsh\nPid:\t9\nNSpid:\t900\t45\nNSpgid:\t1\n": "45",
		"Name:\tsh\nNSpid:\t900\n":                          "900",
		"Name:\tNSpid:\n":                                   "",
		"Name:\tx\nNSpid:\n":                                "",
	} {
		if got := innerNumber(status); got != want {
			t.Errorf("%q: %q, want %q", status, got, want)
		}
	}
}

// A reused number must never be killed: the start time decides.
func TestProcessIsToldFromALaterOne(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil || !p.Alive() {
		t.Fatalf("%+v, %v", p, err)
	}
	earlier := Process{PID: p.PID, Started: p.Started - 1}
	if earlier.Alive() {
		t.Error("a process with another start time passes for alive")
	}
	if err := earlier.signal(t.Context(), unix.SIGKILL, time.Second); err != nil {
		t.Error(err)
	}
	if !p.Alive() {
		t.Fatal("the kill meant for an earlier process hit this one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.signal(ctx, unix.Signal(0), time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting under an ended context: %v", err)
	}
	if err := p.signal(t.Context(), unix.Signal(0), 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("waiting for a process that goes on: %v", err)
	}
	if err := p.signal(t.Context(), unix.SIGKILL, 10*time.Second); err != nil {
		t.Error(err)
	}
	if p.Alive() {
		t.Error("an ended process that nobody has collected passes for alive")
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
	if (Process{}).Alive() {
		t.Error("no process passes for alive")
	}
}

func TestRecordOfAnotherBootHasNoProcesses(t *testing.T) {
	text := `{"version": 1, "boot": "one", "switch": {"pid": 5, "started": 6}, "cgroups": ["/x"],
	  "hosts": {"1": {"holder": {"pid": 7, "started": 8}, "docker_args": ["--debug"]}}, "cuts": [{"from": 1, "to": 2}]}`
	same, err := decodeRecord([]byte(text), "one")
	if err != nil || same.Switch.PID != 5 || same.Hosts[1].Holder.PID != 7 || len(same.Cuts) != 1 {
		t.Errorf("%+v, %v", same, err)
	}
	other, err := decodeRecord([]byte(text), "two")
	want := Record{
		Version: 1, Boot: "two", Cgroups: []string{"/x"},
		Hosts: map[int]HostRecord{1: {DockerArgs: []string{"--debug"}}},
	}
	if diff := cmp.Diff(want, other); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for bad, want := range map[string]string{"{": "damaged", `{"version": 2}`: "format 2", "[]": "damaged"} {
		if _, err := decodeRecord([]byte(bad), "one"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		}
	}
}

func TestNotebook(t *testing.T) {
	n := notebook{t.TempDir()}
	if _, err := n.read(); !errors.Is(err, errNotUp) {
		t.Errorf("no record: %v", err)
	}
	done := make(chan error)
	for i := range 8 {
		go func() { done <- n.changeHost(i, func(h *HostRecord) { h.Holder.PID = 100 + i }) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r, err := n.read()
	if err != nil || len(r.Hosts) != 8 || r.Hosts[7].Holder.PID != 107 {
		t.Errorf("changes at once were lost: %+v, %v", r.Hosts, err)
	}
}

func TestParseHierarchies(t *testing.T) {
	for name, c := range map[string]struct {
		mountinfo string
		want      []hierarchy
	}{
		"v2": {
			"25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot",
			[]hierarchy{{mountpoint: "/sys/fs/cgroup", v2: true}},
		},
		"hybrid": {
			"31 23 0:28 / /sys/fs/cgroup ro shared:1 - tmpfs tmpfs ro,mode=755\n" +
				"32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n" +
				"33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd\n" +
				"34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"35 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"36 31 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,clone_children",
			[]hierarchy{
				{mountpoint: "/sys/fs/cgroup/unified", v2: true},
				{mountpoint: "/sys/fs/cgroup/systemd", options: "none,name=systemd"},
				{mountpoint: "/sys/fs/cgroup/cpu,cpuacct", options: "cpu,cpuacct"},
				{mountpoint: "/sys/fs/cgroup/cpuset", options: "cpuset"},
			},
		},
		"none": {"27 1 254:0 / / rw - ext4 /dev/vda rw\nnonsense\n40 1 0:9 / /elsewhere rw - cgroup2 cgroup2 rw", nil},
	} {
		got, err := parseHierarchies(strings.NewReader(c.mountinfo))
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(hierarchy{})); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestCgroupPaths(t *testing.T) {
	trees := []hierarchy{{mountpoint: "/c/cpu", options: "cpu"}, {mountpoint: "/c/unified", v2: true}}
	if diff := cmp.Diff([]string{"/c/cpu/lab/host1", "/c/unified/lab/host1"}, cgroupsOf(trees, "lab", "host1")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/c/cpu/cgroup.procs", "/c/unified/init/cgroup.procs"}, innerJoinFiles(trees)); diff != "" {
		t.Error(diff)
	}
	if labCgroup("/tmp/a") == labCgroup("/tmp/b") {
		t.Error("labs with different directories share a cgroup")
	}
}

// The cgroup files are ordinary ones here: what is read and written can be looked at.
func TestMakeCgroups(t *testing.T) {
	v1, v2 := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(v2, "cgroup.controllers"), "cpu memory\n")
	write(filepath.Join(v2, "cgroup.subtree_control"), "")
	write(filepath.Join(v1, "cpuset.cpus"), "0-1\n")
	for _, level := range []string{"lab", "lab/host1"} {
		if err := os.Mkdir(filepath.Join(v1, level), 0o755); err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(v1, level, "cpuset.cpus"), "\n")
	}
	trees := []hierarchy{{mountpoint: v1, options: "cpuset"}, {mountpoint: v2, v2: true}}
	for range 2 {
		if err := makeCgroups(trees, "lab", "host1"); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(v1, "lab/host1/cpuset.cpus")); err != nil || string(b) != "0-1\n" {
		t.Errorf("the host's processors are %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(v2, "cgroup.subtree_control")); err != nil || string(b) != "+memory" {
		t.Errorf("the last controller passed on is %q, %v", b, err)
	}
	if err := os.MkdirAll(filepath.Join(v2, "lab/host1/docker/abc"), 0o755); err != nil {
		t.Fatal(err)
	}
	gone := []string{filepath.Join(v2, "lab"), filepath.Join(v2, "never made")}
	if err := removeCgroups(gone, 0); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(gone[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
	if err := removeCgroups([]string{filepath.Join(v1, "lab")}, 0); err == nil {
		t.Error("a directory that cannot be removed gives no error")
	}
}

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

func TestCuts(t *testing.T) {
	hosts := []int{1, 2, 3}
	off := withCut(nil, Off(2), hosts)
	want := []Arrow{{0, 2}, {1, 2}, {2, 0}, {2, 1}, {2, 3}, {3, 2}}
	if diff := cmp.Diff(want, off); diff != "" {
		t.Errorf("off (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, withCut(off, Between(1, 2), hosts)); diff != "" {
		t.Errorf("a cut within a cut changed it (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Arrow{{0, 2}, {2, 0}, {2, 3}, {3, 2}}, withoutCut(off, Between(2, 1))); diff != "" {
		t.Errorf("one link healed (-want +got):\n%s", diff)
	}
	both := withCut(withCut(nil, OneWay(1, 2), hosts), Between(1, 3), hosts)
	if diff := cmp.Diff([]Arrow{{1, 2}, {1, 3}, {3, 1}}, both); diff != "" {
		t.Errorf("one way and between (-want +got):\n%s", diff)
	}
	if left := withoutCut(both, Off(1)); len(left) != 0 {
		t.Errorf("healing a host left %v", left)
	}
	if left := withoutCut(both, OneWay(2, 1)); len(left) != 3 {
		t.Errorf("healing the open direction left %v", left)
	}
	said := []string{Off(1).String(), Between(1, 2).String(), OneWay(1, 2).String()}
	if diff := cmp.Diff([]string{"host1 off", "host1 and host2 from each other", "host1 to host2"}, said); diff != "" {
		t.Error(diff)
	}
}

func TestRuleset(t *testing.T) {
	want := `table bridge cuts
delete table bridge cuts
table bridge cuts {
  chain forward {
    type filter hook forward priority 0
    iifname "host1" oifname "host2" drop
  }
  chain input {
    type filter hook input priority 0
    iifname "host1" drop
  }
  chain output {
    type filter hook output priority 0
    oifname "host1" drop
  }
}
`
	if diff := cmp.Diff(want, ruleset([]Arrow{{0, 1}, {1, 0}, {1, 2}})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteImage(t *testing.T) {
	var one, two bytes.Buffer
	programs := map[string][]byte{"busybox": []byte("BB"), "probe": []byte("P")}
	for _, out := range []*bytes.Buffer{&one, &two} {
		if err := writeImage(out, programs, []string{"busybox", "sh", "httpd"}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("equal contents made different images")
	}
	seen := map[string]string{}
	for r := tar.NewReader(&one); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		seen[h.Name] = h.FileInfo().Mode().String() + " " + h.Linkname + string(b)
	}
	for name, want := range map[string]string{
		"bin/busybox": "-rwxr-xr-x BB", "bin/probe": "-rwxr-xr-x P", "bin/sh": "Lrwxrwxrwx busybox", "bin/httpd": "Lrwxrwxrwx busybox",
		"tmp/": "dtrwxrwxrwx ", "www/": "drwxr-xr-x ",
	} {
		if seen[name] != want {
			t.Errorf("%s is %q, want %q", name, seen[name], want)
		}
	}
}

func TestUntilDockerConnects(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{
		0:                       800 * time.Millisecond,
		400 * time.Millisecond:  400 * time.Millisecond,
		600 * time.Millisecond:  3200 * time.Millisecond,
		3600 * time.Millisecond: 3200 * time.Millisecond,
	} {
		if got := untilDockerConnects(age); got != want {
			t.Errorf("a socket that accepts %v after the start: %v, want %v", age, got, want)
		}
	}
}

func TestHostEnvLeaksNothing(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy")
	t.Setenv("DOCKER_HOST", "tcp://elsewhere")
	env := strings.Join(hostEnv("/opt/engine/bin", []string{"A=b"}), "\n")
	for _, bad := range []string{"proxy", "elsewhere"} {
		if strings.Contains(env, bad) {
			t.Errorf("%s is in the hosts' environment:\n%s", bad, env)
		}
	}
	if !strings.Contains(env, "PATH=/opt/engine/bin:/usr/sbin:") || !strings.HasSuffix(env, "A=b") {
		t.Errorf("the environment is\n%s", env)
	}
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if got := tail(file, 3); !strings.HasSuffix(got, "is empty") {
		t.Errorf("no log: %q", got)
	}
	if err := os.WriteFile(file, []byte("1\n2\n3\n4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := tail(file, 2); got != "3\n4" {
		t.Errorf("the last two lines are %q", got)
	}
	if got := tail(file, 9); got != "1\n2\n3\n4" {
		t.Errorf("more lines than there are: %q", got)
	}
}

func TestOwnDirRefusesOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := ownDir(dir); err == nil {
		t.Error("a directory that everybody can write was taken")
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := ownDir(link); err == nil {
		t.Error("a symbolic link was taken")
	}
}
