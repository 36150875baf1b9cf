package member

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
)

// outdated gives up this identity because the disk is proven to be an older copy.
func (m *Member) outdated(how string) error {
	text := fmt.Sprintf("the state directory of host %s is an older copy of the one that it had: %s; nothing is handed out; put the newer one back, or make this a new host (weft host new-identity)", m.self.Short(), how)
	m.revoke(lease.Fence{Host: m.self, Why: text, Outdated: true})
	m.problem("membership", text)
	return netmap.Refuse(netmap.Fenced, "%s", text)
}

// compare finds out, after a decision for this start, whether the disk is older than what the
// ledger last heard from this host: then it holds something that was given up since. A
// recovered ledger knows all that the disk holds only after ensureDeclared.
func (m *Member) compare(ctx context.Context, generation, index uint64) error {
	if !m.owns() || m.declared.unsure() {
		return nil
	}
	if err := m.ReadOwn(ctx, generation, index); err != nil {
		return err
	}
	how, err := m.own.IPAM.Outdated(func(subnet netip.Prefix) (ipam.SubnetFacts, bool) {
		view := m.cluster.Gossip.View()
		return m.viewOf(view, subnet), view.Generation == generation
	})
	if how != "" {
		return m.outdated(how)
	}
	return err
}

// owns reports whether the ledger gave this host anything, according to the disk.
func (m *Member) owns() bool {
	return slices.ContainsFunc(m.own.IPAM.Inventory(), func(p ipam.PoolStock) bool { return len(p.Blocks)+len(p.Claims) > 0 })
}

// LedgerView returns what the facts say about a subnet, or false until the facts are synced.
func (m *Member) LedgerView(subnet netip.Prefix) (ipam.SubnetFacts, bool) {
	if !m.cluster.Gossip.Synced() { // read before the view
		return ipam.SubnetFacts{}, false
	}
	return m.viewOf(m.cluster.Gossip.View(), subnet), true
}

func (m *Member) viewOf(view *netmap.View, subnet netip.Prefix) ipam.SubnetFacts {
	w := ipam.SubnetFacts{Decided: view.Decided}
	for _, b := range view.BlocksOf(subnet) {
		if b.Owner == m.self {
			w.Blocks = append(w.Blocks, b)
		}
	}
	for _, c := range view.ClaimsOf(subnet) {
		if c.Owner == m.self {
			w.Claims = append(w.Claims, c)
		} else {
			w.Others = append(w.Others, c)
		}
	}
	return w
}
