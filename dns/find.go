package dns

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// Asker says who asks, and so what names there are.
type Asker struct {
	// Networks that the asking container is on, the first of its settings first. Each is there
	// once.
	Networks []netmap.NetworkID
	// Everything asks as the host itself, not as a container: for name.network of all networks,
	// and for short names that exactly one network has.
	Everything bool
}

// visible yields the networks of an asker that the ledger knows.
func (n *Names) visible(from Asker) iter.Seq[*network] {
	return func(yield func(*network) bool) {
		if from.Everything {
			for _, w := range n.order {
				if len(w.subnets) > 0 && !yield(w) {
					return
				}
			}
			return
		}
		for _, id := range from.Networks {
			if w := n.networks[id]; w != nil && len(w.subnets) > 0 && !yield(w) {
				return
			}
		}
	}
}

// found is who answers a name, and on which network.
type found struct {
	*network
	bearer
}

// find returns who answers a name that is relative to the domain, network by network. It reports
// whether there are names beneath it, so that it exists although nobody has it.
func (n *Names) find(from Asker, name string) (all []found, exists bool) {
	for w := range n.visible(from) {
		if base, ok := w.relative(name); ok {
			all = n.first(all, w, base)
			exists = exists || w.below[base] > 0
		}
		exists = exists || w.name == name || strings.HasSuffix(w.name, name) && strings.HasSuffix(w.name, "."+name)
	}
	if len(all) > 0 {
		return all, true
	}
	for w := range n.visible(from) {
		all = n.first(all, w, name)
		exists = exists || w.below[name] > 0
	}
	if from.Everything && len(all) > 0 && all[0].network != all[len(all)-1].network {
		return nil, true // several networks have it
	}
	return all, exists || len(all) > 0
}

// first adds those who have a name by the first source on one network.
func (n *Names) first(all []found, w *network, name string) []found {
	rank := ^Source(0)
	for _, b := range w.bearers[name] {
		if b.source.rank() < rank && n.absent(w, b) == "" {
			rank = b.source.rank()
		}
	}
	bearers, had := w.bearers[name], len(all)
	begin := n.beginning(len(bearers))
	for i := range bearers {
		b := bearers[(begin+i)%len(bearers)]
		if b.source.rank() == rank && n.absent(w, b) == "" {
			if all = append(all, found{w, b}); len(all) == had+mostFound {
				break
			}
		}
	}
	return all
}

// mostFound bounds who is found for a name on one network, so that an answer costs little even if
// a host announces tens of thousands of containers under one name.
const mostFound = 2 * maxAddrs

// beginning is the first of so many to look at. It is another one each time, so that those who
// have a name are found in turn where they are more than mostFound.
func (n *Names) beginning(of int) int {
	if of <= mostFound {
		return 0
	}
	return int(n.turns.Add(mostFound) % uint64(of))
}

// absent says why one who has a name is as if it was not there; "" if it is there.
func (n *Names) absent(w *network, b bearer) string {
	switch {
	case b.source == ByHand:
		return ""
	case !w.has(b.V4) && !w.has(b.V6):
		return "its address is not in the network"
	case n.cfg.Alive != nil && b.Host != n.cfg.Self && !n.cfg.Alive(b.Host):
		return "its host is declared down"
	}
	return ""
}

// addr is the address of a type that one who has a name answers; invalid if it has none.
func (f found) addr(v6 bool) netip.Addr {
	addr := f.V4
	if v6 {
		addr = f.V6
	}
	if !f.has(addr) && f.source != ByHand {
		return netip.Addr{}
	}
	return addr
}

func (f found) unhealthy() bool { return f.Names != nil && f.Names.Unhealthy }

// choose returns which of those who have a name answer, at most so many, in the order of the
// answer: network by network, this host's first if that is set, else by chance.
func (n *Names) choose(all []found, most int, answers func(found) bool) []found {
	all = slices.DeleteFunc(all, func(f found) bool { return !answers(f) })
	if n.cfg.Health && slices.ContainsFunc(all, func(f found) bool { return !f.unhealthy() }) {
		all = slices.DeleteFunc(all, found.unhealthy)
	}
	for rest := all; len(rest) > 0; {
		end := slices.IndexFunc(rest, func(f found) bool { return f.network != rest[0].network })
		if end < 0 {
			end = len(rest)
		}
		n.arrange(rest[:end])
		rest = rest[end:]
	}
	return all[:min(len(all), most)]
}

// arrange orders those on one network.
func (n *Names) arrange(all []found) {
	if n.cfg.Shuffle == nil {
		slices.SortFunc(all, func(a, b found) int { return cmp.Or(a.V4.Compare(b.V4), a.V6.Compare(b.V6)) })
	} else if len(all) > 1 {
		n.cfg.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	if n.cfg.PreferLocal {
		slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(n.distance(a), n.distance(b)) })
	}
}

// distance is 0 for this host's containers and 1 for those of others.
func (n *Names) distance(f found) uint16 {
	if f.Host == n.cfg.Self {
		return 0
	}
	return 1
}
