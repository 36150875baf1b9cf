package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is one host of a lab. Its methods may be called concurrently; each reads the
// record, so that several processes may work with one lab.
type Host struct {
	lab *Lab
	n   int
}

// Number is the host's number, from 1.
func (h *Host) Number() int { return h.n }

// Name is the host's name, in the lab and inside the host.
func (h *Host) Name() string { return hostName(h.n) }

// Addr4 is the host's IPv4 address on the underlay.
func (h *Host) Addr4() netip.Addr { v4, _ := hostAddrs(h.lab.cfg, h.n); return v4.Addr() }

// Addr6 is the host's IPv6 address on the underlay.
func (h *Host) Addr6() netip.Addr { _, v6 := hostAddrs(h.lab.cfg, h.n); return v6.Addr() }

// Disk is the directory that is /var/lib inside the host. It outlives PowerOff.
func (h *Host) Disk() string { return filepath.Join(h.dir(), "lib") }

// LogDir has the logs of everything the lab started in the host: host.log,
// containerd.log, dockerd.log (the agent's lines too) and registry.log.
func (h *Host) LogDir() string { return filepath.Join(h.dir(), "log") }

func (h *Host) dir() string { return filepath.Join(h.lab.cfg.Dir, h.Name()) }

// Root is a path to the host's root directory as its processes see it. It changes when
// the host is switched off and on.
func (h *Host) Root() (string, error) {
	r, err := h.record()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/root", r.Holder.PID), nil
}

// DockerSocket is a path to the host's Docker socket that works from outside the host.
func (h *Host) DockerSocket() (string, error) {
	root, err := h.Root()
	return root + "/run/docker.sock", err
}

// record is what runs for this host; an error if the host is not on.
func (h *Host) record() (HostRecord, error) {
	all, err := h.lab.book.read()
	if err != nil {
		return HostRecord{}, err
	}
	r := all.Hosts[h.n]
	if !r.Holder.Alive() {
		return HostRecord{}, fmt.Errorf("lab: %s is switched off; `lab up` switches it on", h.Name())
	}
	return r, nil
}

// PowerOn switches the host on, if it is off: its namespaces, its cable, its engine with
// the arguments it had, and the lab's images.
func (h *Host) PowerOn(ctx context.Context) error {
	if _, err := h.record(); err != nil {
		if err := h.hold(ctx); err != nil {
			return err
		}
	}
	all, err := h.lab.book.read()
	if err != nil {
		return err
	}
	r := all.Hosts[h.n]
	if err := plug(h.lab.cfg, all.Switch, r.Holder, h.n); err != nil {
		return err
	}
	if h.lab.cfg.NoDocker {
		return nil
	}
	if err := h.StartDocker(ctx, r.DockerArgs...); err != nil {
		return err
	}
	return h.loadImages(ctx)
}

// PowerOff pulls the host's plug: every process in it is killed at once, its memory (the
// kernel's state, /run) is lost and its disk stays.
func (h *Host) PowerOff(ctx context.Context) error {
	r, err := h.record()
	if err != nil {
		return nil //nolint:nilerr // it is off
	}
	if err := r.Holder.signal(ctx, unix.SIGKILL, 30*time.Second); err != nil {
		return fmt.Errorf("lab: switch %s off: %w", h.Name(), err)
	}
	if err := unplug(h.lab.book, h.n); err != nil {
		return err
	}
	return h.lab.book.changeHost(h.n, func(r *HostRecord) { *r = HostRecord{DockerArgs: r.DockerArgs} })
}

// hold starts the host's process 1 and waits until its namespaces are set up.
func (h *Host) hold(ctx context.Context) error {
	for _, dir := range []string{"lib/weft", "etc", "log"} {
		if err := os.MkdirAll(filepath.Join(h.dir(), dir), 0o755); err != nil {
			return fmt.Errorf("lab: %s: %w", h.Name(), err)
		}
	}
	// An overlay cannot be mounted over the work directory of one that was not unmounted.
	if err := os.RemoveAll(filepath.Join(h.dir(), "etc", "work")); err != nil {
		return fmt.Errorf("lab: %s: %w", h.Name(), err)
	}
	// A directory that dockerd has used takes no process in a v2 tree: begin with new ones.
	cgroups := cgroupsOf(h.lab.trees, labCgroup(h.lab.cfg.Dir), h.Name())
	if err := removeCgroups(cgroups, downWithin); err != nil {
		return err
	}
	if err := makeCgroups(h.lab.trees, labCgroup(h.lab.cfg.Dir), h.Name()); err != nil {
		return err
	}
	gw4, _ := switchAddrs(h.lab.cfg)
	plan := hostPlan{
		name: h.Name(), disk: h.dir(), trees: h.lab.trees, dns: gw4.Addr().String(),
		join: cgroups,
	}
	if err := os.WriteFile(plan.innerFile(), []byte(plan.inner()), 0o700); err != nil {
		return fmt.Errorf("lab: %s: %w", h.Name(), err)
	}
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID)
	logFile := filepath.Join(h.LogDir(), "host.log")
	return startHolder(ctx, plan.script(), flags, logFile, func(p Process) error {
		return h.lab.book.changeHost(h.n, func(r *HostRecord) { r.Holder = p })
	})
}

// startHolder starts a shell script as a process of new namespaces. The script reads a
// line first, which it gets once note has put the process into the record; if that fails,
// or the caller dies, it reads an end of file and exits.
func startHolder(ctx context.Context, script string, flags uintptr, logFile string, note func(Process) error) error {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer out.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer readyR.Close()
	defer readyW.Close()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = hostEnv("", nil), out, out, "/"
	cmd.ExtraFiles = []*os.File{readyW}
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: flags, Setsid: true}
	start, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer start.Close()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("lab: make namespaces: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // collects the process when it ends; its log says why
	p, err := identify(cmd.Process.Pid)
	if err == nil {
		err = note(p)
	}
	if err != nil {
		return fmt.Errorf("lab: record process %d: %w", cmd.Process.Pid, err)
	}
	readyW.Close()
	if _, err := io.WriteString(start, "go\n"); err != nil {
		return fmt.Errorf("lab: start %s: %w", logFile, err)
	}
	return awaitReady(ctx, readyR, logFile)
}

// awaitReady waits until a holder has written that it has set everything up.
func awaitReady(ctx context.Context, ready *os.File, logFile string) error {
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(30 * time.Second); !ok || limit.Before(deadline) {
		deadline = limit
	}
	if err := ready.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	word, err := io.ReadAll(ready)
	if err == nil && strings.TrimSpace(string(word)) == "ready" {
		return nil
	}
	return fmt.Errorf("lab: namespaces could not be set up (%w): %s", errors.Join(err, errGone), tail(logFile, 5))
}

// tail is the end of a log file, for errors.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || len(b) == 0 {
		return path + " is empty"
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// hostEnv is the environment of everything that runs in a host: nothing of the caller's
// but the terminal's, so that proxies or a Docker context of the machine do not leak in.
func hostEnv(path string, more []string) []string {
	if path != "" {
		path += ":"
	}
	env := []string{
		"PATH=" + path + searchPath, "HOME=/root", "LANG=C.UTF-8",
		"DOCKER_HOST=unix:///var/run/docker.sock", "DOCKER_CONFIG=/var/lib/docker-cli",
	}
	if term := os.Getenv("TERM"); term != "" {
		env = append(env, "TERM="+term)
	}
	return append(env, more...)
}
