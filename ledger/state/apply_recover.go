package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// A ledger that lost the majority of its keepers goes on from what one survivor
// knows, under a greater generation. What it may have forgotten are the decisions
// that only the lost keepers had. So each host declares what it holds, and until all
// have, nothing new is given to anybody.

// DeclareHoldings says what a host holds on its own disk, for a ledger that was recovered.
// Whoever holds what another was given meanwhile is no member any more.
type DeclareHoldings struct {
	Holdings []Holding        `json:"holdings,omitempty"`
	Networks []netmap.Network `json:"networks,omitempty"` // that its Docker has
}

// Holding is what a host holds of one subnet.
type Holding struct {
	Subnet netmap.Subnet  `json:"subnet"`
	Blocks []netmap.Block `json:"blocks,omitempty"`
	Claims []netmap.Claim `json:"claims,omitempty"`
}

// recoveryGap is how far indexes, VNIs and host indexes jump at a recovery: beyond
// everything that the lost keepers may have given out.
const recoveryGap = 4096

// Undeclared are the members that have not told a recovered ledger what they hold, by id.
func (s *State) Undeclared() (out []netmap.HostID) {
	for _, h := range s.hosts {
		if !h.Removed && h.declared < s.generation {
			out = append(out, h.ID)
		}
	}
	slices.SortFunc(out, netmap.ID.Compare)
	return out
}

// complete refuses to give out anything while some host may hold it unknown to the
// ledger.
func (t *step) complete() *netmap.Refusal {
	missing := t.Undeclared()
	if len(missing) == 0 {
		return nil
	}
	return netmap.Refuse(netmap.NoQuorum, "the ledger was recovered, and nothing new is given out until %s has declared what it holds, which it does as soon as its agent reaches the keepers; start it, or if the machine is off for good, remove it (weft host rm HOST --is-off)", t.HostNames(missing))
}

// HostNames lists up to eight hosts for a message and counts the rest.
func (s *State) HostNames(hosts []netmap.HostID) string {
	names := make([]string, 0, len(hosts))
	for i, id := range hosts {
		if i == 8 {
			names = append(names, fmt.Sprintf("%d further hosts", len(hosts)-i))
			break
		}
		names = append(names, s.HostName(id))
	}
	return strings.Join(names, ", ")
}

func (t *step) declareHoldings(c *DeclareHoldings) *netmap.Refusal {
	h := t.self
	if t.generation <= 1 { // nothing was forgotten
		t.reply.Host = new(h.HostEntry)
		return nil
	}
	if conflict := t.conflicts(c); conflict {
		h.Removed, h.session = true, session{}
		t.set(h.HostEntry)
		t.strip(h.ID)
		t.reply.Host = new(h.HostEntry)
		return nil
	}
	for _, w := range c.Holdings {
		t.holds(w)
	}
	for _, n := range c.Networks {
		t.has(n)
	}
	if h.declared < t.generation { // later it may be about to use what it does not name
		h.declared = t.generation
		t.dropUnnamed(c)
	}
	t.reply.Host = new(h.HostEntry)
	return nil
}

// conflicts reports whether something declared is another's by now.
func (t *step) conflicts(c *DeclareHoldings) bool {
	for _, w := range c.Holdings {
		s := t.subnets[w.Subnet.Prefix]
		if s == nil || s.BlockBits != w.Subnet.BlockBits {
			if s = t.inPlace(w.Subnet); s == nil {
				return true
			}
		}
		if slices.ContainsFunc(w.Blocks, func(b netmap.Block) bool { return t.blockTaken(s, b) }) ||
			slices.ContainsFunc(w.Claims, func(c netmap.Claim) bool { return t.claimTaken(s, c) }) {
			return true
		}
	}
	return slices.ContainsFunc(c.Networks, func(n netmap.Network) bool { return t.networkTaken(c, n) })
}

func (t *step) blockTaken(s *subnet, b netmap.Block) bool {
	if b.Prefix.Masked() != b.Prefix || b.Prefix.Bits() != s.BlockBits || !netmap.Within(b.Prefix, s.Prefix) || b.Subnet != s.Prefix {
		return true
	}
	if old, owned := s.blocks[b.Prefix]; owned {
		return old.Owner != t.cmd.Host && !t.outdated(old.Owner, old.Epoch, b.Epoch)
	}
	for a, c := range t.claims { // given by the recovered ledger where it knew of no block
		if b.Prefix.Contains(a) && c.Owner != t.cmd.Host && c.Epoch > b.Epoch && c.Epoch > t.recovered {
			return true
		}
	}
	return false
}

func (t *step) claimTaken(s *subnet, c netmap.Claim) bool {
	if !c.Addr.IsValid() || c.Subnet != s.Prefix || !s.Prefix.Contains(c.Addr) || netmap.IsEdge(c.Addr, s.Prefix) || s.reserves(c.Addr) {
		return true
	}
	if old, taken := t.claims[c.Addr]; taken {
		return old.Owner != t.cmd.Host && !t.outdated(old.Owner, old.Epoch, c.Epoch)
	}
	b, owned := s.blockAt(c.Addr)
	return owned && b.Owner != t.cmd.Host && b.Epoch > t.recovered // else its owner ceded it, or was told of it
}

// outdated reports whether what the ledger remembers of another host was over before
// something later was granted: there was one history, and the other has not declared
// that it holds it still.
func (t *step) outdated(owner netmap.HostID, known, later uint64) bool {
	h := t.hosts[owner]
	return known < later && known < t.recovered && (h == nil || h.declared < t.generation)
}

// inPlace is an empty subnet in the place of those that it overlaps, nil if one of
// them is in use: a later one means that the earlier ones were gone.
func (t *step) inPlace(n netmap.Subnet) *subnet {
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		if p.Overlaps(n.Prefix) && t.inUse(t.subnets[p].holders, t.networkOf(p)) {
			return nil
		}
	}
	if checkSubnet(n.Prefix, "subnet") != nil || checkBlocks(n.Prefix, n.BlockBits) != nil || fits(n) != nil {
		return nil
	}
	return &subnet{Subnet: n, holders: hostSet{}, blocks: map[netip.Prefix]netmap.Block{}, freed: map[netip.Prefix]uint64{}}
}

// inUse reports whether somebody who has declared what it holds uses a subnet or is in
// its network.
func (t *step) inUse(holders hostSet, n *network) bool {
	users := holders.sorted()
	if n != nil {
		users = append(users, n.members.sorted()...)
	}
	return slices.ContainsFunc(users, func(id netmap.HostID) bool { return t.hosts[id].declared >= t.generation })
}

// vacate drops a subnet and its network that were gone before what is declared.
func (t *step) vacate(p netip.Prefix) {
	if n := t.networkOf(p); n != nil {
		for _, id := range n.members.sorted() {
			t.dropMember(n, id)
		}
	}
	if s := t.subnets[p]; s != nil {
		for _, id := range s.holders.sorted() {
			t.dropHolder(s, id)
		}
	}
}

func (t *step) networkTaken(c *DeclareHoldings, n netmap.Network) bool {
	if old := t.networks[n.ID]; old != nil {
		return !slices.Equal(old.Subnets, n.Subnets)
	}
	if n.ID == 0 || n.VNI == 0 || n.VNI > maxVNI || len(n.Subnets) == 0 || fits(n) != nil {
		return true
	}
	for _, o := range t.sortedNetworks() {
		if clash(o.Network, n) && t.inUse(nil, o) {
			return true
		}
	}
	for _, p := range n.Subnets {
		declared := slices.ContainsFunc(c.Holdings, func(w Holding) bool { return w.Subnet.Prefix == p })
		if !declared && t.subnets[p] == nil {
			return true
		}
	}
	return false
}

// clash reports whether two networks cannot be at once.
func clash(o, n netmap.Network) bool {
	return o.VNI == n.VNI || n.Name != "" && o.Name == n.Name && !o.Retired && !n.Retired ||
		slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return slices.Contains(o.Subnets, p) })
}

// holds takes in what does not conflict.
func (t *step) holds(w Holding) {
	s := t.subnets[w.Subnet.Prefix]
	if s == nil || s.BlockBits != w.Subnet.BlockBits {
		s = t.inPlace(w.Subnet) // which conflicts found possible
		for _, p := range netmap.SortedPrefixes(t.subnets) {
			if p.Overlaps(s.Prefix) {
				t.vacate(p)
			}
		}
		t.subnets[s.Prefix] = s
		t.set(s.Subnet)
	}
	s.holders[t.cmd.Host] = struct{}{}
	for _, b := range w.Blocks {
		if old, owned := s.blocks[b.Prefix]; !owned || old.Owner != t.cmd.Host {
			b.Owner, b.Epoch = t.cmd.Host, max(b.Epoch, 1)
			s.blocks[b.Prefix] = b
			delete(s.freed, b.Prefix)
			t.set(b)
		}
	}
	for _, c := range w.Claims {
		if old, known := t.claims[c.Addr]; !known || old.Owner != t.cmd.Host {
			c.Owner, c.Epoch = t.cmd.Host, max(c.Epoch, 1)
			t.claims[c.Addr] = c
			t.set(c)
		}
	}
}

func (t *step) has(n netmap.Network) {
	known := t.networks[n.ID]
	if known == nil {
		for _, o := range t.sortedNetworks() {
			if clash(o.Network, n) {
				for _, id := range o.members.sorted() {
					t.dropMember(o, id)
				}
			}
		}
		known = &network{Network: n, members: hostSet{}}
		t.networks[n.ID] = known
		t.nextVNI = max(t.nextVNI, n.VNI+1)
		t.set(n)
	}
	known.members[t.cmd.Host] = struct{}{}
}

// dropUnnamed ends what the asking host uses no more: networks first, since a subnet
// stays with its network.
func (t *step) dropUnnamed(c *DeclareHoldings) {
	for _, n := range t.sortedNetworks() {
		named := slices.ContainsFunc(c.Networks, func(o netmap.Network) bool { return o.ID == n.ID })
		if _, member := n.members[t.cmd.Host]; member && !named {
			t.dropMember(n, t.cmd.Host)
		}
	}
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		named := slices.ContainsFunc(c.Holdings, func(w Holding) bool { return w.Subnet.Prefix == p })
		s := t.subnets[p]
		if _, uses := s.holders[t.cmd.Host]; uses && !named {
			t.dropHolder(s, t.cmd.Host)
			continue
		}
		for _, b := range netmap.SortedPrefixes(s.blocks) {
			if s.blocks[b].Owner == t.cmd.Host && !c.names(b) {
				t.free(s, b)
			}
		}
		for _, old := range t.claimsThat(func(o netmap.Claim) bool { return o.Owner == t.cmd.Host && o.Subnet == p && !c.claims(o.Addr) }) {
			delete(t.claims, old.Addr)
			t.gone(old)
		}
	}
}

func (c *DeclareHoldings) names(block netip.Prefix) bool {
	return slices.ContainsFunc(c.Holdings, func(w Holding) bool {
		return slices.ContainsFunc(w.Blocks, func(b netmap.Block) bool { return b.Prefix == block })
	})
}

func (c *DeclareHoldings) claims(a netip.Addr) bool {
	return slices.ContainsFunc(c.Holdings, func(w Holding) bool {
		return slices.ContainsFunc(w.Claims, func(c netmap.Claim) bool { return c.Addr == a })
	})
}

// Rebuild is the newest state that is known where a majority is lost: a keeper's own, or nil,
// and after it the facts of this generation, decided up to an index.
func Rebuild(own *State, generation, decided uint64, facts []netmap.Change) *State {
	s := own
	if s == nil || s.generation < generation {
		s = NewState()
		s.generation = generation
	}
	if s.generation == generation {
		s.adopt(facts, decided)
	}
	return s
}

// Recover makes a state that lost the majority of its keepers one of a new generation, by
// the clock of who recovers it in Unix milliseconds. Last is the newest index that is known;
// the state goes on from one that nobody can have used. Lost hosts are removed.
func (s *State) Recover(cluster netmap.ClusterID, generation, last uint64, at int64, lost []netmap.HostID) {
	index := max(last, s.applied) + recoveryGap
	s.cluster, s.generation, s.recovered = cluster, generation, index
	s.lastIndex += recoveryGap
	s.nextVNI = min(s.nextVNI+recoveryGap, maxVNI+1)
	t := &step{State: s, index: index, cmd: Command{At: at, Leader: Level}}
	t.note(Event{What: EventRecovered})
	s.forgot = max(s.forgot, at) // what only the lost keepers knew
	for _, id := range lost {
		if h := s.hosts[id]; h != nil && !h.Removed {
			h.Removed, h.session = true, session{}
			t.set(h.HostEntry)
			t.strip(id)
		}
	}
	s.raiseLevel(Level)
	s.applied = index
}

// NextGeneration returns a generation above the last. The nonce makes two concurrent
// recoveries differ; the greater one wins everywhere.
func NextGeneration(last uint64, nonce uint32) uint64 {
	return (last>>32+1)<<32 | uint64(nonce)
}
