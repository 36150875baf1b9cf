package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// errNoPin says that the overlay namespace does not exist, or cannot be seen yet.
var errNoPin = errors.New("no overlay namespace")

// find opens the overlay namespace if its pin can be seen.
func (k *Kernel) find() error {
	f, err := k.openPin()
	if err != nil {
		return err
	}
	return k.adopt(f)
}

func (k *Kernel) adopt(f *os.File) error {
	s, err := openSpace(f)
	if err != nil {
		return fmt.Errorf("linux: the overlay namespace: %w", err)
	}
	reader, err := s.again()
	if err != nil {
		return errors.Join(fmt.Errorf("linux: the overlay namespace: %w", err), s.close())
	}
	k.overlay, k.reader, k.notes = s, reader, nil
	if err := quiet(f, k.cfg.ProcSys); err != nil {
		k.notes = append(k.notes, fmt.Sprintf("linux: %v (IPv6 router advertisements of containers may give the bridge an address that nobody uses)", err))
	}
	return nil
}

// openPin looks where the pin should show, and where the host sees it: the mount
// reaches a managed plugin only if the host's /run is shared.
func (k *Kernel) openPin() (*os.File, error) {
	f, err := openNS(k.cfg.PinView)
	if err == nil {
		return f, nil
	}
	pid, pidErr := k.cfg.HostPID()
	if pidErr != nil || pid == 0 {
		return nil, err
	}
	return openNS(filepath.Join("/proc", strconv.Itoa(pid), "root", k.cfg.Pin))
}

// openNS opens a network namespace by path; the error wraps errNoPin if there is
// nothing or something else.
func openNS(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", errNoPin, path)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return nil, errors.Join(fmt.Errorf("%w at %s: a file that nothing is mounted on", errNoPin, path), f.Close())
	}
	return f, nil
}

// ensure makes sure that there is an overlay namespace and that it is pinned.
func (k *Kernel) ensure() error {
	if k.overlay == nil {
		if err := k.find(); err == nil || !errors.Is(err, errNoPin) {
			return err
		}
	} else if !k.unpinned() {
		return nil
	}
	pid, err := k.cfg.HostPID()
	if err != nil {
		if k.overlay != nil {
			return nil // it works without; the next time
		}
		return fmt.Errorf("linux: cannot make the overlay namespace before Docker has called: %w", err)
	}
	f, err := k.pin(pid)
	if err != nil {
		return fmt.Errorf("linux: pin the overlay namespace at %s in the mount namespace of process %d (0: our own): %w", k.cfg.Pin, pid, err)
	}
	if k.overlay != nil {
		return f.Close() // the same one
	}
	return k.adopt(f)
}

// unpinned reports whether the pin of the namespace that we hold is gone for
// certain: somebody unmounted it, and the namespace would end with this process.
func (k *Kernel) unpinned() bool {
	f, err := k.openPin()
	if err != nil {
		return errors.Is(err, errNoPin)
	}
	_ = f.Close() // read-only
	return false
}

// pin makes the namespace, or takes the one that we hold, and mounts it; if the
// host has one there already, that one counts. A bind mount made in a plugin's
// own mount namespace would not reach the host, so a thread enters the host's.
func (k *Kernel) pin(pid int) (f *os.File, err error) {
	err = onThread(func() error {
		if err := enterMounts(pid); err != nil {
			return err
		}
		if f, err = openNS(k.cfg.Pin); err == nil || !errors.Is(err, errNoPin) {
			return err
		}
		if err := mountPoint(k.cfg.Pin); err != nil {
			return err
		}
		if k.overlay != nil {
			err = unix.Setns(int(k.overlay.file.Fd()), unix.CLONE_NEWNET)
		} else {
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err != nil {
			return fmt.Errorf("a network namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", k.cfg.Pin, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
		f, err = openNS(k.cfg.Pin)
		return err
	})
	return f, err
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

// unpin takes the pin away, with folders that are empty then. It reports whether
// there was one.
func (k *Kernel) unpin() (was bool, err error) {
	pid, err := k.cfg.HostPID()
	if err != nil {
		return false, fmt.Errorf("linux: cannot take the pin of the overlay namespace away: %w", err)
	}
	err = onThread(func() error {
		if err := enterMounts(pid); err != nil {
			return err
		}
		was, err = removePin(k.cfg.Pin)
		return err
	})
	return was, err
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

// quiet keeps new devices of the namespace from listening to router
// advertisements. Devices get no link-local address either, but that is a netlink
// attribute.
func quiet(ns *os.File, procSys string) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		for _, name := range []string{"accept_ra", "autoconf"} {
			path := filepath.Join(procSys, "net/ipv6/conf/default", name)
			if b, err := os.ReadFile(path); err == nil && string(b) == "0\n" {
				continue
			}
			err := os.WriteFile(path, []byte("0\n"), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a host without IPv6
				return err
			}
		}
		return nil
	})
}
