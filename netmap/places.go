package netmap

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
)

// place is an address within a network: what only one endpoint may hold.
type place struct {
	network NetworkID
	addr    netip.Addr
}

// announced is an endpoint that a host announced. Views share its EndpointView, so it is never
// changed; the rest is the Map's alone.
type announced struct {
	EndpointView
	seq  uint64  // of its record
	lost [2]bool // another endpoint holds its IPv4 address, its IPv6 address
}

// places yields the places of an endpoint, with their index in lost.
func (a *announced) places() iter.Seq2[int, place] {
	return func(yield func(int, place) bool) {
		for i, addr := range []netip.Addr{a.V4, a.V6} {
			if addr.IsValid() && !yield(i, place{a.Network, addr}) {
				return
			}
		}
	}
}

// places knows who announced each address of a network, and who holds it: an index, so that a
// change looks at no other endpoint.
type places struct {
	holders   map[place]*announced
	contested map[place]map[*announced]struct{} // all who announced it, where that is more than one
	open      map[place]struct{}                // contested ones of which it is to be decided who holds them
	relist    bool                              // Disputes are others than before
}

// announce adds an endpoint.
func (d *draft) announce(a *announced) {
	for _, p := range a.places() {
		holder, taken := d.holders[p]
		if !taken {
			d.holders[p] = a
			continue
		}
		if d.contested[p] == nil {
			d.contested[p] = map[*announced]struct{}{holder: {}}
		}
		d.contested[p][a] = struct{}{}
		d.open[p], d.relist = struct{}{}, true
	}
	d.show(&a.EndpointView, false)
}

// withdraw takes an endpoint out.
func (d *draft) withdraw(a *announced) {
	d.show(&a.EndpointView, true)
	for _, p := range a.places() {
		if d.contested[p] == nil {
			delete(d.holders, p)
			continue
		}
		delete(d.contested[p], a)
		d.open[p], d.relist = struct{}{}, true
	}
}

// reopen has it decided again who holds the contested places of an endpoint.
func (d *draft) reopen(a *announced) {
	for _, p := range a.places() {
		if d.contested[p] != nil {
			d.open[p] = struct{}{}
		}
	}
}

func (d *draft) openAll() {
	for p := range d.contested {
		d.open[p] = struct{}{}
	}
}

// resolve decides by the rule on Dispute who holds the open places. Each is decided
// independently of the others.
func (d *draft) resolve() {
	for p := range d.open {
		var winner *announced
		for a := range d.contested[p] {
			if winner == nil || d.view.beats(a, winner, p.addr) {
				winner = a
			}
		}
		for a := range d.contested[p] {
			d.lose(a, p, a != winner)
		}
		d.relist = d.relist || d.holders[p] != winner
		if d.holders[p] = winner; winner == nil {
			delete(d.holders, p)
		}
		if len(d.contested[p]) < 2 {
			delete(d.contested, p)
		}
	}
	clear(d.open)
	if d.relist {
		d.view.Disputes, d.relist, d.changed = d.disputes(), false, true
	}
}

func (d *draft) lose(a *announced, at place, lost bool) {
	was := a.lost
	for i, p := range a.places() {
		if p == at {
			a.lost[i] = lost
		}
	}
	if a.lost != was {
		d.show(&a.EndpointView, a.lost != [2]bool{})
	}
}

// disputes lists every claim to a place that somebody else holds.
func (d *draft) disputes() (out []Dispute) {
	for p, all := range d.contested {
		winner := d.holders[p]
		for a := range all {
			if a != winner {
				out = append(out, Dispute{Network: p.network, Addr: p.addr, Winner: winner.EndpointView, Loser: a.EndpointView})
			}
		}
	}
	slices.SortFunc(out, func(a, b Dispute) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Addr.Compare(b.Addr), compareOnHost(&a.Loser, &b.Loser), a.Loser.Host.Compare(b.Loser.Host))
	})
	return out
}

// beats reports whether a holds an address against b.
func (v *View) beats(a, b *announced, addr netip.Addr) bool {
	if a.Host == b.Host {
		return a.seq > b.seq || a.seq == b.seq && a.ID > b.ID
	}
	if owner := v.Owner(addr); a.Host == owner || b.Host == owner {
		return a.Host == owner
	}
	return a.Host.Compare(b.Host) > 0
}
