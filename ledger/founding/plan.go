// Package founding has hosts that are in no cluster yet agree on one Plan: which cluster they
// begin, and who keeps its ledger first.
//
// It is single-decree Paxos: whoever proposes has promises from a quorum and proposes again
// what one of them accepted before under the greatest ballot; the plan is chosen when a quorum
// accepted it under one ballot. Two quorums share hosts (see electorate) and a host promises on
// disk, so two plans are never chosen, whatever is lost, late, cut or crashed in between.
//
// The file plan.go is the pure half, Founder its edge.
package founding

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// How many hosts keep the ledger: MostKeepers while so many can be reached, FewKeepers from
// that many hosts on, one before.
const (
	MostKeepers = 5
	FewKeepers  = 3
)

// Keeper is a host that keeps the ledger from its beginning.
type Keeper struct {
	ID   netmap.HostID  `json:"id"`
	Addr netip.AddrPort `json:"addr"`
}

// Plan is what a founding decides.
type Plan struct {
	Cluster netmap.ClusterID `json:"cluster"`
	Keepers []Keeper         `json:"keepers"` // the first ones, in the order of raft's first entry
	Ranges  []netip.Prefix   `json:"ranges"`
}

// Keeps reports whether a host is one of the first keepers.
func (p *Plan) Keeps(id netmap.HostID) bool {
	return p != nil && slices.ContainsFunc(p.Keepers, func(k Keeper) bool { return k.ID == id })
}

// check refuses a plan that no release proposes.
func (p *Plan) check() *netmap.Refusal {
	if p == nil || p.Cluster.IsZero() || len(p.Keepers) == 0 || len(p.Keepers) > MostKeepers {
		return netmap.Refuse(netmap.BadInput, "a plan of founding without cluster or keepers")
	}
	for i, k := range p.Keepers {
		again := slices.ContainsFunc(p.Keepers[:i], func(o Keeper) bool { return o.ID == k.ID })
		if k.ID.IsZero() || !k.Addr.IsValid() || again {
			return netmap.Refuse(netmap.BadInput, "a plan of founding with the keeper %s at %s", k.ID.Short(), k.Addr)
		}
	}
	return nil
}

// ballot numbers attempts to found; the host makes them different.
type ballot struct {
	Round uint64        `json:"round"`
	Host  netmap.HostID `json:"host"`
}

func (b ballot) compare(o ballot) int {
	return cmp.Or(cmp.Compare(b.Round, o.Round), bytes.Compare(b.Host[:], o.Host[:]))
}

// acceptor is what a host has promised and accepted. It is on disk before another host hears of
// it.
type acceptor struct {
	Promised ballot `json:"promised"`
	Accepted ballot `json:"accepted"` // under which Plan was accepted; zero: none was
	Plan     *Plan  `json:"plan,omitempty"`
	Chosen   bool   `json:"chosen,omitempty"` // Plan is the outcome
}

// maxSkip is how far a ballot may be ahead of the last one that was promised. A proposer takes
// the next one, or the next after those that others promised. Whoever could skip to the last
// number would leave none.
const maxSkip = 1 << 20

// far reports whether a ballot is too far ahead.
func (a acceptor) far(b ballot) bool {
	return b.Round > a.Promised.Round && b.Round-a.Promised.Round > maxSkip
}

// prepare promises to accept nothing under a lesser ballot.
func (a acceptor) prepare(b ballot) (acceptor, bool) {
	if b.compare(a.Promised) <= 0 || a.far(b) {
		return a, false
	}
	a.Promised = b
	return a, true
}

// accept takes a plan unless a greater ballot was promised.
func (a acceptor) accept(b ballot, p *Plan) (acceptor, bool) {
	if b.compare(a.Promised) < 0 || a.far(b) {
		return a, false
	}
	a.Promised, a.Accepted, a.Plan, a.Chosen = b, b, p, false
	return a, true
}

// choose records the outcome.
func (a acceptor) choose(p *Plan) acceptor {
	a.Plan, a.Chosen = p, true
	return a
}

// Host is a newcomer, as this host sees it: it takes part in the founding.
type Host struct {
	ID   netmap.HostID  `json:"id"`
	Name string         `json:"name"`
	Addr netip.AddrPort `json:"addr"`
}

// seed is one entry of WEFT_JOIN and the addresses that it stands for.
type seed struct {
	peer  string
	addrs []netip.AddrPort // none: it cannot be resolved
}

// electorate says which hosts make a quorum: as many as are expected, or as WEFT_JOIN names, and among them more than
// half of those that WEFT_JOIN names. All hosts have the same settings, so any two quorums
// share a named host. If there are less than twice as many hosts as expected, they share more.
type electorate struct {
	expect int // or All
	seeds  []seed
}

// places returns the addresses that WEFT_JOIN names, each once, and the entries that have none.
// Of a name with addresses of both families those of this host's family count, as a host has
// one.
func (e electorate) places(v6 bool) (known map[netip.AddrPort]string, unknown []string) {
	known = map[netip.AddrPort]string{}
	for _, s := range e.seeds {
		mine := slices.DeleteFunc(slices.Clone(s.addrs), func(a netip.AddrPort) bool { return a.Addr().Is6() != v6 })
		if len(mine) == 0 {
			mine = s.addrs
		}
		for _, a := range mine {
			known[a] = s.peer
		}
		if len(mine) == 0 {
			unknown = append(unknown, s.peer)
		}
	}
	return known, unknown
}

// tally says how far some hosts are from a quorum.
type tally struct {
	hosts, expect int
	named, places int      // hosts at addresses that WEFT_JOIN names, and those addresses
	missing       []string // entries of WEFT_JOIN where none of the hosts is
}

func (t tally) quorum() bool { return t.hosts >= t.expect && 2*t.named > t.places }

func (e electorate) count(hosts []Host, v6 bool) tally {
	known, unknown := e.places(v6)
	t := tally{expect: e.expect, places: len(known) + len(unknown), missing: unknown}
	if e.expect == All {
		t.expect = len(known) // where none is known, none of them is here
	}
	at := map[netip.AddrPort]bool{} // of two hosts at one address one is gone
	for _, h := range hosts {
		if at[h.Addr] {
			continue
		}
		at[h.Addr] = true
		t.hosts++
		if _, is := known[h.Addr]; is {
			t.named++
		}
	}
	for a, peer := range known {
		if !at[a] {
			t.missing = append(t.missing, peer)
		}
	}
	slices.Sort(t.missing)
	t.missing = slices.Compact(t.missing)
	return t
}

// choosePlan returns what a proposer with these promises must propose: the plan that one of
// them accepted under the greatest ballot. Only if none was accepted, or the accepted one can
// never be carried out, may it propose its own.
func choosePlan(promises map[netmap.HostID]acceptor, quorum []Host, own func() *Plan) *Plan {
	var bound acceptor
	for _, h := range quorum {
		if a := promises[h.ID]; a.Plan != nil && (bound.Plan == nil || a.Chosen && !bound.Chosen || a.Chosen == bound.Chosen && a.Accepted.compare(bound.Accepted) > 0) {
			bound = a
		}
	}
	if bound.Plan == nil || bound.Plan.lost(quorum) {
		return own()
	}
	return bound.Plan
}

// lost reports whether a plan can neither be carried out any more nor be in force: so many of
// its keepers have lost their disks, as other identities at their addresses show, that the rest
// is no majority.
func (p *Plan) lost(present []Host) bool {
	left := 0
	for _, k := range p.Keepers {
		if !slices.ContainsFunc(present, func(h Host) bool { return h.Addr == k.Addr && h.ID != k.ID }) {
			left++
		}
	}
	return 2*left <= len(p.Keepers)
}

// firstKeepers returns as many keepers as the number of hosts allows, the proposer first.
func firstKeepers(self netmap.HostID, hosts []Host) []Keeper {
	sorted := slices.SortedFunc(slices.Values(hosts), func(a, b Host) int { return a.ID.Compare(b.ID) })
	if i := slices.IndexFunc(sorted, func(h Host) bool { return h.ID == self }); i > 0 {
		proposer := sorted[i]
		copy(sorted[1:], sorted[:i])
		sorted[0] = proposer
	}
	n := 1
	switch {
	case len(sorted) >= MostKeepers:
		n = MostKeepers
	case len(sorted) >= FewKeepers:
		n = FewKeepers
	}
	var out []Keeper
	for _, h := range sorted[:min(n, len(sorted))] {
		out = append(out, Keeper{ID: h.ID, Addr: h.Addr})
	}
	return out
}
