package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/turn"
)

const (
	engineStart = 60 * time.Second // at most until dockerd answers, with containers to restart
	engineStop  = 60 * time.Second
	pollEvery   = 25 * time.Millisecond
)

// StartDocker starts containerd and dockerd, those that do not run, and returns when Docker
// answers. The arguments are added to those of the lab's Config and are kept for the next
// start.
func (h *Host) StartDocker(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, engineStart)
	defer cancel()
	r, err := h.record()
	if err != nil {
		return err
	}
	if !r.Containerd.Alive() {
		if err := h.startContainerd(ctx); err != nil {
			return err
		}
	}
	if !r.Dockerd.Alive() {
		if err := h.startDockerd(ctx, args); err != nil {
			return err
		}
	}
	if err := h.awaitDocker(ctx); err != nil {
		return err
	}
	return h.lab.book.changeHost(h.n, func(r *HostRecord) { r.DockerArgs = args })
}

func (h *Host) startContainerd(ctx context.Context) error {
	p, err := h.daemon(ctx, "containerd", h.lab.tools.containerd)
	if err != nil {
		return err
	}
	if err := h.lab.book.changeHost(h.n, func(r *HostRecord) { r.Containerd = p }); err != nil {
		return err
	}
	root, err := h.Root()
	if err != nil {
		return err
	}
	return h.await(ctx, "containerd", p, func() bool {
		conn, err := net.Dial("unix", root+"/run/containerd/containerd.sock")
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

func (h *Host) startDockerd(ctx context.Context, args []string) error {
	argv := []string{h.lab.tools.dockerd, "--host=unix:///var/run/docker.sock", "--containerd=/run/containerd/containerd.sock"}
	argv = append(append(argv, h.lab.cfg.DockerArgs...), args...)
	p, err := h.daemon(ctx, "dockerd", argv...)
	if err != nil {
		return err
	}
	return h.lab.book.changeHost(h.n, func(r *HostRecord) { r.Dockerd = p })
}

// awaitDocker waits until the engine answers its ping.
func (h *Host) awaitDocker(ctx context.Context) error {
	r, err := h.record()
	if err != nil {
		return err
	}
	socket, err := h.DockerSocket()
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	return h.await(ctx, "dockerd", r.Dockerd, func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
		if err != nil {
			return false
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// await asks until the answer is yes, the daemon has ended or ctx is over.
func (h *Host) await(ctx context.Context, name string, p Process, ready func() bool) error {
	logFile := filepath.Join(h.LogDir(), name+".log")
	for !ready() {
		if !p.Alive() {
			return fmt.Errorf("lab: %s on %s ended: %s", name, h.Name(), tail(logFile, 8))
		}
		if !turn.Sleep(ctx, pollEvery) {
			return fmt.Errorf("lab: %s on %s does not answer: %w: %s", name, h.Name(), ctx.Err(), tail(logFile, 8))
		}
	}
	return nil
}

// StopDocker stops dockerd as an orderly shutdown of the service does. containerd goes on,
// as on a Debian host.
func (h *Host) StopDocker(ctx context.Context) error {
	return h.endDocker(ctx, unix.SIGTERM)
}

// KillDocker kills dockerd with SIGKILL. Containers and plugins go on.
func (h *Host) KillDocker(ctx context.Context) error {
	return h.endDocker(ctx, unix.SIGKILL)
}

// KillContainerd kills containerd with SIGKILL. Containers go on; StartDocker starts it again.
func (h *Host) KillContainerd(ctx context.Context) error {
	r, err := h.record()
	if err != nil {
		return err
	}
	if err := r.Containerd.signal(ctx, unix.SIGKILL, engineStop); err != nil {
		return fmt.Errorf("lab: containerd on %s: %w", h.Name(), err)
	}
	return nil
}

func (h *Host) endDocker(ctx context.Context, sig unix.Signal) error {
	r, err := h.record()
	if err != nil {
		return err
	}
	if err := r.Dockerd.signal(ctx, sig, engineStop); err != nil {
		return fmt.Errorf("lab: dockerd on %s: %w", h.Name(), err)
	}
	return nil
}

// RestartDocker stops dockerd in an orderly way and starts it with these further arguments
// ("--live-restore"), or with those it had when none are given.
func (h *Host) RestartDocker(ctx context.Context, args ...string) error {
	if err := h.StopDocker(ctx); err != nil {
		return err
	}
	if len(args) == 0 {
		r, err := h.record()
		if err != nil {
			return err
		}
		args = r.DockerArgs
	}
	return h.StartDocker(ctx, args...)
}

// StartRegistry starts Debian's docker-registry inside the host on its loopback, port
// 5000, which dockerd trusts without TLS, and returns its address. It serves until the
// host is switched off; what it stores is on the host's disk.
func (h *Host) StartRegistry(ctx context.Context) (string, error) {
	const addr = "127.0.0.1:5000"
	program, err := findTool(searchPath, "docker-registry")
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	config := "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /var/lib/registry\n  delete:\n    enabled: true\nhttp:\n  addr: " + addr + "\n"
	if err := os.WriteFile(filepath.Join(h.Disk(), "registry.yml"), []byte(config), 0o644); err != nil {
		return "", fmt.Errorf("lab: %s: %w", h.Name(), err)
	}
	p, err := h.daemon(ctx, "registry", program, "serve", "/var/lib/registry.yml")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return addr, h.await(ctx, "registry", p, func() bool {
		conn, err := h.Dial(ctx, "tcp", addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// errNoAgent says that a plugin has no process now.
var errNoAgent = errors.New("the plugin has no running process")
