package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// A disk may be an older copy of the one that this host ran with last. Its records say
// then that this host has what it has given up since, and what others may hold now.

// stopsWithin is how long dockerd takes to stop all containers, with some to spare.
const stopsWithin = time.Minute

// noteLast notes which addresses were in use when this host stopped: those that are
// held by the disk, and those that were released together with the last one, as
// dockerd does it when it stops.
func (r *restored) noteLast() {
	newest := int64(0)
	for _, p := range r.pools {
		for _, m := range p.marks {
			newest = max(newest, m.At)
		}
	}
	for _, p := range r.pools {
		for a, m := range p.marks {
			if m.Held || m.At > 0 && m.At >= newest-int64(stopsWithin.Seconds()) {
				p.last[a] = lastUse{held: m.Held, asked: m.Asked}
			}
		}
	}
}

// wasHere is whether an address was in use when this host stopped, and is its own still
// as far as the facts know. What it returns is to be called with mu held.
func (i *IPAM) wasHere(p *pool) func(netip.Addr) bool {
	var word Word
	known := false
	if i.cfg.Facts != nil {
		word, known = i.cfg.Facts(p.prefix)
	}
	return func(a netip.Addr) bool {
		_, was := p.last[a]
		return was && (!known || p.revoked(word, a) == "")
	}
}

// lastUse is how an address was in use when this host stopped, by the disk.
type lastUse struct {
	held  bool // else released just before
	asked bool // by --ip: its container asks for it again
}

// pickLast begins the next of the addresses that were in use when this host stopped and
// that no --ip had: of what it found held first, as nobody else has let go of that.
func (i *IPAM) pickLast(p *pool, within netip.Prefix, name string) (netip.Addr, bool) {
	wasHere := i.wasHere(p)
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range p.lastOnes(within, name) {
		if !p.gone && wasHere(a) {
			p.Lock(a)
			return a, true
		}
	}
	return netip.Addr{}, false
}

// lastOnes are the free ones of the addresses that pickLast picks from, the first choice
// first. Few are, of many that were released before. The caller holds mu.
func (p *pool) lastOnes(within netip.Prefix, name string) (out []netip.Addr) {
	for a, was := range p.last {
		if !was.asked && within.Contains(a) && p.marks[a] != nil && p.ready(a) {
			out = append(out, a)
		}
	}
	own, remembered := p.remembered(name, within)
	rank := func(a netip.Addr) (n int) {
		if !p.last[a].held {
			n += 2
		}
		if !remembered || a != own {
			n++
		}
		return n
	}
	slices.SortFunc(out, func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(p.marks[a].Seq, p.marks[b].Seq), a.Compare(b))
	})
	return out
}

// Outdated says which right of this host's records the facts deny, empty if none.
// Records that are the newest follow every decision: what goes is out of them before
// the ledger hears of it, what comes is in them after the facts know. So once the facts
// have reached any decision of this start of the agent, a right that they deny proves
// the disk to be an older copy. The error says that the facts cannot tell now.
func (i *IPAM) Outdated(facts func(subnet netip.Prefix) (Word, bool)) (how string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, subnet := range netmap.SortedPrefixes(i.pools) {
		p := i.pools[subnet]
		word, ok := facts(subnet)
		if !ok {
			return "", errors.New("ipam: the ledger was recovered at this moment, and knows what this host holds only after this host declared it; try again")
		}
		for _, s := range p.order {
			if how := p.denied(word, s.Block); how != "" {
				return how, nil
			}
		}
		for _, a := range append(netmap.SortedAddrs(p.claims), addrsOf(word.Others)...) {
			if how := p.revoked(word, a); how != "" {
				return how, nil
			}
		}
	}
	return "", nil
}

func addrsOf(claims []netmap.Claim) []netip.Addr {
	out := make([]netip.Addr, 0, len(claims))
	for _, c := range claims {
		out = append(out, c.Addr)
	}
	return out
}

// revoked says why an address that is this host's by its records is not by the facts.
func (p *pool) revoked(word Word, a netip.Addr) string {
	if !p.Owns(a) {
		return ""
	}
	own, claimed := p.claims[a]
	if n := slices.IndexFunc(word.Others, func(c netmap.Claim) bool { return c.Addr == a }); n >= 0 && own.Epoch <= word.Decided {
		return fmt.Sprintf("%s was given to host %s by decision %d", a, word.Others[n].Owner.Short(), word.Others[n].Epoch)
	}
	if claimed {
		if own.Epoch <= word.Decided && !slices.ContainsFunc(word.Claims, func(c netmap.Claim) bool { return c.Addr == a }) {
			return fmt.Sprintf("%s went back to the ledger before decision %d", a, word.Decided)
		}
		return ""
	}
	return p.denied(word, p.block(a).Block)
}

// denied says why a block that is this host's by its records is not by the facts.
func (p *pool) denied(word Word, b netmap.Block) string {
	if b.Epoch > word.Decided || slices.ContainsFunc(word.Blocks, func(o netmap.Block) bool { return o.Prefix == b.Prefix }) {
		return ""
	}
	return fmt.Sprintf("block %s went back to the ledger before decision %d", b.Prefix, word.Decided)
}
