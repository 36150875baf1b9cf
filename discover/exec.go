package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Bounds of a command.
const (
	maxOutput  = 64 << 10 // bytes
	maxErrors  = 1 << 10  // bytes of what it writes about an error
	outputWait = time.Second
)

// hostPath is the PATH of a command.
const hostPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// output runs a command and returns the hosts that it prints, separated by blanks, commas
// or line ends. The command runs in a shell of the host without the agent's environment.
func (p *Peers) output(ctx context.Context, e Entry) ([]Entry, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", e.rest)
	cmd.Env, cmd.Dir = []string{hostPath}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.cfg.Root != "" { // the plugin's own root has no shell
		cmd.SysProcAttr.Chroot = filepath.Join(p.cfg.Root, "proc/1/root")
	}
	endGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = endGroup, outputWait
	out, said := bounded{most: maxOutput}, bounded{most: maxErrors, cut: true}
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	switch {
	case out.full:
		err = fmt.Errorf("it prints more than %d bytes", maxOutput)
	case errors.Is(err, exec.ErrWaitDelay):
		_ = endGroup() // who holds the output open is of the group, or has left it by itself
		err = errors.New("it leaves a process behind that holds its output open")
	case ctx.Err() != nil:
		err = fmt.Errorf("it runs for more than %v", askTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("the command fails: %w %s", err, said.bytes.String())
	}
	return hostsIn(strings.FieldsFunc(out.bytes.String(), func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) }), p.cfg.Self.Port())
}

// bounded keeps the first bytes that are written to it. Further bytes are an error, or are
// dropped if cut is set.
type bounded struct {
	bytes     bytes.Buffer // no embedded one: that would be read into past Write
	most      int
	cut, full bool
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.most - b.bytes.Len()
	if b.full = b.full || len(p) > room; b.full && !b.cut {
		return 0, io.ErrShortWrite
	}
	_, _ = b.bytes.Write(p[:min(len(p), room)]) // never fails
	return len(p), nil
}
