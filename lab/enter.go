package lab

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// insideHost are the namespaces that a command inside a host lives in. The cgroup
// namespace is not among them: daemons enter it after they have joined the cgroups.
const insideHost = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID

// startIn starts a command in namespaces of a recorded process. The command is the
// caller's own child and is waited for as usual.
func startIn(holder Process, namespaces int, cmd *exec.Cmd) error {
	return doIn(holder, namespaces, cmd.Start)
}

// doIn does something in namespaces of a recorded process, on a thread that ends with it,
// so that none of the caller's ever see them.
func doIn(holder Process, namespaces int, do func() error) error {
	fd, err := holder.open()
	if err != nil {
		return fmt.Errorf("lab: process %d: %w; `lab up` brings it up again", holder.PID, err)
	}
	defer unix.Close(fd)
	done := make(chan error, 1)
	go onThrowawayThread(func() {
		if err := enter(fd, namespaces); err != nil {
			done <- err
			return
		}
		done <- do()
	})
	return <-done
}

// onThrowawayThread runs do on a thread that is never used again. The process's first
// thread cannot be thrown away, and /proc/self shows its namespaces, so it is spared: it is
// held here while another one does the work.
func onThrowawayThread(do func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		do()
		return // without unlocking: the thread ends with this goroutine
	}
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		do()
		close(done)
	}()
	<-done
	runtime.UnlockOSThread() //nolint:forbidigo // this thread has entered nothing, the other one did
}

func enter(fd, namespaces int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("lab: leave the process's own root directory: %w", err)
	}
	if err := unix.Setns(fd, namespaces); err != nil {
		return fmt.Errorf("lab: enter namespaces: %w", err)
	}
	return nil
}
