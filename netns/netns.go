// Package netns opens network namespaces, runs functions in them, and pins them so that
// they outlive the process. Besides the lab, it is the only package that enters
// namespaces. Go moves goroutines between threads, so a function that enters a namespace
// gets a thread of its own, which ends with the function.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotExist says that a path leads to no network namespace: nothing is there, or a
// file that nothing is mounted on.
var ErrNotExist = errors.New("no network namespace")

// current is the namespace of the thread that opens or mounts it.
const current = "/proc/thread-self/ns/net"

// Namespace is an open network namespace. It exists at least until it is closed. Safe
// for concurrent use, but for Close.
type Namespace struct{ file *os.File }

// Open opens the namespace at a path, such as a pin, /proc/PID/ns/net, or
// /proc/thread-self/ns/net for the one of this process. Where none is there the error
// wraps ErrNotExist.
func Open(path string) (ns *Namespace, err error) {
	err = onThread(func() error { // the calling thread may have entered another one
		ns, err = open(path)
		return err
	})
	return ns, err
}

// OpenOf opens the namespace at a path of the mount namespace of process pid (0: our own), such as
// a sandbox of a dockerd. Through /proc/PID/root, absolute symbolic links would lead elsewhere.
func OpenOf(pid int, path string) (ns *Namespace, err error) {
	err = onThread(func() error {
		if err := enterMounts(pid); err != nil {
			return err
		}
		ns, err = open(path)
		return err
	})
	return ns, err
}

// InMounts runs fn on a thread of its own in the mount namespace of process pid (0: our own). Goroutines that fn starts do
// not run there.
func InMounts(pid int, fn func() error) error {
	return onThread(func() error {
		if err := enterMounts(pid); err != nil {
			return err
		}
		return fn()
	})
}

// open is Open as the calling thread sees the path.
func open(path string) (*Namespace, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrNotExist, path)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return nil, errors.Join(fmt.Errorf("%w at %s: a file that nothing is mounted on", ErrNotExist, path), f.Close())
	}
	return &Namespace{f}, nil
}

// New makes a namespace. It ends when it is closed, unless it is pinned or a process or
// a device holds it.
func New() (ns *Namespace, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace (needs CAP_SYS_ADMIN): %w", err)
		}
		ns, err = open(current)
		return err
	})
	return ns, err
}

// Do runs fn on a thread of its own in the namespace. Sockets that fn opens stay in the
// namespace, and programs that it starts run there; goroutines that it starts do not.
func (ns *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := ns.enter(); err != nil {
			return err
		}
		return fn()
	})
}

func (ns *Namespace) enter() error {
	if err := unix.Setns(ns.Fd(), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace %s: %w", ns.file.Name(), err)
	}
	return nil
}

// Again opens the same namespace once more. The caller has to close both.
func (ns *Namespace) Again() (*Namespace, error) {
	fd, err := unix.FcntlInt(ns.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s again: %w", ns.file.Name(), err)
	}
	return &Namespace{os.NewFile(uintptr(fd), ns.file.Name())}, nil
}

// Fd is the file descriptor, for messages to the kernel that name a namespace. It is
// valid until Close.
func (ns *Namespace) Fd() int { return int(ns.file.Fd()) }

// Close closes the file. The namespace stays if anything else holds it.
func (ns *Namespace) Close() error { return ns.file.Close() }
