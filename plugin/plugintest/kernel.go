package plugintest

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/datapathtest"
	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/presence"
)

// Kernel implements plugin.Kernel with a data plane in memory. It keeps its state when an agent ends, as the
// real one does. Safe for concurrent use.
type Kernel struct {
	datapathtest.Kernel

	mu     sync.Mutex
	addr   netip.Addr
	mtu    int
	absent error // why there is no address
	watch  map[chan struct{}]struct{}
	routes []ipam.Route
	broken error
	sets   int

	hostPorts []datapath.HostPort
	used      map[netip.Addr]netmap.MAC
}

// NewKernel is the kernel of a host with one underlay address on a device with
// this MTU.
func NewKernel(addr netip.Addr, mtu int) *Kernel {
	return &Kernel{addr: addr, mtu: mtu, watch: map[chan struct{}]struct{}{}}
}

// Underlay implements plugin.Kernel.
func (k *Kernel) Underlay(netip.Addr) (netip.Addr, int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.addr, k.mtu, k.absent
}

// Move gives the host another underlay address or MTU, or takes it away if absent is
// not nil, and tells who watches.
func (k *Kernel) Move(addr netip.Addr, mtu int, absent error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addr, k.mtu, k.absent = addr, mtu, absent
	for w := range k.watch {
		select {
		case w <- struct{}{}:
		default: // it has not looked yet
		}
	}
}

// WatchUnderlay implements plugin.Kernel.
func (k *Kernel) WatchUnderlay(ctx context.Context, changed func()) {
	moved := make(chan struct{}, 1)
	k.mu.Lock()
	k.watch[moved] = struct{}{}
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watch, moved)
	}()
	for {
		select {
		case <-moved:
			changed()
		case <-ctx.Done():
			return
		}
	}
}

// Routes implements plugin.Kernel.
func (k *Kernel) Routes() []ipam.Route {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.routes
}

// Route makes the host route a prefix.
func (k *Kernel) Route(r ipam.Route) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routes = append(k.routes, r)
}

// Unroute takes the host's routes away.
func (k *Kernel) Unroute() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routes = nil
}

// Break makes Set, Apply and Devices fail with err and change nothing, until Break(nil).
func (k *Kernel) Break(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.broken = err
}

// Set implements plugin.Kernel.
func (k *Kernel) Set(ctx context.Context, s datapath.State) (int, error) {
	if err := k.fault(); err != nil {
		return 0, err
	}
	k.mu.Lock()
	k.sets++
	k.mu.Unlock()
	ops, err := k.Kernel.Set(ctx, s)
	return len(ops), err
}

// Sets returns how often Set was called.
func (k *Kernel) Sets() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sets
}

// Apply implements plugin.Kernel.
func (k *Kernel) Apply(ctx context.Context, ops []datapath.Op) error {
	if err := k.fault(); err != nil {
		return err
	}
	return k.Kernel.Apply(ctx, ops)
}

// Devices implements plugin.Kernel.
func (k *Kernel) Devices(ctx context.Context) (datapath.State, error) {
	if err := k.fault(); err != nil {
		return datapath.State{}, err
	}
	return k.Kernel.Devices(ctx)
}

func (k *Kernel) fault() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.broken
}

// Plug implements plugin.Kernel.
func (k *Kernel) Plug(ctx context.Context, d datapath.Device, p datapath.Port) (string, error) {
	return k.Kernel.Plug(ctx, datapath.Plugged{Device: d, Port: p})
}

// Restore implements plugin.Kernel: nothing is lost here.
func (k *Kernel) Restore(context.Context, datapath.Device, datapath.Port, linux.Inside) error {
	return nil
}

// Unplug implements plugin.Kernel.
func (k *Kernel) Unplug(ctx context.Context, id netmap.EndpointID) error {
	return k.Kernel.Unplug(ctx, id)
}

// SetHost implements plugin.Kernel: every interface exists.
func (k *Kernel) SetHost(_ context.Context, ports []datapath.HostPort) (presence.HostReport, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hostPorts = slices.Clone(ports)
	return presence.HostReport{}, k.broken
}

// HostPorts returns what SetHost was told last.
func (k *Kernel) HostPorts() []datapath.HostPort {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hostPorts
}

// Use has an address of whatever network this host is on answer at a MAC; a zero MAC ends that.
func (k *Kernel) Use(addr netip.Addr, mac netmap.MAC) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.used == nil {
		k.used = map[netip.Addr]netmap.MAC{}
	}
	k.used[addr] = mac
}

// WhoHas implements plugin.Kernel.
func (k *Kernel) WhoHas(_ context.Context, _ netmap.VNI, addr netip.Addr) (netmap.MAC, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.used[addr], nil
}
