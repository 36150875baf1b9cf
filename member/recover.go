package member

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// recoverTimeout is how long an operator waits for a recovery.
const recoverTimeout = 20 * time.Second

// RecoverLedger makes this host the keeper of the ledger after a majority of the keepers was
// lost for good. It returns a sentence for the operator.
func (m *Member) RecoverLedger(ctx context.Context, hostsOff []string, dryRun bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	var off []netmap.HostID
	view := m.cluster.Gossip.View()
	keepers := map[netmap.HostID]bool{}
	for _, k := range m.ledger.Status().Keepers {
		keepers[k.ID] = true
	}
	for _, id := range m.ledgerFacts().Keepers {
		keepers[id] = true
	}
	for _, name := range hostsOff {
		id, err := only(view, keepers).FindHost(name)
		if err != nil {
			id, err = view.FindHost(name)
		}
		if err != nil {
			return "", err
		}
		off = append(off, id)
	}
	out, err := m.ledger.Recover(ctx, ledger.Recovery{Off: off, DryRun: dryRun})
	if err != nil {
		return "", err
	}
	return m.recovered(view, out, dryRun), nil
}

// only returns a view with some of the hosts.
func only(view *netmap.View, ids map[netmap.HostID]bool) *netmap.View {
	some := &netmap.View{}
	for _, h := range view.Hosts {
		if ids[h.ID] {
			some.Hosts = append(some.Hosts, h)
		}
	}
	return some
}

func (m *Member) recovered(view *netmap.View, out ledger.Recovered, dryRun bool) string {
	names := func(ids []netmap.HostID) string {
		names := make([]string, 0, len(ids))
		for _, id := range ids {
			names = append(names, view.HostName(id)+" ("+id.Short()+")")
		}
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, ", ")
	}
	will := "the ledger goes on from decision %d with this host as its keeper, under a new generation; others follow by themselves. Removed from the cluster for good: %s. Nothing new is given out until these have shown what they hold, which they do as soon as they are reached: %s"
	if dryRun {
		will = "nothing was changed. The ledger would go on from decision %d with this host as its keeper, under a new generation. These would be removed from the cluster for good: %s. Nothing new would be given out until these have shown what they hold: %s"
	}
	return fmt.Sprintf(will, out.Decided, names(out.Lost), names(out.Awaited))
}
