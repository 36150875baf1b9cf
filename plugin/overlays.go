package plugin

import (
	"context"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/overlays"
)

// newOverlays makes networks of the overlays of a DC/OS master.
func newOverlays(a *Agent) *overlays.Keeper {
	s := a.cfg.Settings
	return overlays.New(overlays.KeeperConfig{
		Path: s.Overlays.File, CNIDir: s.Overlays.CNIDir, Admin: s.Overlays.Admin, Replicate: s.Replicate,
		Self: a.self, Facts: a.gossip, Docker: a.cfg.Docker, InHost: a.cfg.InHost, NotYet: ErrNoCaller,
		Devices: overlays.Devices{Bridge: datapath.BridgeName, VXLAN: datapath.VXLANName},
		Say:     func(text string) { a.changeFact(func(f *netmap.HostFact) { f.Overlays = text }) },
		Remove: func(ctx context.Context, id netmap.HostID) error {
			_, err := a.RemoveHost(ctx, api.Removal{Host: id.String()})
			return err
		},
		Problem: a.problem, Log: a.log,
	})
}
