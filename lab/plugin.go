package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
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

// Agent is the number of the plugin's process inside the host. It asks containerd's state
// rather than Docker, so it answers too while dockerd is down.
func (h *Host) Agent(ctx context.Context) (pid int, err error) {
	id, err := h.pluginID(ctx)
	if err != nil {
		return 0, err
	}
	return h.agentOf(id)
}

// KillAgent kills the plugin's process with SIGKILL and waits until Docker has started
// another.
func (h *Host) KillAgent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, agentRestart)
	defer cancel()
	id, err := h.pluginID(ctx)
	if err != nil {
		return err
	}
	old, err := h.agentOf(id)
	if err != nil {
		return err
	}
	// The cgroup is looked at right before, so that a reused number is never killed.
	if _, err := h.Exec(ctx, "sh", "-c", `grep -q "$2" "/proc/$1/cgroup" && kill -9 "$1"`, "sh", strconv.Itoa(old), id); err != nil {
		return fmt.Errorf("lab: kill the agent: %w", err)
	}
	for {
		if pid, err := h.agentOf(id); err == nil && pid != old {
			return nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("lab: docker on %s has not started the agent again: %w: %s", h.Name(), err, tail(filepath.Join(h.LogDir(), "dockerd.log"), 10))
		}
	}
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
	root, err := h.Root()
	if err != nil {
		return 0, err
	}
	file := filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task/plugins.moby", id, "init.pid")
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("lab: %s: %w", h.Name(), errNoAgent)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("lab: %s: containerd's %s: %w", h.Name(), file, err)
	}
	if _, err := os.Stat(filepath.Join(root, "proc", strconv.Itoa(pid))); errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("lab: %s: %w", h.Name(), errNoAgent)
	}
	return pid, nil
}
