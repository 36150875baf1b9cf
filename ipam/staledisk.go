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

// A disk may be an older copy of the one that this host ran with last. Its records then claim
// addresses that this host has given up since, and that other hosts may hold now.

// stopsWithin is longer than dockerd takes to stop all containers.
const stopsWithin = time.Minute

// noteLast notes which addresses were in use when this host stopped: those that are held on
// disk, and those that were released within stopsWithin of the last release, as dockerd does
// when it stops.
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

// wasHere returns a function that reports whether an address was in use when this host stopped
// and, as far as the facts know, still belongs to it. The function is called with mu held.
func (p *allocator) wasHere() func(netip.Addr) bool {
	var facts SubnetFacts
	known := false
	if p.cfg.Facts != nil {
		facts, known = p.cfg.Facts(p.prefix)
	}
	return func(a netip.Addr) bool {
		_, was := p.last[a]
		return was && (!known || p.revoked(facts, a) == "")
	}
}

// lastUse is how an address was used when this host stopped, by its disk.
type lastUse struct {
	held  bool // false: released just before
	asked bool // by --ip: its container asks for it again
}

// pickLast locks the next of the addresses that were in use when this host stopped and that
// nobody asked for by --ip. Addresses that were held come first, because no other container has
// released them.
func (p *allocator) pickLast(within netip.Prefix, name string) (netip.Addr, bool) {
	wasHere := p.wasHere()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.lastOnes(within, name) {
		if !p.releasing && wasHere(a) {
			p.Lock(a)
			return a, true
		}
	}
	return netip.Addr{}, false
}

// lastOnes returns the free addresses that pickLast picks from, in its order. The caller holds
// mu.
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

// Outdated returns which right in this host's records the facts deny, and "" if none. The
// newest disk follows every decision: a right is deleted from it before the ledger hears of
// that, and added after the facts know it. So once the facts have any decision of this start of
// the agent, a right that they deny proves that the disk is an older copy. The error says that
// the facts cannot tell at the moment.
func (i *IPAM) Outdated(facts func(subnet netip.Prefix) (SubnetFacts, bool)) (how string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, subnet := range netmap.SortedPrefixes(i.pools) {
		p := i.pools[subnet]
		said, ok := facts(subnet)
		if !ok {
			return "", errors.New("ipam: the ledger was recovered at this moment, and knows what this host holds only after this host declared it; try again")
		}
		for _, s := range p.Blocks() {
			if how := p.denied(said, s.Block); how != "" {
				return how, nil
			}
		}
		for _, c := range p.Claims() {
			if how := p.revoked(said, c.Addr); how != "" {
				return how, nil
			}
		}
		for _, c := range said.Others {
			if how := p.revoked(said, c.Addr); how != "" {
				return how, nil
			}
		}
	}
	return "", nil
}

// revoked returns why the facts deny an address that belongs to this host by its records.
func (p *allocator) revoked(facts SubnetFacts, a netip.Addr) string {
	if !p.Owns(a) {
		return ""
	}
	own, claimed := p.ClaimAt(a)
	if n := slices.IndexFunc(facts.Others, func(c netmap.Claim) bool { return c.Addr == a }); n >= 0 && own.Epoch <= facts.Decided {
		return fmt.Sprintf("%s was given to host %s by decision %d", a, facts.Others[n].Owner.Short(), facts.Others[n].Epoch)
	}
	if claimed {
		if own.Epoch <= facts.Decided && !slices.ContainsFunc(facts.Claims, func(c netmap.Claim) bool { return c.Addr == a }) {
			return fmt.Sprintf("%s went back to the ledger before decision %d", a, facts.Decided)
		}
		return ""
	}
	b, _ := p.BlockAt(a)
	return p.denied(facts, b)
}

// denied returns why the facts deny a block that belongs to this host by its records.
func (p *allocator) denied(facts SubnetFacts, b netmap.Block) string {
	if b.Epoch > facts.Decided || slices.ContainsFunc(facts.Blocks, func(o netmap.Block) bool { return o.Prefix == b.Prefix }) {
		return ""
	}
	return fmt.Sprintf("block %s went back to the ledger before decision %d", b.Prefix, facts.Decided)
}
