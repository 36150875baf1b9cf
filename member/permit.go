package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
)

// MayHandOut returns why this host may hand out no new address, or nil (invariant 4). Last
// reports that it may still hand out what its containers had before. It asks the facts about a
// removal before the lease.
func (m *Member) MayHandOut(ctx context.Context) (last bool, err error) {
	if err := m.checkRemoved(ctx); err != nil {
		return false, err
	}
	if m.leaving.now.Load() && !m.HasLeft() {
		return false, netmap.Refuse(netmap.Held, "host %s is leaving the cluster (weft host leave) and hands out nothing new; start the container on another host", m.cfg.Name)
	}
	may, err := m.lease.Allowed(ctx)
	return may == lease.WhatWasHere, m.nameKeepers(err)
}

// nameKeepers adds to an error for lack of keepers which of them are missing.
func (m *Member) nameKeepers(err error) error {
	if !errors.Is(err, &netmap.Refusal{Kind: netmap.NoQuorum}) {
		return err
	}
	trouble := cmp.Or(m.ledger.Status().Problem, m.unseenKeepers())
	if trouble == "" {
		return err
	}
	return netmap.Refuse(netmap.NoQuorum, "%v; %s", err, trouble)
}

// unseenKeepers names the keepers, according to the facts, that are not alive; empty if all
// are. Just after its start a host knows no others.
func (m *Member) unseenKeepers() string {
	var unseen []string
	view := m.cluster.Gossip.View()
	for _, id := range view.Keepers() {
		if h, _ := view.Host(id); id != m.self && !m.Alive(id) {
			unseen = append(unseen, fmt.Sprintf("%s (%s)", view.HostName(id), h.Fact.Underlay))
		}
	}
	if len(unseen) == 0 {
		return ""
	}
	return "these keepers are not seen: " + strings.Join(unseen, ", ")
}

// Alive reports whether another host is alive according to the gossip.
func (m *Member) Alive(id netmap.HostID) bool {
	for _, other := range m.cluster.Gossip.Members() {
		if other.ID == id {
			return other.Alive
		}
	}
	return false
}
