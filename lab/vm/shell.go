package vm

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/turn"
)

// ports is how many commands a machine carries out at once.
const ports = 4

// unbounded is how long a command may take whose context has no deadline.
const unbounded = time.Hour

// ExitError is a command that ended with a status.
type ExitError struct {
	Status int // 124: it was ended, as its time was over
	Output string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("exit status %d: %s", e.Status, strings.TrimSpace(e.Output))
}

// shell is one port behind which a shell serves (scripts/machine-disk.sh).
type shell struct {
	path  string
	ended <-chan struct{} // qemu's end
	conn  net.Conn
	lines *bufio.Scanner
	last  int
}

// Run has bash carry out a script in the machine, as root, and returns what it wrote to both
// outputs. It ends with the context's deadline. What goes on in the background has to be started by
// systemd-run.
func (m *Machine) Run(ctx context.Context, script string) (string, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, unbounded)
		defer cancel()
	}
	if m.shells == nil {
		return "", fmt.Errorf("vm: %s is off", m.cfg.Name)
	}
	var s *shell
	select {
	case s = <-m.shells:
		defer func() { m.shells <- s }()
	case <-ctx.Done():
		return "", fmt.Errorf("vm: %s carries out other commands: %w", m.cfg.Name, ctx.Err())
	}
	out, err := s.run(ctx, script)
	if err != nil {
		return out, fmt.Errorf("%s: %w", m.cfg.Name, err)
	}
	return out, nil
}

func (s *shell) run(ctx context.Context, script string) (out string, err error) {
	if err := s.connect(ctx); err != nil {
		return "", err
	}
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s.last++
	id := strconv.Itoa(s.last)
	deadline, _ := ctx.Deadline() // Run has set one
	request := fmt.Sprintf("%s %d %s\n", id, max(1, int(time.Until(deadline).Seconds())), base64.StdEncoding.EncodeToString([]byte(script)))
	_, err = conn.Write([]byte(request))
	for err == nil && s.lines.Scan() {
		if answer := strings.Fields(s.lines.Text()); len(answer) > 1 && answer[0] == id { // else cut off, or of one that was given up
			if !stop() {
				s.conn = nil
			}
			return decode(answer[1:])
		}
	}
	stop()
	conn.Close()
	s.conn = nil
	return "", fmt.Errorf("the machine does not answer %q: %w", script[:min(len(script), 60)], errors.Join(ctx.Err(), err, s.lines.Err()))
}

// decode reads an answer: the status, and the output if there is any.
func decode(answer []string) (string, error) {
	status, err := strconv.Atoi(answer[0])
	var out []byte
	if err == nil && len(answer) > 1 {
		out, err = base64.StdEncoding.DecodeString(answer[1])
	}
	if err == nil && status != 0 {
		err = &ExitError{Status: status, Output: string(out)}
	}
	return string(out), err
}

// connect dials qemu, which makes its sockets when it starts.
func (s *shell) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.path)
		if err == nil {
			s.conn, s.lines = conn, bufio.NewScanner(conn)
			s.lines.Buffer(nil, 64<<20)
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("the machine is off")
		default:
		}
		if !turn.Sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("the machine does not start: %w", err)
		}
	}
}
