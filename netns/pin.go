package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Pin mounts a namespace at a path in the mount namespace of process pid (0: our own),
// so that it outlives the processes that hold it. If one is pinned there already, that one
// stays. Pin returns the pinned namespace, which the caller has to close.
//
// A bind mount made in a container's own mount namespace would not reach the host, so a
// thread enters the one of the process, such as a dockerd.
func Pin(pid int, path string, ns *Namespace) (pinned *Namespace, err error) {
	err = onThread(func() error {
		if err := enterMounts(pid); err != nil {
			return err
		}
		if pinned, err = open(path); err == nil || !errors.Is(err, ErrNotExist) {
			return err
		}
		if err := mountPoint(path); err != nil {
			return err
		}
		if err := ns.enter(); err != nil {
			return err
		}
		if err := unix.Mount(current, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
		pinned, err = open(path)
		return err
	})
	if err != nil {
		return nil, pinError("pin", pid, path, err)
	}
	return pinned, nil
}

// Unpin removes a pin in the mount namespace of process pid (0: our own), with the
// folders named weft and netns above it that are empty then. It reports whether there
// was one.
func Unpin(pid int, path string) (was bool, err error) {
	err = onThread(func() error {
		if err := enterMounts(pid); err != nil {
			return err
		}
		was, err = removePin(path)
		return err
	})
	return was, pinError("unpin", pid, path, err)
}

func pinError(verb string, pid int, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case pid == 0:
		return fmt.Errorf("%s a network namespace at %s: %w", verb, path, err)
	}
	return fmt.Errorf("%s a network namespace at %s in the mount namespace of process %d: %w", verb, path, pid, err)
}

// enterMounts moves the thread into the mount namespace of a process; its working
// directory and root must be its own for that.
func enterMounts(pid int) error {
	if pid == 0 {
		return nil
	}
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns", "mnt"))
	if err != nil {
		return fmt.Errorf("the mount namespace (needs pidhost and CAP_SYS_PTRACE): %w", err)
	}
	defer func() { _ = ns.Close() }() // read-only
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare working directory and root: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the mount namespace (needs CAP_SYS_ADMIN): %w", err)
	}
	return nil
}

// mountPoint makes an empty file, since a namespace is mounted on a file.
func mountPoint(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	return f.Close()
}

func removePin(path string) (was bool, err error) {
	for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		was = true
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return was, nil
	}
	if err != nil {
		return was, err
	}
	dir := filepath.Dir(path)
	for ours(dir) && os.Remove(dir) == nil { // until one is not empty: others' too
		dir = filepath.Dir(dir)
	}
	return true, nil
}

func ours(dir string) bool {
	name := filepath.Base(dir)
	return name == "netns" || name == "weft"
}
