package gossip

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// What is on disk: the addresses of peers, and one entry per log.
const (
	diskPeers = "peers"
	diskLog   = "log/"
	saveEvery = 5 * time.Second
	// indexEvery is how often the ledger's log is saved although only its index has moved, as
	// with every renewal of a lease. A recovery from what is on disk goes on from far beyond.
	indexEvery = 10 * time.Minute
	maxPeers   = 2048
	savedBytes = 512 << 10 // of one commit, and a log more
)

// peerBook has the addresses at which hosts were found, the latest at the end.
type peerBook struct {
	addrs   []peer
	changed bool
}

type peer struct {
	Host netmap.HostID  `json:"host"`
	Addr netip.AddrPort `json:"addr"`
}

// add notes the address of a host, and removes the address from other hosts.
func (p *peerBook) add(m Member) {
	next := peer{m.ID, m.Addr}
	if n := len(p.addrs); n > 0 && p.addrs[n-1] == next {
		return
	}
	p.addrs = slices.DeleteFunc(p.addrs, func(old peer) bool { return old.Host == next.Host || old.Addr == next.Addr })
	p.addrs = append(p.addrs[max(0, len(p.addrs)-maxPeers+1):], next)
	p.changed = true
}

func (p *peerBook) drop(gone func(netmap.HostID) bool) {
	before := len(p.addrs)
	p.addrs = slices.DeleteFunc(p.addrs, func(old peer) bool { return gone(old.Host) })
	p.changed = p.changed || len(p.addrs) != before
}

func (p *peerBook) list() []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(p.addrs))
	for _, a := range p.addrs {
		out = append(out, a.Addr)
	}
	return out
}

// load reads what an earlier start left. It logs and skips what cannot be read, since
// other hosts know everything that is on this disk.
func (g *Gossip) load() error {
	saved, err := g.cfg.Disk.Load()
	if err != nil {
		return fmt.Errorf("gossip: what was known before cannot be loaded: %w", err)
	}
	if raw := saved[diskPeers]; raw != nil {
		if err := json.Unmarshal(raw, &g.peers.addrs); err != nil {
			g.cfg.Log.Warn("gossip: the saved addresses of peers cannot be read", "err", err)
		}
		g.peers.addrs = slices.DeleteFunc(g.peers.addrs, func(p peer) bool { return !p.Addr.IsValid() || p.Addr == g.cfg.Advertise })
	}
	g.loadLogs(saved)
	return nil
}

// loadLogs reads saved facts and deletes useless ones from the disk: those of a cluster
// that this host left, of removed hosts, and those that cannot be read.
func (g *Gossip) loadLogs(saved map[string][]byte) {
	var useless []string
	keys := slices.Sorted(maps.Keys(saved))
	// The ledger's log comes first: logs of hosts that it is not known to have admitted share a limit.
	if i := slices.Index(keys, diskLog+g.cfg.Cluster.String()); i > 0 {
		keys[0], keys[i] = keys[i], keys[0]
	}
	for _, key := range keys {
		name, isLog := strings.CutPrefix(key, diskLog)
		if !isLog || !g.cfg.Cluster.IsZero() && name != g.cfg.Host.String() && g.loadLog(name, saved[key]) {
			continue
		}
		useless = append(useless, key)
	}
	for _, key := range keys {
		if id, err := netmap.ParseID(strings.TrimPrefix(key, diskLog)); err == nil && g.facts.Removed(id) {
			useless = append(useless, key)
		}
	}
	if len(useless) == 0 {
		return
	}
	if err := g.cfg.Disk.Commit(nil, useless...); err != nil { // the next start tries it again
		g.cfg.Log.Warn("gossip: saved facts that are out of date cannot be dropped", "err", err)
	}
}

func (g *Gossip) loadLog(name string, raw []byte) bool {
	err := g.facts.LoadCache(raw)
	if err != nil {
		g.cfg.Log.Warn("gossip: saved facts cannot be read; they will be asked for anew", "host", name, "err", err)
	}
	return err == nil
}

func (g *Gossip) saveNowAndThen() {
	for turn.Sleep(g.ctx, saveEvery) {
		if err := g.save(); err != nil {
			g.limited.Warn("save", "gossip: what is known cannot be saved; a restart without peers would know less", "err", err)
		}
	}
}

// noteUnsaved has an origin's log saved soon if it has changed. Under g.mu.
func (g *Gossip) noteUnsaved(origin netmap.ID, effect netmap.Effect) {
	if !effect.Changed && origin == g.facts.Cluster() {
		if time.Since(g.indexSaved) < indexEvery {
			return
		}
		g.indexSaved = time.Now()
	}
	g.dirty[origin] = true
}

// save writes what changed since the last time, some logs after the other: a host that comes
// into a large cluster has a thousand new ones.
func (g *Gossip) save() error {
	for left := g.unsaved(); ; {
		var set map[string][]byte
		var del []string
		if set, del, left = g.saving(left); len(set)+len(del) == 0 {
			return nil
		}
		if err := g.cfg.Disk.Commit(set, del...); err != nil {
			g.dirtyAll()
			return fmt.Errorf("gossip: %w", err)
		}
	}
}

// dirtyAll has everything saved.
func (g *Gossip) dirtyAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peers.changed = true
	for _, id := range g.facts.Origins() {
		g.dirty[id] = true
	}
}

// unsaved returns the origins whose logs are to be saved. They count as saved from now on.
func (g *Gossip) unsaved() []netmap.ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := slices.Collect(maps.Keys(g.dirty))
	clear(g.dirty)
	return ids
}

// saving returns what to write for the first of some origins, about savedBytes, and the rest.
func (g *Gossip) saving(ids []netmap.ID) (set map[string][]byte, del []string, left []netmap.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	set = map[string][]byte{}
	if g.peers.changed {
		raw, err := json.Marshal(g.peers.addrs)
		if err == nil { // it is made of texts and numbers
			set[diskPeers] = raw
		}
		g.peers.changed = false
	}
	for size := 0; len(ids) > 0 && size < savedBytes; ids = ids[1:] {
		id := ids[0]
		if id == g.cfg.Host || g.facts.Cluster().IsZero() {
			continue
		}
		raw := g.facts.MarshalCache(id)
		if raw == nil {
			del = append(del, diskLog+id.String())
			continue
		}
		set[diskLog+id.String()] = raw
		size += len(raw)
	}
	return set, del, ids
}
