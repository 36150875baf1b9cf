package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process the lab started. Its start time tells it from a later one that got
// the same number.
type Process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot, field 22 of /proc/PID/stat
}

// errGone says that a recorded process does not run any more.
var errGone = errors.New("the process has ended")

// identify is the Process that has number pid now.
func identify(pid int) (Process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, errGone
	}
	state, started, err := parseStat(stat)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if state == 'Z' || state == 'X' {
		return Process{}, errGone
	}
	return Process{PID: pid, Started: started}, nil
}

// parseStat reads state and start time from /proc/PID/stat. The command name in it may
// hold blanks and brackets, so fields are counted from the last closing one.
func parseStat(stat []byte) (state byte, started uint64, err error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, 0, fmt.Errorf("stat line %q has no command name", stat)
	}
	fields := strings.Fields(string(stat[i+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, fmt.Errorf("stat line %q is too short", stat)
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("stat line %q: start time: %w", stat, err)
	}
	return fields[0][0], started, nil
}

// Alive reports whether the process still runs.
func (p Process) Alive() bool {
	if p.PID == 0 {
		return false
	}
	now, err := identify(p.PID)
	return err == nil && now == p
}

// open returns a descriptor of the process, errGone when it has ended. The start time is
// compared after the descriptor is open, so that it cannot belong to another process.
func (p Process) open() (int, error) {
	if p.PID == 0 {
		return -1, errGone
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, errGone
	}
	if err != nil {
		return -1, fmt.Errorf("process %d: %w", p.PID, err)
	}
	if !p.Alive() {
		unix.Close(fd)
		return -1, errGone
	}
	return fd, nil
}

// signal sends a signal and, if wait is not 0, waits that long for the process to end. A
// process that has ended already is no error.
func (p Process) signal(ctx context.Context, sig unix.Signal, wait time.Duration) error {
	fd, err := p.open()
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: send %v: %w", p.PID, sig, err)
	}
	return p.awaitEnd(ctx, fd, wait)
}

// awaitEnd waits until the process behind the descriptor has ended; not at all if wait is 0.
func (p Process) awaitEnd(ctx context.Context, fd int, wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("process %d: wait for its end: %w", p.PID, err)
		}
	}
	return fmt.Errorf("process %d still runs: %w", p.PID, ctx.Err())
}

// findInner finds the process that has a number inside the PID namespace of holder.
func findInner(holder Process, number string) (Process, error) {
	return find(holder, func(proc string) bool {
		status, err := os.ReadFile(proc + "/status")
		return err == nil && innerNumber(string(status)) == number
	})
}

// findCommand finds a process in the PID namespace of holder by arguments of it that follow
// one another.
func findCommand(holder Process, args ...string) (Process, error) {
	want := strings.Join(args, "\x00") + "\x00"
	return find(holder, func(proc string) bool {
		command, err := os.ReadFile(proc + "/cmdline")
		return err == nil && strings.Contains(string(command), "\x00"+want)
	})
}

// find answers the first process in the PID namespace of holder that matches, by its
// directory in /proc; errGone if none does.
func find(holder Process, matches func(proc string) bool) (Process, error) {
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", holder.PID))
	if err != nil {
		return Process{}, errGone
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Process{}, fmt.Errorf("list processes: %w", err)
	}
	for _, entry := range entries {
		proc := "/proc/" + entry.Name()
		if its, err := os.Readlink(proc + "/ns/pid"); err != nil || its != namespace {
			continue
		}
		if pid, err := strconv.Atoi(entry.Name()); err == nil && matches(proc) {
			return identify(pid)
		}
	}
	return Process{}, errGone
}

// innerNumber reads a process's number in its own PID namespace from /proc/PID/status.
func innerNumber(status string) string {
	_, after, ok := strings.Cut(status, "\nNSpid:")
	if !ok {
		return ""
	}
	line, _, _ := strings.Cut(after, "\n")
	numbers := strings.Fields(line)
	if len(numbers) == 0 {
		return ""
	}
	return numbers[len(numbers)-1]
}

// namespaces lists the process's own namespaces as the kernel names them, "net:[4026532281]",
// without those it shares with the caller.
func (p Process) namespaces() []string {
	var own []string
	for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc", "cgroup"} {
		mine, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			continue
		}
		if its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID, kind)); err == nil && its != mine {
			own = append(own, its)
		}
	}
	return own
}
