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
		for _, u := range p.Uses() {
			newest = max(newest, u.At)
		}
	}
	for _, p := range r.pools {
		for a, u := range p.Uses() {
			if u.Held || u.At > 0 && u.At >= newest-int64(stopsWithin.Seconds()) {
				p.last[a] = lastUse{held: u.Held, asked: u.Asked}
			}
		}
	}
}

// wasHere is whether an address was in use when this host stopped, and is its own still
// as far as the facts know. What it returns is to be called with mu held.
func (p *allocator) wasHere() func(netip.Addr) bool {
	var word Word
	known := false
	if p.cfg.Facts != nil {
		word, known = p.cfg.Facts(p.prefix)
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
func (p *allocator) pickLast(within netip.Prefix, name string) (netip.Addr, bool) {
	wasHere := p.wasHere()
	p.mu.Lock()
	defer p.mu.Unlock()
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
func (p *allocator) lastOnes(within netip.Prefix, name string) (out []netip.Addr) {
	for a, was := range p.last {
		if _, touched := p.Used(a); touched && !was.asked && within.Contains(a) && p.Ready(a) {
			out = append(out, a)
		}
	}
	own, remembered := p.Remembered(name, within)
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
		ua, _ := p.Used(a)
		ub, _ := p.Used(b)
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(ua.Seq, ub.Seq), a.Compare(b))
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
		for _, s := range p.Blocks() {
			if how := p.denied(word, s.Block); how != "" {
				return how, nil
			}
		}
		for _, c := range p.Claims() {
			if how := p.revoked(word, c.Addr); how != "" {
				return how, nil
			}
		}
		for _, c := range word.Others {
			if how := p.revoked(word, c.Addr); how != "" {
				return how, nil
			}
		}
	}
	return "", nil
}

// revoked says why an address that is this host's by its records is not by the facts.
func (p *allocator) revoked(word Word, a netip.Addr) string {
	if !p.Owns(a) {
		return ""
	}
	own, claimed := p.ClaimAt(a)
	if n := slices.IndexFunc(word.Others, func(c netmap.Claim) bool { return c.Addr == a }); n >= 0 && own.Epoch <= word.Decided {
		return fmt.Sprintf("%s was given to host %s by decision %d", a, word.Others[n].Owner.Short(), word.Others[n].Epoch)
	}
	if claimed {
		if own.Epoch <= word.Decided && !slices.ContainsFunc(word.Claims, func(c netmap.Claim) bool { return c.Addr == a }) {
			return fmt.Sprintf("%s went back to the ledger before decision %d", a, word.Decided)
		}
		return ""
	}
	b, _ := p.BlockAt(a)
	return p.denied(word, b)
}

// denied says why a block that is this host's by its records is not by the facts.
func (p *allocator) denied(word Word, b netmap.Block) string {
	if b.Epoch > word.Decided || slices.ContainsFunc(word.Blocks, func(o netmap.Block) bool { return o.Prefix == b.Prefix }) {
		return ""
	}
	return fmt.Sprintf("block %s went back to the ledger before decision %d", b.Prefix, word.Decided)
}
