package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// hostPlan is what a host's process 1 sets up inside its new namespaces.
type hostPlan struct {
	name  string
	disk  string // the host's directory, absolute
	trees []hierarchy
	join  []string // the cgroups to enter, as the machine sees them
	dns   string
}

// script is the shell program of a host's process 1. It waits for a line on its input, so
// that it does nothing before it is in the record; it joins its cgroups and makes them the
// root of a cgroup namespace; it writes "ready" to descriptor 3; then it does nothing but
// collect orphans. Every mount it makes ends with its mount namespace.
func (p hostPlan) script() string {
	var b strings.Builder
	b.WriteString("set -eu\nread -r _\n")
	for _, dir := range p.join {
		fmt.Fprintf(&b, "echo 0 >%s\n", quote(dir+"/cgroup.procs"))
	}
	fmt.Fprintf(&b, "exec unshare --cgroup -- /bin/sh -eu %s\n", quote(p.innerFile()))
	return b.String()
}

// innerFile is where the second half of the script is, which runs in the cgroup namespace.
func (p hostPlan) innerFile() string { return filepath.Join(p.disk, "init.sh") }

func (p hostPlan) inner() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("mount --make-rprivate /")
	line("hostname %s", quote(p.name))
	line("mount -t proc proc /proc")
	line("mount -t sysfs sysfs /sys")
	p.cgroupMounts(line)
	p.etc(line)
	line("mount --bind %s /var/lib", quote(filepath.Join(p.disk, "lib")))
	line("mount -t tmpfs -o mode=755 tmpfs /run")
	line("mkdir -p /run/lock")
	line("mount --make-rshared /")
	line("echo ready >&3; exec 3>&- </dev/null")
	line("while :; do sleep 2147483647 & wait; done")
	return b.String()
}

// cgroupMounts mounts the same trees at the same places as the machine has them, now with
// the host's own directory as their root.
func (p hostPlan) cgroupMounts(line func(string, ...any)) {
	if len(p.trees) == 1 && p.trees[0].v2 && p.trees[0].mountpoint == "/sys/fs/cgroup" {
		line("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
		p.enterLeaf(line, p.trees[0])
		return
	}
	line("mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup")
	for _, t := range p.trees {
		at := quote(t.mountpoint)
		line("mkdir -p %s", at)
		if t.v2 {
			line("mount -t cgroup2 cgroup2 %s", at)
			p.enterLeaf(line, t)
			continue
		}
		line("mount -t cgroup -o %s cgroup %s", quote(t.options), at)
	}
}

func (p hostPlan) enterLeaf(line func(string, ...any), t hierarchy) {
	in := filepath.Join(t.mountpoint, leaf)
	line("mkdir -p %s; echo 0 >%s", quote(in), quote(in+"/cgroup.procs"))
}

// etc gives the host its own /etc over the machine's. A state directory that cannot carry
// an overlay (it is on one itself) gets a copy.
func (p hostPlan) etc(line func(string, ...any)) {
	etc := filepath.Join(p.disk, "etc")
	upper, work, whole := filepath.Join(etc, "upper"), filepath.Join(etc, "work"), filepath.Join(etc, "copy")
	line("mkdir -p %s %s", quote(upper), quote(work))
	line("mount -t overlay -o %s overlay /etc 2>/dev/null || { mkdir -p %s; cp -a /etc/. %s/; mount --bind %s /etc; }",
		quote(fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", upper, work)), quote(whole), quote(whole), quote(whole))
	line("rm -rf /etc/resolv.conf /etc/docker/daemon.json /etc/docker/key.json")
	line("mkdir -p /etc/docker /etc/containerd")
	line("echo %s >/etc/hostname", quote(p.name))
	line("echo nameserver %s >/etc/resolv.conf", quote(p.dns))
	line("echo %s >/etc/containerd/config.toml", quote(`disabled_plugins = ["cri"]`))
	line(`{ echo 127.0.0.1 localhost; echo ::1 localhost; echo 127.0.1.1 %s; } >/etc/hosts`, quote(p.name))
}

// quote makes one word of the shell out of any text.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
