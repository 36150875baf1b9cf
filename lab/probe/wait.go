package probe

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitMillis is how long read waits in the kernel before it leaves the waiting to Go.
const awaitMillis = 10

// read is c.Read, but waits for the next bytes in the kernel: a round trip that wakes two
// goroutines by way of Go's scheduler takes several times as long as the network that is
// measured. Deadlines and Close work as with Read, up to 10 ms late.
func read(c net.Conn, buf []byte) (n int, err error) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return c.Read(buf)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	waited := raw.Read(func(fd uintptr) bool {
		n, failed = readWithin(int(fd), buf)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if waited != nil {
		return 0, waited
	}
	return n, failed
}

// readWithin reads from a socket that does not block, after waiting for it a little.
// Without anything to read it fails with EAGAIN.
func readWithin(fd int, buf []byte) (int, error) {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(ready, awaitMillis); err != nil && !errors.Is(err, unix.EINTR) {
		return 0, os.NewSyscallError("poll", err)
	}
	n, err := unix.Read(fd, buf)
	switch {
	case errors.Is(err, unix.EINTR):
		return 0, unix.EAGAIN
	case err != nil:
		return 0, err
	case n == 0 && len(buf) > 0:
		return 0, io.EOF
	}
	return n, nil
}
