package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/turn"
)

// strike kills a host's agent again and again.
func (m *storm) strike(h *lab.Host, times int) error {
	for i := range times {
		if err := m.hit(h, i, rand.N(700*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// hit kills a host's agent for the i-th time, after a pause: at any instant, in the middle of a
// write to its disk, or, if twice is set, before Docker has found the socket of a new one.
func (m *storm) hit(h *lab.Host, i int, wait time.Duration) error {
	root, err := h.Root()
	if err != nil {
		return err
	}
	what, onFull := "killed at any instant", false
	switch {
	case i%16 == 9 && m.twice:
		what = "killed, and again before Docker had found its socket"
		err = h.KillAgentTwice(m.t.Context(), wait/2)
	case i%2 == 0:
		what = "killed in the middle of a write"
		err = h.KillAgentAt(m.t.Context(), func(ctx context.Context) error {
			if !turn.Sleep(ctx, wait) {
				return ctx.Err()
			}
			if err := written(root+"/var/lib/weft", 3*time.Second); err != nil {
				return err
			}
			onFull = full(h)
			turn.Sleep(ctx, rand.N(3*time.Millisecond))
			return ctx.Err()
		})
	default:
		err = h.KillAgentAt(m.t.Context(), func(ctx context.Context) error {
			defer func() { onFull = full(h) }()
			turn.Sleep(ctx, wait)
			return ctx.Err()
		})
	}
	if errors.Is(err, lab.ErrGivenUp) { // Docker was slower than KillAgentAt guesses
		what = "killed before Docker had found its socket"
		err = h.Reenable(m.t.Context())
	}
	if err != nil {
		return err
	}
	m.tally(what)
	if onFull {
		m.tally("killed on a full disk")
	}
	return nil
}

// written waits until a file of a directory is written to, or until within is over.
func written(dir string, within time.Duration) error {
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		return err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_MODIFY); err != nil {
		return err
	}
	if err := events.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err = events.Read(make([]byte, 4096))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
