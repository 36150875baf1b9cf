package linux

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
)

// otherMounts is a process with a mount namespace of its own: what a dockerd is
// to a managed plugin.
func otherMounts(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command(busybox, "sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	check(t, cmd.Start())
	t.Cleanup(func() {
		check(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed, as it says
	})
	return cmd.Process.Pid
}

func mounted(t *testing.T, proc, path string) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", proc, "mountinfo"))
	check(t, err)
	return strings.Contains(string(b), " "+path+" ")
}

func TestIntegrationThePinIsInTheHostsMountNamespace(t *testing.T) {
	needRoot(t)
	pid := otherMounts(t) // ends after the rig is cleaned up
	r := newRig(t, 2, 1500)
	r.network(1, true)
	h := r.hosts[0]
	unknown := errors.New("nobody has called")
	h.cfg.HostPID = func() (int, error) { return 0, unknown }
	check(t, h.k.Close())
	h.open()
	if _, err := h.k.Set(t.Context(), h.want()); !errors.Is(err, unknown) {
		t.Fatalf("before anybody has called: %v", err)
	}
	h.cfg.HostPID = func() (int, error) { return pid, nil }
	check(t, h.k.Close())
	h.open()
	a, b := h.start(1, 1), r.hosts[1].start(1, 2)
	r.sync()
	a.reaches(b.port.V4)
	if mounted(t, "self", h.cfg.Pin) || !mounted(t, fmt.Sprint(pid), h.cfg.Pin) {
		t.Error("the pin is not where the host is, or where we are")
	}

	// The next agent finds it, and finds nothing to do.
	check(t, h.k.Close())
	h.open()
	if h.k.overlay == nil {
		t.Fatal("a new agent does not find the namespace")
	}
	if report := h.set(); report.Done > 0 {
		t.Errorf("a new agent did %d operations", report.Done)
	}
	a.reaches(b.port.V4)
	_, err := h.k.Cleanup(t.Context())
	check(t, err)
	if mounted(t, fmt.Sprint(pid), h.cfg.Pin) {
		t.Error("cleanup left the pin")
	}
	for _, path := range []string{h.cfg.Pin, filepath.Dir(h.cfg.Pin), filepath.Dir(filepath.Dir(h.cfg.Pin))} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cleanup left %s: %v", path, err)
		}
	}
}

func TestIntegrationAFileWhereThePinShouldBe(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	check(t, os.MkdirAll(filepath.Dir(h.cfg.Pin), 0o755))
	check(t, os.WriteFile(h.cfg.Pin, nil, 0o444)) // left by a reboot in between
	h.set()
	h.isWanted()
}

func TestIntegrationSysctlsAreOptional(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	h.cfg.ProcSys = t.TempDir() // where nothing can be written
	check(t, os.MkdirAll(filepath.Join(h.cfg.ProcSys, "net/ipv6/conf/default/accept_ra"), 0o755))
	check(t, h.k.Close())
	h.open()
	a, b := h.start(1, 1), h.start(1, 2)
	if report := h.set(); len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "accept_ra") {
		t.Errorf("notes %q", report.Notes)
	}
	a.reaches(b.port.V4, b.port.V6)
}

// The devices themselves must be silent: whatever they sent would reach
// containers, or other hosts' bridges.
// TestIntegrationDevicesHaveNoAddresses but the one by which a bridge asks for members of groups.
func TestIntegrationDevicesHaveNoAddresses(t *testing.T) {
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	h.start(1, 1)
	h.set()
	addrs, err := h.k.overlay.AddrList(nil, unix.AF_UNSPEC)
	check(t, err)
	if len(addrs) != 1 || !addrs[0].IP.Equal(querier.IP) {
		t.Errorf("addresses in the overlay namespace: %v", addrs)
	}
	for _, name := range []string{datapath.BridgeName(h.device(1).VNI), h.device(1).VXLAN} {
		check(t, h.k.overlay.ns.Do(func() error {
			b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/accept_ra")
			if err == nil && string(b) != "0\n" {
				t.Errorf("%s accepts router advertisements", name)
			}
			return err
		}))
	}
}
