package lab

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// hierarchy is one mounted cgroup tree of the machine.
type hierarchy struct {
	mountpoint string
	options    string // of a v1 mount, "cpu,cpuacct" or "none,name=systemd"
	v2         bool
}

// parseHierarchies finds the cgroup trees in a mountinfo file, one per tree.
func parseHierarchies(mountinfo io.Reader) ([]hierarchy, error) {
	var all []hierarchy
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		head, tail, ok := strings.Cut(lines.Text(), " - ")
		if !ok {
			continue
		}
		left, right := strings.Fields(head), strings.Fields(tail)
		if len(left) < 5 || len(right) < 3 || !strings.HasPrefix(left[4], "/sys/fs/cgroup") {
			continue
		}
		h := hierarchy{mountpoint: left[4], v2: right[0] == "cgroup2"}
		if right[0] == "cgroup" {
			h.options = v1Options(right[2])
		}
		if (h.v2 || h.options != "") && !slices.ContainsFunc(all, func(o hierarchy) bool { return o.mountpoint == h.mountpoint }) {
			all = append(all, h)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("lab: read mounts: %w", err)
	}
	return all, nil
}

// v1Options are the mount options that name a v1 tree, out of its super options.
func v1Options(super string) string {
	var named []string
	for option := range strings.SplitSeq(super, ",") {
		switch {
		case strings.HasPrefix(option, "name="):
			named = append(named, "none", option)
		case slices.Contains([]string{"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"}, option):
		case strings.Contains(option, "="):
		default:
			named = append(named, option)
		}
	}
	return strings.Join(named, ",")
}

func machineHierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("lab: read mounts: %w", err)
	}
	defer f.Close()
	all, err := parseHierarchies(f)
	if err == nil && len(all) == 0 {
		err = errors.New("lab: no cgroup tree is mounted below /sys/fs/cgroup; Docker needs one")
	}
	return all, err
}

// labCgroup names the lab's directory in every tree; labs in other directories have others.
func labCgroup(dir string) string {
	h := fnv.New32a()
	h.Write([]byte(dir))
	return fmt.Sprintf("weft-lab-%08x", h.Sum32())
}

// makeCgroups makes the directories of one host. A v1 cpuset must have processors and
// memory before it takes a process; a v2 directory must pass its controllers on.
func makeCgroups(trees []hierarchy, lab, host string) error {
	for _, t := range trees {
		at := t.mountpoint
		for _, name := range []string{lab, host} {
			parent := at
			at = filepath.Join(at, name)
			if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("lab: make cgroup: %w", err)
			}
			if t.v2 {
				delegate(parent)
			}
			inheritCpuset(parent, at)
		}
	}
	return nil
}

// delegate passes a v2 directory's controllers on to its children. What the machine keeps
// to itself stays so: hosts then run without those limits.
func delegate(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return
	}
	for controller := range strings.FieldsSeq(string(b)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
}

func inheritCpuset(parent, child string) {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(child, file))
		if err != nil || strings.TrimSpace(string(have)) != "" {
			continue
		}
		if value, err := os.ReadFile(filepath.Join(parent, file)); err == nil && strings.TrimSpace(string(value)) != "" {
			_ = os.WriteFile(filepath.Join(child, file), value, 0)
		}
	}
}

// leaf is the directory in which a v2 tree has a host's daemons: one that passes its
// controllers on, as the host's own does, may hold no process itself.
const leaf = "init"

// innerJoinFiles are the files that take a daemon's process, as the host sees them.
func innerJoinFiles(trees []hierarchy) []string {
	var files []string
	for _, t := range trees {
		dir := t.mountpoint
		if t.v2 {
			dir = filepath.Join(dir, leaf)
		}
		files = append(files, filepath.Join(dir, "cgroup.procs"))
	}
	return files
}

// cgroupsOf are the directories of the lab, or of something in it, one in every tree.
func cgroupsOf(trees []hierarchy, path ...string) []string {
	var dirs []string
	for _, t := range trees {
		dirs = append(dirs, filepath.Join(append([]string{t.mountpoint}, path...)...))
	}
	return dirs
}

// removeCgroups removes directories with all below them, deepest first, and tries again
// until the deadline while the kernel still counts ended processes in them.
func removeCgroups(dirs []string, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		var errs []error
		for _, dir := range dirs {
			errs = append(errs, removeCgroup(dir))
		}
		err := errors.Join(errs...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func removeCgroup(dir string) error {
	var below []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if entry != nil && entry.IsDir() {
			below = append(below, path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("lab: remove cgroup: %w", err)
	}
	for _, path := range slices.Backward(below) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("lab: remove cgroup: %w", err)
		}
	}
	return nil
}
