package member

import (
	"encoding/json"
	"net/netip"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// keepersKey holds the keepers that this host trusts.
const keepersKey = "trusted"

// loadKeepers reads the keepers that this host trusted when it stopped.
func (m *Member) loadKeepers() (keepers []ledger.Peer) {
	kept, err := m.cfg.Bucket("keepers").Load()
	if err == nil && len(kept[keepersKey]) > 0 {
		err = json.Unmarshal(kept[keepersKey], &keepers)
	}
	if err != nil {
		m.cfg.Log.Warn("the keepers of the ledger cannot be read from disk; this host trusts the first that answer", "err", err)
		return nil
	}
	return keepers
}

// keepKeepers writes the keepers that this host trusts to disk.
func (m *Member) keepKeepers(keepers []ledger.Peer) {
	raw, err := json.Marshal(keepers)
	if err == nil {
		err = m.cfg.Bucket("keepers").Commit(map[string][]byte{keepersKey: raw})
	}
	if err != nil {
		m.cfg.Log.Warn("the keepers of the ledger cannot be written to disk", "err", err)
	}
}

// forgetKeepers makes this host trust the first keepers that answer.
func (m *Member) forgetKeepers() error {
	return m.cfg.Bucket("keepers").Commit(nil, keepersKey)
}

func (m *Member) earlier() []state.Incarnation {
	out := make([]state.Incarnation, 0, len(m.identity.Earlier))
	for _, b := range m.identity.Earlier {
		out = append(out, state.Incarnation{Start: b.Start, Nonce: b.Nonce})
	}
	return out
}

// ledgerMembers returns what the ledger needs to know of the gossip's members.
func (m *Member) ledgerMembers() []ledger.Member {
	var out []ledger.Member
	for _, other := range m.cluster.Gossip.Members() {
		out = append(out, ledger.Member{ID: other.ID, Name: other.Name, Addr: other.Addr, Alive: other.Alive, Keeper: other.Keeper})
	}
	return out
}

// ledgerFacts returns what this host knows of the ledger's decisions from the facts.
func (m *Member) ledgerFacts() ledger.Facts {
	view := m.cluster.Gossip.View()
	f := ledger.Facts{Generation: view.Generation, Decided: view.Decided}
	add := func(noun any) {
		key, _ := netmap.KeyOf(noun)
		f.Changes = append(f.Changes, netmap.Change{Key: key, Value: noun})
	}
	for _, r := range view.Ranges {
		add(r)
	}
	for _, h := range view.Hosts {
		if !h.Entry.ID.IsZero() {
			add(h.Entry)
		}
	}
	f.Keepers = view.Keepers()
	for _, s := range view.Subnets {
		add(s)
	}
	for _, b := range view.Blocks {
		add(b)
	}
	for _, c := range view.Claims {
		add(c)
	}
	for _, n := range view.Networks {
		add(n)
	}
	for _, n := range view.StaticNames {
		add(n)
	}
	return f
}

// heldBy returns the addresses that a host's endpoints hold according to its facts.
func (m *Member) heldBy(id netmap.HostID) []netip.Addr {
	var out []netip.Addr
	for e := range m.cluster.Gossip.View().EndpointsOn(id) {
		for _, addr := range []netip.Addr{e.V4, e.V6} {
			if addr.IsValid() {
				out = append(out, addr)
			}
		}
	}
	return out
}
