package plugin

import (
	"context"
	"net/netip"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/replicate"
)

func (a *Agent) openReplicas() (err error) {
	a.replicas, err = replicate.Open(replicate.Config{
		Self: a.self, Replicate: a.cfg.Settings.Replicate, Docker: a.cfg.Docker, Driver: a.attach.Of(netmap.OwnerDocker), Facts: a.gossip,
		Disk: a.store.Bucket("removals"), Problem: a.problem, Log: a.log,
		Routes: func() (out []netip.Prefix) {
			for _, r := range a.cfg.Kernel.Routes() {
				out = append(out, r.Prefix)
			}
			return out
		},
		Decide: func(ctx context.Context, c state.Command) error {
			_, err := a.member.Decide(ctx, c)
			return err
		},
	})
	return err
}

// Deleted implements driver.Docker.
func (a *Agent) Deleted(docker string) { a.replicas.Deleted(docker) }

// RefusedSwarm implements driver.Docker.
func (a *Agent) RefusedSwarm(docker string) string { return a.replicas.RefusedSwarm(docker) }
