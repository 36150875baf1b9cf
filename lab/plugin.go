package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/turn"
)

// PluginName is the name that InstallPlugin gives the plugin, as Docker stores it.
const PluginName = "weftnet/weft:latest"

// agentRestart is how long Docker may take to start a killed plugin again.
const agentRestart = 30 * time.Second

// InstallPlugin creates the plugin from a directory with config.json and rootfs, gives it
// settings ("WEFT_JOIN=10.99.0.1") and enables it, as a user does. A plugin of that name
// that is there already is replaced.
func (h *Host) InstallPlugin(ctx context.Context, dir string, settings ...string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("lab: plugin directory: %w", err)
	}
	if _, err := h.pluginID(ctx); err == nil {
		if _, err := h.Docker(ctx, "plugin", "rm", "--force", PluginName); err != nil {
			return err
		}
	}
	if _, err := h.Docker(ctx, "plugin", "create", PluginName, dir); err != nil {
		return err
	}
	if len(settings) > 0 {
		if _, err := h.Docker(ctx, append([]string{"plugin", "set", PluginName}, settings...)...); err != nil {
			return err
		}
	}
	if _, err := h.Docker(ctx, "plugin", "enable", PluginName); err != nil {
		return fmt.Errorf("%w\nits log: %s", err, tail(filepath.Join(h.LogDir(), "dockerd.log"), 10))
	}
	return nil
}

// Agent is the number of the plugin's process inside the host.
func (h *Host) Agent(ctx context.Context) (pid int, err error) {
	id, err := h.pluginID(ctx)
	if err != nil {
		return 0, err
	}
	return h.agentOf(id)
}

// KillAgent kills the plugin's process with SIGKILL and waits until Docker has started
// another and has connected to it.
func (h *Host) KillAgent(ctx context.Context) error {
	return h.KillAgentAt(ctx, func(context.Context) error { return nil })
}

// KillAgentAt is KillAgent at the instant at which moment returns. Between that and the
// kill there is one system call.
func (h *Host) KillAgentAt(ctx context.Context, moment func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, agentRestart)
	defer cancel()
	id, old, err := h.strike(ctx, moment)
	if err != nil {
		return err
	}
	if err := h.awaitAgent(ctx, id, old); err != nil {
		return fmt.Errorf("lab: %s: %w: %w: %s", h.Name(), ErrGivenUp, err, tail(filepath.Join(h.LogDir(), "dockerd.log"), 10))
	}
	return nil
}

// KillAgentTwice kills the plugin's process and, this long after Docker has started another,
// that one too. Docker waits for the socket of a plugin that it started and hears only
// after that, 9.5 s later, that it has ended; then it gives the plugin up. So this does
// what an operator would: it disables and enables the plugin.
func (h *Host) KillAgentTwice(ctx context.Context, after time.Duration) error {
	id, old, err := h.strike(ctx, func(context.Context) error { return nil })
	if err != nil {
		return err
	}
	soon, over := context.WithTimeout(ctx, agentRestart)
	defer over()
	if err := h.awaitProcess(soon, id, old); err != nil {
		return fmt.Errorf("lab: %s: %w: %w", h.Name(), ErrGivenUp, err)
	}
	if _, _, err := h.strike(ctx, func(ctx context.Context) error {
		turn.Sleep(ctx, after)
		return ctx.Err()
	}); err != nil {
		return err
	}
	if !turn.Sleep(ctx, dockerGivesUp) { // asked earlier, 20.10 loses track of what runs
		return ctx.Err()
	}
	return h.Reenable(ctx)
}

// strike kills the plugin's process and answers its number inside the host.
func (h *Host) strike(ctx context.Context, moment func(context.Context) error) (id string, pid int, err error) {
	r, err := h.record()
	if err != nil {
		return "", 0, err
	}
	if id, err = h.pluginID(ctx); err != nil {
		return "", 0, err
	}
	if pid, err = h.agentOf(id); err != nil {
		return "", 0, err
	}
	agent, err := findInner(r.Holder, strconv.Itoa(pid))
	if err == nil {
		err = moment(ctx)
	}
	if err == nil {
		err = agent.signal(ctx, unix.SIGKILL, agentRestart)
	}
	if err != nil {
		return "", 0, fmt.Errorf("lab: kill the agent of %s: %w", h.Name(), err)
	}
	return id, pid, nil
}

// ErrGivenUp is wrapped when Docker has not started a killed plugin again. It gives up one
// that was killed before it had found its socket, and when that is can only be guessed.
var ErrGivenUp = errors.New("docker has not started the agent again")

// Reenable disables and enables the plugin until Docker does it: while it still waits for
// a process that has ended it refuses either. A process that was killed before containerd had
// started it counts as running for ever, and Docker cannot enable the plugin beside what
// containerd keeps of it ("id already in use").
func (h *Host) Reenable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*agentRestart)
	defer cancel()
	for {
		_, offErr := h.Docker(ctx, "plugin", "disable", "--force", PluginName)
		_, err := h.Docker(ctx, "plugin", "enable", PluginName)
		if err == nil {
			return nil
		}
		var clearErr error
		if strings.Contains(err.Error(), "already in use") {
			clearErr = h.clearTask(ctx)
		}
		if !turn.Sleep(ctx, dockerFirstLook) {
			return fmt.Errorf("lab: docker on %s does not enable the plugin again: %w", h.Name(), errors.Join(offErr, err, clearErr))
		}
	}
}

// clearTask ends what containerd keeps of the plugin's process, its shim and its record, and
// waits until Docker has cleaned up after it: Docker removes the plugin's sockets then, those
// of a process that it started meanwhile too.
func (h *Host) clearTask(ctx context.Context) error {
	r, err := h.record()
	if err != nil {
		return err
	}
	id, err := h.pluginID(ctx)
	if err != nil {
		return err
	}
	shim, err := findCommand(r.Holder, "-namespace", "plugins.moby", "-id", id)
	if err == nil {
		err = shim.signal(ctx, unix.SIGKILL, agentRestart)
	}
	if err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("lab: the plugin's shim on %s: %w", h.Name(), err)
	}
	root, err := h.Root()
	if err != nil {
		return err
	}
	for end := time.Now().Add(dockerNextLook); time.Now().Before(end); turn.Sleep(ctx, pollEvery) {
		if _, err := os.Stat(filepath.Join(root, "run/docker/plugins", id)); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	_, err = h.Exec(ctx, "ctr", "--namespace", "plugins.moby", "containers", "rm", id)
	return err
}

// Docker looks for a started plugin's socket this long after its start, and then this often.
// One that ends before that is not started again.
const (
	dockerFirstLook = 500 * time.Millisecond
	dockerNextLook  = 3 * time.Second
	dockerConnects  = 300 * time.Millisecond // from its look to the end of its first calls
	dockerGivesUp   = 10 * time.Second       // after four looks
)

// awaitAgent waits for another process than old, for its socket, and for Docker's next look
// at that socket.
func (h *Host) awaitAgent(ctx context.Context, id string, old int) error {
	if err := h.awaitProcess(ctx, id, old); err != nil {
		return err
	}
	started := time.Now()
	if file, err := h.pidFile(id); err == nil {
		if info, err := os.Stat(file); err == nil {
			started = info.ModTime()
		}
	}
	for !h.agentAccepts(id) {
		if !turn.Sleep(ctx, pollEvery) {
			return ctx.Err()
		}
	}
	turn.Sleep(ctx, untilDockerConnects(time.Since(started)))
	return ctx.Err()
}

// awaitProcess waits for another process than old.
func (h *Host) awaitProcess(ctx context.Context, id string, old int) error {
	for pid, err := h.agentOf(id); err != nil || pid == old; pid, err = h.agentOf(id) {
		if !turn.Sleep(ctx, pollEvery) {
			return ctx.Err()
		}
	}
	return nil
}

// untilDockerConnects is how long Docker still needs to connect to a plugin whose socket
// accepts since now, this long after its start.
func untilDockerConnects(age time.Duration) time.Duration {
	look := dockerFirstLook
	for look < age {
		look += dockerNextLook
	}
	return look - age + dockerConnects
}

// agentAccepts reports whether something listens on the plugin's socket.
func (h *Host) agentAccepts(id string) bool {
	conn, err := h.dialAgent(context.Background(), id)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// AgentDialer makes connections to the plugin's socket, on which Docker asks it.
func (h *Host) AgentDialer(ctx context.Context) (func(context.Context) (net.Conn, error), error) {
	id, err := h.pluginID(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) { return h.dialAgent(ctx, id) }, nil
}

func (h *Host) dialAgent(ctx context.Context, id string) (net.Conn, error) {
	root, err := h.Root()
	if err != nil {
		return nil, err
	}
	// With its id in it the path is longer than the kernel takes for a socket.
	dir, err := os.Open(filepath.Join(root, "run/docker/plugins", id))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	err = fmt.Errorf("lab: the plugin on %s has no socket", h.Name())
	sockets, _ := filepath.Glob(fmt.Sprintf("/proc/self/fd/%d/*.sock", dir.Fd()))
	for _, socket := range sockets {
		var conn net.Conn
		if conn, err = (&net.Dialer{}).DialContext(ctx, "unix", socket); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// pluginID is Docker's id of the plugin.
func (h *Host) pluginID(ctx context.Context) (string, error) {
	id, err := h.Docker(ctx, "plugin", "inspect", "--format", "{{.Id}}", PluginName)
	if err != nil {
		return "", err
	}
	if id == "" {
		return "", fmt.Errorf("lab: docker on %s has no plugin %s", h.Name(), PluginName)
	}
	return id, nil
}

// agentOf reads the process number that containerd keeps beside the plugin's bundle.
func (h *Host) agentOf(id string) (int, error) {
	file, err := h.pidFile(id)
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("lab: %s: %w", h.Name(), errNoAgent)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("lab: %s: containerd's %s: %w", h.Name(), file, err)
	}
	root, err := h.Root()
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(filepath.Join(root, "proc", strconv.Itoa(pid))); errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("lab: %s: %w", h.Name(), errNoAgent)
	}
	return pid, nil
}

// pidFile is made when the plugin's process is.
func (h *Host) pidFile(id string) (string, error) {
	root, err := h.Root()
	return filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task/plugins.moby", id, "init.pid"), err
}
