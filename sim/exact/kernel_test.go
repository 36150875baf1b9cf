package exact_test

import (
	"context"
	"net/netip"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/datapath/datapathtest"
	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/presence"
)

// kernel keeps the state that was set last. It implements plugin.Kernel.
type kernel struct {
	addr  netip.Addr
	state datapath.State
}

// Underlay implements plugin.Kernel.
func (k *kernel) Underlay(netip.Addr) (netip.Addr, int, error) { return k.addr, 1500, nil }

// WatchUnderlay implements plugin.Kernel.
func (k *kernel) WatchUnderlay(ctx context.Context, _ func()) { <-ctx.Done() }

// Routes implements plugin.Kernel.
func (k *kernel) Routes() []ipam.Route { return nil }

// Set implements plugin.Kernel.
func (k *kernel) Set(_ context.Context, s datapath.State) (int, error) {
	k.state = s
	return 0, nil
}

// Apply implements plugin.Kernel.
func (k *kernel) Apply(_ context.Context, ops []datapath.Op) error {
	for _, op := range ops {
		k.state = datapathtest.Apply(k.state, op)
	}
	return nil
}

// Devices implements plugin.Kernel.
func (k *kernel) Devices(context.Context) (datapath.State, error) {
	return datapathtest.WithoutTables(k.state), nil
}

// Entries implements plugin.Kernel.
func (k *kernel) Entries(_ context.Context, vni netmap.VNI, visit func(datapath.Op)) (bool, error) {
	datapathtest.Entries(k.state, vni, visit)
	return true, nil
}

// Plug implements plugin.Kernel.
func (k *kernel) Plug(_ context.Context, _ datapath.Device, p datapath.Port) (string, error) {
	return datapath.InnerName(p.Endpoint), nil
}

// Restore implements plugin.Kernel.
func (k *kernel) Restore(context.Context, datapath.Device, datapath.Port, linux.Inside) error {
	return nil
}

// Unplug implements plugin.Kernel.
func (k *kernel) Unplug(context.Context, netmap.EndpointID) error { return nil }

// SetHost implements plugin.Kernel.
func (k *kernel) WhoHas(context.Context, netmap.VNI, netip.Addr) (netmap.MAC, error) {
	return netmap.MAC{}, nil
}

func (k *kernel) SetHost(context.Context, []datapath.HostPort) (presence.HostReport, error) {
	return presence.HostReport{}, nil
}
