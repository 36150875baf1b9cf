package gossip

import (
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Anybody can send a datagram, and who can forge addresses from any address. So a batch that comes in
// a datagram is applied only if it comes from where its origin is, for the ledger's log from a keeper, and
// adds a little to what is known. Any other batch is a hint: the log is pulled over a connection, from its
// origin or, for the ledger's log, from a keeper.

// mostAhead bounds how far a datagram may advance a log. So a forged one cannot advance it
// beyond what its origin soon reaches by itself.
const mostAhead = 1 << 12

// memberAt is the live host of this cluster at an address, zero if there is none.
func (g *Gossip) memberAt(addr netip.AddrPort) Member {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.roster.memberAt(addr, g.facts.Cluster())
}

// continues reports whether a batch from a datagram may be applied as it is: it comes from its origin, continues
// a known log, not far, and drops no log. A batch of the ledger's log must come from a
// keeper, and a removal of a host is never believed from a datagram.
func (g *Gossip) continues(b netmap.Batch, addr netip.AddrPort, from Member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	head, known := g.facts.Head(b.Origin)
	switch {
	case b.Origin == g.cfg.Host, b.Life < head.Life: // nothing is taken in
		return true
	case !known, b.Whole, b.Life != head.Life, b.Seq > head.Seq+mostAhead:
		return false
	case b.Origin != g.facts.Cluster():
		origin, seen := g.roster.find(b.Origin) // also one that looks dead: it lives
		return seen && origin.Addr == netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	}
	return from.Keeper && !slices.ContainsFunc(b.Records, removal)
}

// removal reports whether a record says that the ledger removed a host.
func removal(r netmap.Record) bool {
	noun, err := netmap.Decode(r.Key, []byte(r.Value))
	entry, ok := noun.(netmap.HostEntry)
	return err == nil && ok && entry.Removed
}

// hint starts to pull a log that continues according to a datagram.
func (g *Gossip) hint(b netmap.Batch, from Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if head := (netmap.Head{Origin: b.Origin, Life: b.Life, Seq: b.Seq}); len(g.facts.Compare([]netmap.Head{head})) > 0 {
		g.want(head, from.ID, 0)
	}
}
