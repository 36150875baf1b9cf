package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program to run inside a host.
type Command struct {
	// Args are the program, looked up on the host's PATH, and its arguments.
	Args []string
	// Dir is the working directory; one that the host does not have becomes /.
	Dir string
	// Env is added to the hosts' plain environment.
	Env []string
	// Stdin, Stdout and Stderr may be nil.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal leaves the program in the caller's process group, as an interactive one needs.
	Terminal bool
}

// outputWait is how long the output of a program that has ended may stay open. Another program
// that was forked meanwhile has it too until it is executed, which takes seconds while the disk
// is busy.
const outputWait = 20 * time.Second

// Run runs a program inside the host and waits for its end. When ctx ends first the
// program and its process group are killed. A failure of the program itself is an
// *exec.ExitError.
func (h *Host) Run(ctx context.Context, c Command) error {
	r, err := h.record()
	if err != nil {
		return err
	}
	cmd, err := h.command(ctx, c)
	if err != nil {
		return err
	}
	if err := startIn(r.Holder, insideHost, cmd); err != nil {
		return fmt.Errorf("%s: %s: %w", h.Name(), strings.Join(c.Args, " "), err)
	}
	return cmd.Wait()
}

func (h *Host) command(ctx context.Context, c Command) (*exec.Cmd, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("lab: no program given")
	}
	program := c.Args[0]
	if !strings.Contains(program, "/") {
		path := searchPath
		if own := h.lab.cfg.Engine.Path; own != "" {
			path = own + ":" + path
		}
		found, err := findTool(path, program)
		if err != nil {
			return nil, fmt.Errorf("lab: %s: %w", h.Name(), err)
		}
		program = found
	}
	cmd := exec.CommandContext(ctx, program, c.Args[1:]...)
	cmd.Env, cmd.Dir = hostEnv(h.lab.cfg.Engine.Path, c.Env), c.Dir
	if !h.hasDir(c.Dir) {
		cmd.Dir = "/"
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.WaitDelay = outputWait
	if !c.Terminal {
		cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	}
	return cmd, nil
}

func (h *Host) hasDir(dir string) bool {
	root, err := h.Root()
	if err != nil || dir == "" {
		return false
	}
	info, err := os.Stat(filepath.Join(root, dir))
	return err == nil && info.IsDir()
}

// Exec runs a program inside the host and returns what it wrote to its output, without
// blanks around it. The error has what it wrote to its error output.
func (h *Host) Exec(ctx context.Context, args ...string) (string, error) {
	return h.output(ctx, Command{Args: args})
}

// Docker runs the docker command inside the host, as Exec does.
func (h *Host) Docker(ctx context.Context, args ...string) (string, error) {
	return h.output(ctx, h.DockerCommand(args...))
}

// DockerCommand is the docker command with these arguments, for Run.
func (h *Host) DockerCommand(args ...string) Command {
	return Command{Args: append([]string{h.lab.tools.docker}, args...)}
}

func (h *Host) output(ctx context.Context, c Command) (string, error) {
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	if err := h.Run(ctx, c); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
		}
		said := strings.TrimSpace(errOut.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		args := append([]string{filepath.Base(c.Args[0])}, c.Args[1:]...)
		return strings.TrimSpace(out.String()), fmt.Errorf("%s: %s: %w: %s", h.Name(), strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(out.String()), nil
}

// Dial connects to an address from inside the host, as net.Dialer.DialContext does. The
// address must be a number, not a name.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("lab: dial from %s: %w", h.Name(), err)
	}
	r, err := h.record()
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = doIn(r.Holder, unix.CLONE_NEWNET, func() error {
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: from %s: %w", h.Name(), err)
	}
	return conn, nil
}

// Listen listens at an address inside the host, as net.ListenConfig.Listen does.
func (h *Host) Listen(ctx context.Context, network, address string) (ln net.Listener, err error) {
	r, err := h.record()
	if err != nil {
		return nil, err
	}
	err = doIn(r.Holder, unix.CLONE_NEWNET, func() (err error) {
		ln, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: on %s: %w", h.Name(), err)
	}
	return ln, nil
}

// daemonScript joins the host's cgroups and their namespace and starts the daemon, whose
// number it writes to descriptor 3. It ends at once, so that the daemon becomes a child of
// the host's process 1, which collects it whatever becomes of the caller.
const daemonScript = `set -e
while [ "$1" != -- ]; do echo 0 >"$1"; shift; done
nsenter --cgroup=/proc/1/ns/cgroup "$@" 3>&- </dev/null &
echo $! >&3`

// daemon starts a program inside the host that goes on when the caller ends. Its output
// is appended to a log named after it.
func (h *Host) daemon(ctx context.Context, name string, args ...string) (Process, error) {
	r, err := h.record()
	if err != nil {
		return Process{}, err
	}
	out, err := os.OpenFile(filepath.Join(h.LogDir(), name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return Process{}, fmt.Errorf("lab: %s: %w", h.Name(), err)
	}
	defer out.Close()
	pidR, pidW, err := os.Pipe()
	if err != nil {
		return Process{}, fmt.Errorf("lab: %w", err)
	}
	defer pidR.Close()
	argv := append([]string{"-c", daemonScript, name}, innerJoinFiles(h.lab.trees)...)
	cmd := exec.CommandContext(ctx, "/bin/sh", append(append(argv, "--"), args...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = hostEnv(h.lab.cfg.Engine.Path, nil), "/", out, out
	cmd.ExtraFiles = []*os.File{pidW}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	err = startIn(r.Holder, insideHost, cmd)
	pidW.Close()
	if err != nil {
		return Process{}, fmt.Errorf("%s: %s: %w", h.Name(), name, err)
	}
	inner, err := io.ReadAll(pidR)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return Process{}, fmt.Errorf("lab: %s: start %s: %w: %s", h.Name(), name, err, tail(out.Name(), 5))
	}
	p, err := findInner(r.Holder, strings.TrimSpace(string(inner)))
	if err != nil {
		return Process{}, fmt.Errorf("lab: %s: %s: %w: %s", h.Name(), name, err, tail(out.Name(), 5))
	}
	return p, nil
}
