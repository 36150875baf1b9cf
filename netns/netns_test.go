package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T) *Namespace {
	t.Helper()
	needRoot(t)
	ns, err := New()
	check(t, err)
	t.Cleanup(func() { _ = ns.Close() }) // some tests close it themselves
	return ns
}

// id tells namespaces apart.
func id(t *testing.T, ns *Namespace) uint64 {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Fstat(ns.Fd(), &st))
	return st.Ino
}

// otherMounts is a process with a mount namespace of its own: what a dockerd is
// to a managed plugin.
func otherMounts(t *testing.T) (pid int) {
	t.Helper()
	needRoot(t)
	cmd := exec.CommandContext(t.Context(), "sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // killed with the test's context, as it says
	return cmd.Process.Pid
}

func TestIntegrationDoRunsInTheNamespace(t *testing.T) {
	ns := create(t)
	var inside []net.Interface
	check(t, ns.Do(func() (err error) {
		inside, err = net.Interfaces()
		return err
	}))
	if len(inside) != 1 || inside[0].Name != "lo" {
		t.Errorf("a new namespace has %v", inside)
	}
	want := errors.New("what fn says")
	if err := ns.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

// /proc/thread-self in a path means this process, wherever the calling thread is.
func TestIntegrationOpenDoesNotSeeWhereTheCallerIs(t *testing.T) {
	ns := create(t)
	own, err := Open(current)
	check(t, err)
	defer func() { _ = own.Close() }()
	check(t, ns.Do(func() error {
		again, err := Open(current)
		if err != nil {
			return err
		}
		defer func() { _ = again.Close() }()
		if id(t, again) != id(t, own) {
			t.Error("Open opened the namespace that its caller had entered")
		}
		return nil
	}))
}

func TestIntegrationAgainOutlivesTheFirst(t *testing.T) {
	ns := create(t)
	want := id(t, ns)
	again, err := ns.Again()
	check(t, err)
	defer func() { _ = again.Close() }()
	check(t, ns.Close())
	if id(t, again) != want {
		t.Error("it is another namespace")
	}
	check(t, again.Do(func() error { return nil }))
}

func TestOpenSaysWhereNoNamespaceIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o444))
	for _, path := range []string{file, file + ".none"} {
		if _, err := Open(path); !errors.Is(err, ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// No thread of the process may stay in another namespace: Go would run anything
// on it. The main thread would stay for ever, so nothing runs there.
func TestIntegrationThreadsEnd(t *testing.T) {
	pid, ns := otherMounts(t), create(t)
	path := filepath.Join(t.TempDir(), "weft/netns/test")
	pinned, err := Pin(pid, path, ns)
	check(t, err)
	check(t, pinned.Close())
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			err := ns.Do(func() error {
				if unix.Gettid() == unix.Getpid() {
					return errors.New("it runs on the main thread")
				}
				runtime.Gosched()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	_, err = Unpin(pid, path)
	check(t, err)
	for deadline := time.Now().Add(10 * time.Second); len(elsewhere(t)) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("threads that stay elsewhere: %v", elsewhere(t))
		}
	}
}

// elsewhere are the threads of this process that are not where its parent is.
func elsewhere(t *testing.T) (out []string) {
	t.Helper()
	for _, kind := range []string{"net", "mnt"} {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", os.Getppid(), kind))
		check(t, err)
		tasks, err := filepath.Glob("/proc/self/task/*/ns/" + kind)
		check(t, err)
		for _, task := range tasks {
			if got, err := os.Readlink(task); err == nil && got != want {
				out = append(out, task+" "+got)
			}
		}
	}
	return out
}
