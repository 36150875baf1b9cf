// Package machine is the host that an agent runs on: its kernel, its Docker, and the mount namespace
// of dockerd, which calls the agent.
package machine

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/hostnet"
	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/dataplane"
	"github.com/weftnet/weft/dns/resolver"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/presence"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/turn"
)

// host is the machine that the agent runs on: its kernel, and the mount namespace of dockerd,
// which calls the agent.
type host struct {
	kernel  *linux.Kernel
	net     *hostnet.Host
	managed bool // as a managed plugin, whose mount namespace is not the host's
	dockerd atomic.Int32
	met     chan struct{} // has a token from the first call of a dockerd
	choice  settings.Advertise
	log     *slog.Logger
}

// Config returns what an agent on this machine is made of.
func Config(s settings.Settings, version string, log *slog.Logger) (plugin.Config, error) {
	h := &host{managed: s.Root != "", choice: s.Advertise, log: log, met: make(chan struct{}, 1)}
	kernel, err := linux.Open(linux.Config{
		PinView: s.HostPath(linux.DefaultPin), HostPID: h.pid, ProcSys: filepath.Join(s.HostPath("/proc"), "sys"),
		Did: h.did,
	})
	if err != nil {
		return plugin.Config{}, err
	}
	h.kernel = kernel
	if h.net, err = hostnet.Open(hostnet.Config{ProcSys: filepath.Join(s.HostPath("/proc"), "sys")}); err != nil {
		return plugin.Config{}, errors.Join(err, kernel.Close())
	}
	var drivers []string // of a managed plugin: dockerapi finds them in Docker's list
	if !h.managed {
		drivers = []string{"weft"}
	}
	docker, err := dockerapi.Open(dockerapi.Config{Socket: s.HostPath("/run/docker.sock"), Drivers: drivers})
	if err != nil {
		return plugin.Config{}, errors.Join(err, kernel.Close(), h.net.Close())
	}
	return plugin.Config{Settings: s, Version: version, Kernel: h, Docker: docker, Sandboxes: &resolver.Host{Open: h.sandbox, Watch: h.watchMoved}, InContainer: linux.InContainer, InHost: h.inHost, CheckPaths: true, Log: log, OnCall: h.called, OnReturn: h.returned, Volatile: filepath.Dir(s.HostPath(api.SocketPath))}, nil
}

func (h *host) called(pid int32) {
	if pid > 0 && h.dockerd.Swap(pid) != pid {
		turn.Poke(h.met)
	}
}

// pid returns a process in the host's mount namespace; 0 is this one.
func (h *host) pid() (int, error) {
	if !h.managed {
		return 0, nil
	}
	if pid := h.dockerd.Load(); pid != 0 {
		return int(pid), nil
	}
	return 0, plugin.ErrNoCaller
}

// sandbox opens the network namespace of a container by its path in the mount namespace of
// dockerd, which is not known before it has called.
func (h *host) sandbox(path string) (*netns.Namespace, error) {
	pid, err := h.pid()
	if err != nil {
		return nil, errors.Join(netns.ErrNotExist, err)
	}
	return netns.OpenOf(pid, path)
}

// inHost runs fn where the host's files are, which in a managed plugin is the mount namespace of dockerd.
func (h *host) inHost(fn func() error) error {
	pid, err := h.pid()
	if err != nil {
		return err
	}
	return netns.InMounts(pid, fn)
}

// watchMoved calls moved when an interface may have been moved into a container, and when dockerd
// has called.
func (h *host) watchMoved(ctx context.Context, moved func()) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-h.met:
				moved()
			}
		}
	})
	linux.WatchMoved(ctx, linux.Config{}, moved, func(err error) {
		h.log.Warn("the kernel does not tell when an interface is moved into a container; that is noticed later", "err", err)
	})
}

// returned makes the kernel's side forget what it knows, as in a new process.
func (h *host) returned() {
	ctx, cancel := context.WithTimeout(context.Background(), dataplane.Limit)
	defer cancel()
	if err := h.kernel.Forget(ctx); err != nil {
		h.log.Warn("the kernel's side cannot forget what the agent before plugged", "err", err)
	}
}

// Set implements plugin.Kernel.
func (h *host) Set(ctx context.Context, s datapath.State) (int, error) {
	return h.done(h.kernel.Set(ctx, s))
}

// Apply implements plugin.Kernel.
func (h *host) Apply(ctx context.Context, ops []datapath.Op) error {
	_, err := h.done(h.kernel.Apply(ctx, ops))
	return err
}

// Devices implements plugin.Kernel.
func (h *host) Devices(ctx context.Context) (datapath.State, error) { return h.kernel.Devices(ctx) }

// Entries implements plugin.Kernel.
func (h *host) Entries(ctx context.Context, vni netmap.VNI, visit func(datapath.Op)) (bool, error) {
	return h.kernel.Entries(ctx, vni, visit)
}

func (h *host) done(r linux.Report, err error) (int, error) {
	errs := []error{err}
	for _, f := range r.Failed {
		errs = append(errs, f)
	}
	return r.Done, errors.Join(errs...)
}

func (h *host) did(op datapath.Op) {
	if h.log.Enabled(context.Background(), slog.LevelDebug) {
		h.log.Debug("kernel", "op", op.String())
	}
}

// Plug implements plugin.Kernel.
func (h *host) Plug(ctx context.Context, d datapath.Device, p datapath.Port) (string, error) {
	return h.kernel.Plug(ctx, datapath.Plugged{Device: d, Port: p})
}

// Restore implements plugin.Kernel.
func (h *host) Restore(ctx context.Context, d datapath.Device, p datapath.Port, in linux.Inside) error {
	return h.kernel.Restore(ctx, datapath.Plugged{Device: d, Port: p}, in)
}

// Unplug implements plugin.Kernel.
func (h *host) Unplug(ctx context.Context, id netmap.EndpointID) error {
	return h.kernel.Unplug(ctx, id)
}

// WhoHas implements plugin.Kernel.
func (h *host) WhoHas(_ context.Context, vni netmap.VNI, addr netip.Addr) (netmap.MAC, error) {
	mac, err := h.kernel.WhoHas(vni, addr)
	if err != nil {
		h.log.Warn("an address is handed out although nobody can be asked whether a container uses it", "addr", addr, "err", err)
	}
	return mac, err
}

// SetHost implements plugin.Kernel.
func (h *host) SetHost(ctx context.Context, ports []datapath.HostPort) (presence.HostReport, error) {
	r, err := h.net.Set(ctx, ports)
	return presence.HostReport{Missing: r.Missing, Changed: r.Done, Docker: r.Docker}, errors.Join(err, r.Unpublished)
}

// Routes implements plugin.Kernel. If the host's routes cannot be read it returns none: the check for
// overlaps is a help to operators and no guarantee.
func (h *host) Routes() []ipam.Route {
	routes, err := linux.Routes(linux.Config{})
	if err != nil {
		h.log.Warn("the host's routes cannot be read; subnets that overlap them are not refused", "err", err)
	}
	out := make([]ipam.Route, 0, len(routes))
	for _, r := range routes {
		name := "the route via " + cmp.Or(r.Device, "no device")
		if r.Device == dockerapi.GatewayNetwork {
			name = r.Device + ", Docker's network for egress and published ports"
		}
		out = append(out, ipam.Route{Prefix: r.Prefix, Name: name, Own: strings.HasPrefix(r.Device, "wf")})
	}
	return out
}

// Underlay implements plugin.Kernel.
func (h *host) Underlay(current netip.Addr) (netip.Addr, int, error) {
	u, err := linux.FindUnderlay(linux.Config{}, h.choice.String(), current)
	return u.Addr, u.MTU, err
}

// WatchUnderlay implements plugin.Kernel.
func (h *host) WatchUnderlay(ctx context.Context, changed func()) {
	linux.WatchUnderlay(ctx, linux.Config{}, changed, func(err error) {
		h.log.Warn("the kernel reports no changes of the underlay; they are noticed by polling", "err", err)
	})
}
