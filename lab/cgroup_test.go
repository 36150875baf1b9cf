package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
