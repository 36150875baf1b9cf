package pool

import (
	"container/list"
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// markOf is the mark in an element of the list of released addresses.
func markOf(e *list.Element) *mark {
	m, _ := e.Value.(*mark) // nothing else is ever put there
	return m
}

// Pick finds the address to hand out next within an area: the one that this name
// had last, else the lowest that was never used, else the one that was released
// longest ago. Of those that somebody asked for by --ip it finds none: see LastResort.
// It changes nothing that matters.
func (p *Pool) Pick(within netip.Prefix, name string) (netip.Addr, bool) {
	if a, ok := p.Remembered(name, within); ok {
		return a, true
	}
	if p.released.Len() < maxReleased {
		if a, ok := p.fresh(within); ok {
			return a, true
		}
	}
	for e := p.released.Front(); e != nil; e = e.Next() {
		if a := markOf(e).addr; within.Contains(a) && p.Ready(a) {
			return a, true
		}
	}
	return p.fresh(within)
}

// Remembered is the address within an area that a container had last, if it is free.
func (p *Pool) Remembered(name string, within netip.Prefix) (netip.Addr, bool) {
	a, ok := p.byName[name]
	return a, ok && name != "" && within.Contains(a) && p.Ready(a) && p.marks[a].Name == name
}

// LastResort finds an address within an area as Pick does. Where there is none, it finds
// one that somebody asked for by itself once and that is free now, the one released longest
// ago: who stopped that container may want it back, so it is handed out to others last.
func (p *Pool) LastResort(within netip.Prefix) (out netip.Addr, ok bool) {
	if a, ok := p.Pick(within, ""); ok {
		return a, true
	}
	consider := func(a netip.Addr) {
		free := within.Contains(a) && p.Owns(a) && !p.IsHeld(a) && !p.Locked(a) && !p.Unusable(a)
		if free && (!out.IsValid() || p.releasedBefore(a, out)) {
			out = a
		}
	}
	for a := range p.claims {
		consider(a)
	}
	for e := p.released.Front(); e != nil; e = e.Next() {
		consider(markOf(e).addr)
	}
	return out, out.IsValid()
}

// releasedBefore orders free addresses by their release, those that were never used first.
func (p *Pool) releasedBefore(a, b netip.Addr) bool {
	ua, _ := p.Used(a)
	ub, _ := p.Used(b)
	return ua.Seq < ub.Seq || ua.Seq == ub.Seq && a.Less(b)
}

// Ready reports whether an address may be handed out dynamically.
func (p *Pool) Ready(a netip.Addr) bool {
	m := p.marks[a]
	return (m == nil || !m.Held && !m.Asked) && !p.Locked(a) && p.anybodys(a) && !p.Unusable(a)
}

// anybodys reports whether this host may give an address to whoever asks for any.
func (p *Pool) anybodys(a netip.Addr) bool {
	if p.claims[a].Donated {
		return true
	}
	_, foreign := p.foreign[a]
	return !foreign && p.block(a) != nil
}

// fresh finds the lowest address within an area that was never used.
func (p *Pool) fresh(within netip.Prefix) (netip.Addr, bool) {
	for _, b := range p.order {
		area := netmap.Common(b.Prefix, within)
		if !area.IsValid() {
			continue
		}
		for a := p.advance(area); area.Contains(a); a = a.Next() {
			if p.marks[a] == nil && p.Ready(a) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// advance moves an area's cursor over what can never be fresh again.
func (p *Pool) advance(area netip.Prefix) netip.Addr {
	a, ok := p.cursors[area]
	if !ok {
		a = area.Addr()
	}
	for area.Contains(a) && p.touched(a) {
		a = a.Next()
	}
	p.cursors[area] = a
	return a
}

// touched reports whether an address can never be fresh again. Foreign ones are
// marked before they come back, see AddClaim.
func (p *Pool) touched(a netip.Addr) bool {
	_, foreign := p.foreign[a]
	return p.marks[a] != nil || foreign || p.Unusable(a)
}

// Free is the number of addresses within an area that Pick could find, at most some netmap.MaxSize.
func (p *Pool) Free(within netip.Prefix) uint64 {
	n := p.unheld(within)
	return n - min(p.withheld(within), n) + p.freeDonated(within)
}

// Scarce reports whether fewer than n addresses are free within an area. Mostly a look at
// the blocks tells; it is asked with every address.
func (p *Pool) Scarce(within netip.Prefix, n uint64) bool {
	const ends = 3 // first and last address, gateway
	withheld := uint64(ends + len(p.subnet.Reserved) + len(p.foreign))
	return p.unheld(within) < n+withheld && p.Free(within) < n
}

// unheld counts the addresses of own blocks within an area that nobody has, nor may want
// back by --ip.
func (p *Pool) unheld(within netip.Prefix) (n uint64) {
	for _, b := range p.order {
		if area := netmap.Common(b.Prefix, within); area.IsValid() {
			all := netmap.Size(area)
			n = min(n+all-min(p.takenIn(b, area), all), netmap.MaxSize)
		}
	}
	return n
}

// freeDonated counts the free donated addresses within an area that lie in no own block.
func (p *Pool) freeDonated(area netip.Prefix) (n uint64) {
	for a, c := range p.claims {
		if m := p.marks[a]; c.Donated && area.Contains(a) && p.block(a) == nil && (m == nil || !m.Held && !m.Asked) && !p.Unusable(a) {
			n++
		}
	}
	return n
}

func (p *Pool) IsHeld(a netip.Addr) bool {
	m := p.marks[a]
	return m != nil && m.Held
}

// takenIn counts the addresses of an own block within an area that are held or kept.
func (p *Pool) takenIn(b *Block, area netip.Prefix) (n uint64) {
	if area == b.Prefix {
		return b.Held + b.Kept
	}
	for a, m := range p.marks {
		if (m.holds() || m.keeps()) && area.Contains(a) {
			n++
		}
	}
	return n
}

// withheld counts the addresses of own blocks within an area that are never this
// host's to give.
func (p *Pool) withheld(area netip.Prefix) (n uint64) {
	set := map[netip.Addr]struct{}{p.subnet.Prefix.Addr(): {}, p.subnet.Gateway: {}}
	if p.subnet.Prefix.Addr().Is4() {
		set[netmap.LastAddr(p.subnet.Prefix)] = struct{}{}
	}
	for _, a := range p.subnet.Reserved {
		set[a] = struct{}{}
	}
	for a := range p.foreign {
		set[a] = struct{}{}
	}
	for a := range set {
		m := p.marks[a]
		if area.Contains(a) && p.block(a) != nil && (m == nil || !m.holds() && !m.keeps()) {
			n++
		}
	}
	return n
}
