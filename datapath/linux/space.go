package linux

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// space is a network namespace that is talked to without entering it: sockets
// stay in the namespace in which they were opened.
type space struct {
	file *os.File
	*netlink.Handle
	batch *nl.SocketHandle // for messages that the library has no words for
}

func openPath(path string) (*space, error) {
	var f *os.File
	// A path such as /proc/thread-self is that of the thread that opens it.
	err := onThread(func() (err error) {
		f, err = os.Open(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return openSpace(f)
}

// openSpace takes the file over.
func openSpace(f *os.File) (*space, error) {
	s := &space{file: f}
	err := onThread(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering %s: %w", f.Name(), err)
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink in %s: %w", f.Name(), err)
		}
		s.Handle = h
		sock, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink in %s: %w", f.Name(), err)
		}
		s.batch = &nl.SocketHandle{Socket: sock}
		return nil
	})
	if err == nil {
		err = s.limits()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// limits gives every wait a deadline and dumps of thousands of entries room.
func (s *space) limits() error {
	if err := s.SetSocketTimeout(timeout); err != nil {
		return err
	}
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := s.batch.Socket.SetSendTimeout(&tv); err != nil {
		return err
	}
	if err := s.batch.Socket.SetReceiveTimeout(&tv); err != nil {
		return err
	}
	return s.batch.Socket.SetReceiveBufferSize(1<<20, true)
}

func (s *space) close() error {
	if s.Handle != nil {
		s.Close()
	}
	if s.batch != nil {
		s.batch.Close()
	}
	return s.file.Close()
}

// again opens the same namespace with sockets of its own.
func (s *space) again() (*space, error) {
	fd, err := unix.FcntlInt(s.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file.Name(), err)
	}
	return openSpace(os.NewFile(uintptr(fd), s.file.Name()))
}

// onThread runs fn on a thread of its own that ends with it, so that fn may
// enter namespaces and need not find the way back. The main thread would not
// end, and /proc/self shows its namespaces, so it is never the one.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(fn)     // while this goroutine occupies the main thread
			runtime.UnlockOSThread() //nolint:forbidigo // the main thread has entered nothing
			return
		}
		done <- fn()
	}()
	return <-done
}
