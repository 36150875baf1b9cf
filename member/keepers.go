package member

import (
	"encoding/json"
	"net/netip"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// keepersKey is where the keepers are on disk that this host believes.
const keepersKey = "trusted"

// loadKeepers reads the keepers that this host believed when it stopped.
func (m *Member) loadKeepers() (keepers []ledger.Peer) {
	kept, err := m.cfg.Bucket("keepers").Load()
	if err == nil && len(kept[keepersKey]) > 0 {
		err = json.Unmarshal(kept[keepersKey], &keepers)
	}
	if err != nil {
		m.cfg.Log.Warn("who kept the ledger cannot be read; this host believes those that answer it first", "err", err)
		return nil
	}
	return keepers
}

// keepKeepers writes down whom this host believes.
func (m *Member) keepKeepers(keepers []ledger.Peer) {
	raw, err := json.Marshal(keepers)
	if err == nil {
		err = m.cfg.Bucket("keepers").Commit(map[string][]byte{keepersKey: raw})
	}
	if err != nil {
		m.cfg.Log.Warn("who keeps the ledger cannot be written down", "err", err)
	}
}

// forgetKeepers has this host believe those that answer it first.
func (m *Member) forgetKeepers() error {
	return m.cfg.Bucket("keepers").Commit(nil, keepersKey)
}

func (m *Member) lineage() []state.Birth {
	out := make([]state.Birth, 0, len(m.identity.Lineage))
	for _, b := range m.identity.Lineage {
		out = append(out, state.Birth{Start: b.Start, Nonce: b.Nonce})
	}
	return out
}

// ledgerMembers is what the ledger needs to know of the gossip's members.
func (m *Member) ledgerMembers() []ledger.Member {
	var out []ledger.Member
	for _, other := range m.cluster.Gossip.Members() {
		out = append(out, ledger.Member{ID: other.ID, Name: other.Name, Addr: other.Addr, Alive: other.Alive, Keeper: other.Keeper})
	}
	return out
}

// ledgerFacts is what this host was told of the ledger's decisions.
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
	return f
}

// heldBy are the addresses that a host's endpoints hold, by its own facts.
func (m *Member) heldBy(id netmap.HostID) []netip.Addr {
	var out []netip.Addr
	for _, e := range m.cluster.Gossip.View().Endpoints {
		for _, addr := range []netip.Addr{e.V4, e.V6} {
			if e.Host == id && addr.IsValid() {
				out = append(out, addr)
			}
		}
	}
	return out
}
