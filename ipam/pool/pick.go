package pool

import (
	"container/list"
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// markOf returns the mark in an element of the list of released addresses.
func markOf(e *list.Element) *mark {
	m, _ := e.Value.(*mark) // nothing else is ever put there
	return m
}

// Pick finds the address to hand out next within an area: the one that a container of this name
// had last, else the lowest that was never used, else the one that was released longest ago. It
// never finds an address that somebody asked for by --ip: see LastResort. Pick changes nothing
// but cursors.
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

// Remembered returns the address within an area that a container had last, if it is free.
func (p *Pool) Remembered(name string, within netip.Prefix) (netip.Addr, bool) {
	a, ok := p.byName[name]
	return a, ok && name != "" && within.Contains(a) && p.Ready(a) && p.marks[a].Name == name
}

// LastResort finds an address within an area as Pick does. If there is none, it finds the
// address released longest ago of those that are free and that somebody asked for by --ip: its
// container may want it back, so others get it last.
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

// releasedBefore orders free addresses by the time of their release. Addresses that were never
// used come first.
func (p *Pool) releasedBefore(a, b netip.Addr) bool {
	ua, _ := p.Used(a)
	ub, _ := p.Used(b)
	return ua.Seq < ub.Seq || ua.Seq == ub.Seq && a.Less(b)
}

// Ready reports whether an address may be handed out to a container that asks for any.
func (p *Pool) Ready(a netip.Addr) bool {
	m := p.marks[a]
	return (m == nil || !m.Held && !m.Asked) && !p.Locked(a) && p.anybodys(a) && !p.Unusable(a)
}

// anybodys reports whether an address belongs to this host for any container, and not only for
// the one that asks for it.
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

// advance moves the cursor of an area past the addresses that can never be fresh again.
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

// touched reports whether an address can never be fresh again. An address of another host is
// marked when it comes back: see AddClaim.
func (p *Pool) touched(a netip.Addr) bool {
	_, foreign := p.foreign[a]
	return p.marks[a] != nil || foreign || p.Unusable(a)
}

// Free counts the addresses within an area that Pick could find, up to about netmap.MaxSize.
func (p *Pool) Free(within netip.Prefix) uint64 {
	n := p.unheld(within)
	return n - min(p.withheld(within), n) + p.freeDonated(within)
}

// Scarce reports whether fewer than n addresses are free within an area. It is called with
// every address that is handed out, and mostly looks only at the counters of the blocks.
func (p *Pool) Scarce(within netip.Prefix, n uint64) bool {
	const ends = 3 // first and last address, gateway
	withheld := uint64(ends + len(p.subnet.Reserved) + len(p.foreign))
	return p.unheld(within) < n+withheld && p.Free(within) < n
}

// unheld counts the addresses of own blocks within an area that nobody holds and that no
// container may want back by --ip.
func (p *Pool) unheld(within netip.Prefix) (n uint64) {
	for _, b := range p.order {
		if area := netmap.Common(b.Prefix, within); area.IsValid() {
			all := netmap.Size(area)
			n = min(n+all-min(p.takenIn(b, area), all), netmap.MaxSize)
		}
	}
	return n
}

// freeDonated counts the free donated addresses within an area that lie outside own blocks.
func (p *Pool) freeDonated(area netip.Prefix) (n uint64) {
	for a, c := range p.claims {
		if m := p.marks[a]; c.Donated && area.Contains(a) && p.block(a) == nil && (m == nil || !m.Held && !m.Asked) && !p.Unusable(a) {
			n++
		}
	}
	return n
}

// IsHeld reports whether a container holds the address.
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

// withheld counts the addresses of own blocks within an area that this host never hands out.
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
