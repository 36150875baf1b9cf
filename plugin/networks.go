package plugin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// RemoveNetwork removes a network from all hosts, whoever created it. It implements
// api.Agent.
func (a *Agent) RemoveNetwork(ctx context.Context, r api.NetworkRemoval) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	if r.Network == "" {
		return "", netmap.Refuse(netmap.BadInput, "the request does not say which network to remove; give its name or its number")
	}
	view := a.gossip.View()
	n, err := findNetwork(view, r.Network)
	if err != nil {
		return "", err
	}
	where := remains(view, n.ID)
	if r.DryRun {
		return fmt.Sprintf("network %s (%d, %s) would be removed: %s", cmp.Or(n.Name, "without a name"), n.ID, joined(n.Subnets), where), nil
	}
	if _, err := a.member.Decide(ctx, state.Command{Kind: state.KindRetireNetwork, RetireNetwork: &state.RetireNetwork{ID: n.ID}}); err != nil {
		return "", err
	}
	return fmt.Sprintf("network %s (%d, %s) is removed: %s", cmp.Or(n.Name, "without a name"), n.ID, joined(n.Subnets), where), nil
}

// findNetwork finds a network that exists, by its name or number.
func findNetwork(view *netmap.View, name string) (netmap.Network, error) {
	n, found := view.FindNetwork(name)
	switch {
	case !found:
		return netmap.Network{}, netmap.Refuse(netmap.Unknown, "there is no network %s in this cluster; weft status lists them", name)
	case n.Retired:
		return netmap.Network{}, netmap.Refuse(netmap.Unknown, "network %s was removed already: %s", name, remains(view, n.ID))
	}
	return n, nil
}

// remains says on which hosts a removed network stays until its containers end.
func remains(view *netmap.View, id netmap.NetworkID) string {
	var hosts []string
	for e := range view.EndpointsOf(id) {
		if name := view.HostName(e.Host); !e.OfHost() && !slices.Contains(hosts, name) {
			hosts = append(hosts, name)
		}
	}
	if len(hosts) == 0 {
		return "no container is on it, so it goes from all hosts at once"
	}
	slices.Sort(hosts)
	return "it goes at once from hosts without containers on it, and with the last container from " + strings.Join(hosts, ", ")
}
