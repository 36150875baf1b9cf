package plugin

import (
	"context"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/paths"
)

// checkPaths returns what notices packets that the underlay loses without a word.
func checkPaths(a *Agent) func(context.Context) {
	if !a.cfg.CheckPaths {
		return func(context.Context) {}
	}
	return paths.New(paths.Config{
		Self: a.self, View: a.gossip.View, Alive: func() map[netmap.HostID]bool { return alive(a) },
		MTU: func() int {
			at := a.place()
			if bound := a.cfg.Settings.MTU; bound > 0 {
				return min(at.MTU, bound+datapath.Overhead(at.Addr))
			}
			return at.MTU
		},
		Arrives: a.port.Arrives, Carries: func(size int) { setMTU(a, func() { a.carries = size }) }, Problem: a.problem,
	}).Run
}
