package state

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// adopt makes a state equal to the facts that a host has of the same ledger at a
// later index. What facts do not tell, who uses which subnet and network, it
// supposes of all members: each says so when it declares what it holds.
func (s *State) adopt(facts []netmap.Change, decided uint64) {
	if decided <= s.applied {
		return
	}
	old := *s
	s.subnets, s.networks, s.claims = map[netip.Prefix]*subnet{}, map[netmap.NetworkID]*network{}, map[netip.Addr]netmap.Claim{}
	s.applied = decided
	everybody := hostSet{}
	for _, c := range facts {
		switch n := c.Value.(type) {
		case netmap.Range:
			if !slices.Contains(s.ranges, n.Prefix) {
				s.ranges = append(slices.Clip(s.ranges), n.Prefix)
			}
		case netmap.HostEntry:
			s.adoptHost(n, everybody)
		}
	}
	s.raiseLevel(Level)
	s.adoptSubnets(&old, facts, everybody)
	for _, c := range facts {
		n, is := c.Value.(netmap.Network)
		if !is {
			continue
		}
		members := everybody
		if known := old.networks[n.ID]; known != nil {
			members = known.members
		}
		s.networks[n.ID] = &network{Network: n, members: membersOf(members, everybody)}
		s.nextVNI = max(s.nextVNI, n.VNI+1)
	}
	for _, c := range facts {
		if name, is := c.Value.(netmap.StaticName); is && s.networks[name.Network] != nil {
			s.networks[name.Network].put(name)
		}
	}
}

func (s *State) adoptHost(n netmap.HostEntry, everybody hostSet) {
	h := s.hosts[n.ID]
	if h == nil {
		h = &host{}
		s.hosts[n.ID] = h
	}
	h.HostEntry = n
	s.lastIndex = max(s.lastIndex, n.Index)
	if !n.Removed {
		everybody[n.ID] = struct{}{}
	}
}

// membersOf is a set without those that are no members of the cluster; if none is
// left, all are supposed.
func membersOf(set, everybody hostSet) hostSet {
	out := hostSet{}
	for _, id := range set.sorted() {
		if _, ok := everybody[id]; ok {
			out[id] = struct{}{}
		}
	}
	if len(out) == 0 {
		for _, id := range everybody.sorted() {
			out[id] = struct{}{}
		}
	}
	return out
}

func (s *State) adoptSubnets(old *State, facts []netmap.Change, everybody hostSet) {
	kind := func(v any) int { // subnets before what lies in them
		switch v.(type) {
		case netmap.Subnet:
			return 0
		case netmap.Block:
			return 1
		}
		return 2
	}
	for _, c := range slices.SortedStableFunc(slices.Values(facts), func(a, b netmap.Change) int { return cmp.Compare(kind(a.Value), kind(b.Value)) }) {
		switch n := c.Value.(type) {
		case netmap.Subnet:
			sub := &subnet{Subnet: n, holders: membersOf(everybody, everybody), blocks: map[netip.Prefix]netmap.Block{}, freed: map[netip.Prefix]uint64{}}
			if known := old.subnets[n.Prefix]; known != nil {
				sub.holders, sub.freed, sub.late = membersOf(known.holders, everybody), known.freed, known.late
			}
			s.subnets[n.Prefix] = sub
		case netmap.Block:
			if sub := s.subnets[n.Subnet]; sub != nil {
				sub.blocks[n.Prefix] = n
				sub.holders[n.Owner] = struct{}{}
				delete(sub.freed, n.Prefix)
			}
		case netmap.Claim:
			if sub := s.subnets[n.Subnet]; sub != nil {
				s.claims[n.Addr] = n
				sub.holders[n.Owner] = struct{}{}
			}
		}
	}
}
