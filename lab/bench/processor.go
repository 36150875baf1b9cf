package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// listener is the process that a dialer's connections end at.
func listener(ctx context.Context, dial func(context.Context) (net.Conn, error)) (pid int, err error) {
	c, err := dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%s is no unix socket", c.RemoteAddr())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(controlErr, err); err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}

// processor is the time that both ends have run so far, agent and callers.
func (d *desk) processor() (time.Duration, error) { return ran([]int{d.agent, os.Getpid()}) }

// ran is how long processes have run so far, together: clock_getcpuclockid(3).
func ran(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}
