package state

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

func (t *step) ensureSubnet(e *EnsureSubnet) *netmap.Refusal {
	p := e.Want
	if !p.IsValid() {
		auto, refusal := t.autoSubnet(e)
		if refusal != nil {
			return refusal
		}
		p = auto
	}
	s := t.subnets[p]
	if s == nil {
		if refusal := t.complete(); refusal != nil {
			return refusal
		}
		made, refusal := t.makeSubnet(p, e.BlockBits)
		if refusal != nil {
			return refusal
		}
		s = made
		if e.Range.IsValid() && !netmap.Within(e.Range, p) {
			return netmap.Refuse(netmap.Outside, "the ip-range %s is not inside subnet %s; choose an --ip-range inside it", e.Range, p)
		}
		s.Range = e.Range
		t.subnets[p] = s
		t.set(s.Subnet)
	}
	if e.BlockBits != 0 && e.BlockBits != s.BlockBits {
		if refusal := t.resizeBlocks(s, e.BlockBits); refusal != nil {
			return refusal
		}
	}
	s.holders[t.cmd.Host] = struct{}{}
	t.reply.Subnet = new(s.Subnet)
	return nil
}

// checkBlocks says why a subnet cannot be cut into blocks of a size.
func checkBlocks(p netip.Prefix, bits int) *netmap.Refusal {
	switch width := p.Addr().BitLen(); {
	case bits < p.Bits() || bits > width:
		return netmap.Refuse(netmap.BadInput, "blocks of /%d do not fit into subnet %s; use /%d to /%d", bits, p, p.Bits(), width)
	case bits-p.Bits() > maxBlocks:
		return netmap.Refuse(netmap.BadInput, "blocks of /%d cut subnet %s into more than %d; use /%d or larger ones", bits, p, 1<<maxBlocks, p.Bits()+maxBlocks)
	}
	return nil
}

// resizeBlocks changes the size of a subnet's blocks, which its creator may while
// there are none: Docker tells -o weft.block only after it asked for the pool.
func (t *step) resizeBlocks(s *subnet, bits int) *netmap.Refusal {
	if !t.fresh(s) {
		return netmap.Refuse(netmap.Conflict, "%s has blocks of /%d, not of /%d; leave out -o weft.block or give the same", t.subnetName(s.Prefix), s.BlockBits, bits)
	}
	if refusal := checkBlocks(s.Prefix, bits); refusal != nil {
		return refusal
	}
	changed := s.Subnet
	changed.BlockBits = bits
	return t.replaceSubnet(s, changed)
}

// fresh reports whether nobody but the asking host has anything of a subnet yet.
func (t *step) fresh(s *subnet) bool {
	_, mine := s.holders[t.cmd.Host]
	return mine && len(s.holders) == 1 && len(s.blocks) == 0 && t.networkOf(s.Prefix) == nil
}

// makeSubnet checks all that makes a subnet impossible.
func (t *step) makeSubnet(p netip.Prefix, bits int) (*subnet, *netmap.Refusal) {
	if refusal := checkSubnet(p, "subnet"); refusal != nil {
		return nil, refusal
	}
	for _, other := range netmap.SortedPrefixes(t.subnets) {
		if other.Overlaps(p) {
			return nil, netmap.Refuse(netmap.Overlaps, "subnet %s overlaps %s, used by %s; choose another --subnet", p, t.subnetName(other), t.names(t.subnets[other].holders))
		}
	}
	if bits == 0 {
		bits = blockBits(p)
	}
	if refusal := checkBlocks(p, bits); refusal != nil {
		return nil, refusal
	}
	return &subnet{
		Subnet: netmap.Subnet{Prefix: p, BlockBits: bits}, holders: hostSet{},
		blocks: map[netip.Prefix]netmap.Block{}, freed: map[netip.Prefix]uint64{},
	}, nil
}

// autoSubnet picks the lowest free piece of the first range that has one.
func (t *step) autoSubnet(e *EnsureSubnet) (netip.Prefix, *netmap.Refusal) {
	taken := append(netmap.SortedPrefixes(t.subnets), e.Avoid...)
	found := false
	for _, r := range t.ranges {
		if r.Addr().Is6() != e.V6 {
			continue
		}
		found = true
		if p, ok := firstFree(r, autoBits(r), taken); ok {
			return p, nil
		}
	}
	family := "IPv4"
	if e.V6 {
		family = "IPv6"
	}
	if !found {
		return netip.Prefix{}, netmap.Refuse(netmap.Exhausted, "the cluster has no %s range to take a subnet from; give one (--subnet), or add a range (weft range add)", family)
	}
	return netip.Prefix{}, netmap.Refuse(netmap.Exhausted, "no free %s subnet is left in the cluster's ranges: %d are in use and %d were to be avoided; remove unused networks, give one (--subnet), or add a range (weft range add)", family, len(t.subnets), len(e.Avoid))
}

// names lists hosts for people.
func (t *step) names(set hostSet) string {
	if len(set) == 0 {
		return "no host"
	}
	out := ""
	for i, id := range set.sorted() {
		switch {
		case i == 4 && len(set) > 5:
			return out + " and others"
		case i > 0:
			out += ", "
		}
		out += t.HostName(id)
	}
	return out
}

func (t *step) useSubnets(u *UseSubnets) *netmap.Refusal {
	unused := func(p netip.Prefix) bool { return !slices.Contains(u.Prefixes, p) }
	for _, n := range t.sortedNetworks() { // it may be a member without having heard so
		if _, member := n.members[t.cmd.Host]; member && slices.ContainsFunc(n.Subnets, unused) {
			t.dropMember(n, t.cmd.Host)
		}
	}
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		s := t.subnets[p]
		if _, uses := s.holders[t.cmd.Host]; uses && unused(p) {
			t.dropHolder(s, t.cmd.Host)
		}
	}
	return nil
}

// dropHolder takes a subnet's blocks and claims from a host and ends its use.
func (t *step) dropHolder(s *subnet, id netmap.HostID) {
	for _, p := range netmap.SortedPrefixes(s.blocks) {
		if s.blocks[p].Owner == id {
			t.free(s, p)
		}
	}
	for _, c := range t.claimsThat(func(c netmap.Claim) bool { return c.Subnet == s.Prefix && c.Owner == id }) {
		delete(t.claims, c.Addr)
		t.gone(c)
	}
	delete(s.holders, id)
	t.sweep(s)
}

// free ends the ownership of a block.
func (t *step) free(s *subnet, block netip.Prefix) {
	b := s.blocks[block]
	delete(s.blocks, block)
	s.freed[block] = t.index
	maps.DeleteFunc(s.late, func(a netip.Addr, _ struct{}) bool { return block.Contains(a) }) // its owner gave them out last
	t.gone(b)
}

// sweep removes a subnet that neither a host nor a network uses.
func (t *step) sweep(s *subnet) {
	if len(s.holders) > 0 || t.networkOf(s.Prefix) != nil {
		return
	}
	for _, p := range netmap.SortedPrefixes(s.blocks) {
		t.gone(s.blocks[p])
	}
	for _, c := range t.claimsThat(func(c netmap.Claim) bool { return c.Subnet == s.Prefix }) {
		delete(t.claims, c.Addr)
		t.gone(c)
	}
	delete(t.subnets, s.Prefix)
	t.gone(s.Subnet)
}

func (t *step) reserve(r *Reserve) *netmap.Refusal {
	s := t.subnets[r.Subnet]
	if s == nil {
		return noSubnet(r.Subnet)
	}
	if refusal := CheckName("reservation", r.Name); refusal != nil || r.Name == "" {
		return netmap.Refuse(netmap.BadInput, "an address is reserved under a name of 1 to 255 printable bytes, not %.40q", r.Name)
	}
	t.reply.Subnet = new(s.Subnet)
	if r.Name == Gateway {
		return t.reserveGateway(s, r.Addr)
	}
	switch old, ok := s.Reserved[r.Name]; {
	case ok && old == r.Addr:
		return nil
	case ok:
		return netmap.Refuse(netmap.Conflict, "%s reserves %s as %q, not %s; use the same --aux-address on all hosts", t.subnetName(s.Prefix), old, r.Name, r.Addr)
	}
	if refusal := t.reservable(s, r.Addr); refusal != nil {
		return refusal
	}
	changed := s.Subnet
	changed.Reserved = maps.Clone(s.Reserved)
	if changed.Reserved == nil {
		changed.Reserved = map[string]netip.Addr{}
	}
	changed.Reserved[r.Name] = r.Addr
	return t.replaceSubnet(s, changed)
}

func (t *step) replaceSubnet(s *subnet, changed netmap.Subnet) *netmap.Refusal {
	if refusal := t.complete(); refusal != nil {
		return refusal
	}
	if refusal := fits(changed); refusal != nil {
		return refusal
	}
	s.Subnet = changed
	t.set(changed)
	t.reply.Subnet = new(changed)
	return nil
}

// reserveGateway sets the gateway. The creator may still change it: Docker tells
// an IPAM plugin the user's --gateway only after it asked for the pool.
func (t *step) reserveGateway(s *subnet, addr netip.Addr) *netmap.Refusal {
	if !addr.IsValid() {
		if s.Gateway.IsValid() {
			return nil
		}
		first, ok := t.firstUsable(s)
		if !ok {
			return netmap.Refuse(netmap.Exhausted, "%s has no free address for a gateway; give one (--gateway), or use a larger subnet", t.subnetName(s.Prefix))
		}
		addr = first
	}
	if addr == s.Gateway {
		return nil
	}
	if s.Gateway.IsValid() && !t.fresh(s) {
		return netmap.Refuse(netmap.Conflict, "%s has the gateway %s, not %s; use --gateway %s or leave it out", t.subnetName(s.Prefix), s.Gateway, addr, s.Gateway)
	}
	if refusal := t.reservable(s, addr); refusal != nil {
		return refusal
	}
	changed := s.Subnet
	changed.Gateway = addr
	return t.replaceSubnet(s, changed)
}

// firstUsable is the lowest address that can be reserved, among the first few.
func (t *step) firstUsable(s *subnet) (netip.Addr, bool) {
	for a, n := s.Prefix.Addr(), 0; s.Prefix.Contains(a) && n < 1<<12; a, n = a.Next(), n+1 {
		if t.reservable(s, a) == nil && !s.reserves(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// reserves reports whether an address is kept from being handed out.
func (s *subnet) reserves(a netip.Addr) bool {
	if a == s.Gateway {
		return true
	}
	for _, r := range s.Reserved {
		if r == a {
			return true
		}
	}
	return false
}

// reservable says why an address cannot be reserved.
func (t *step) reservable(s *subnet, a netip.Addr) *netmap.Refusal {
	switch {
	case !a.IsValid() || !s.Prefix.Contains(a):
		return netmap.Refuse(netmap.Outside, "%s is not inside subnet %s; choose an address inside it", a, s.Prefix)
	case netmap.IsEdge(a, s.Prefix):
		return netmap.Refuse(netmap.BadInput, "%s is the network or broadcast address of subnet %s, which nobody can have; choose another address", a, s.Prefix)
	}
	if c, ok := t.claims[a]; ok {
		return netmap.Refuse(netmap.Held, "%s is held by %s; choose another address, or stop what uses it there", a, t.HostName(c.Owner))
	}
	if b, ok := s.blockAt(a); ok && b.Owner != t.cmd.Host {
		return netmap.Refuse(netmap.Held, "%s lies in block %s of %s, which may have handed it out; choose another address", a, b.Prefix, t.HostName(b.Owner))
	}
	return nil
}

// blockAt is the owned block that an address lies in.
func (s *subnet) blockAt(a netip.Addr) (netmap.Block, bool) {
	p, err := a.Prefix(s.BlockBits)
	if err != nil {
		return netmap.Block{}, false
	}
	b, ok := s.blocks[p]
	return b, ok
}

// noSubnet refuses what is about a subnet that the ledger does not have.
func noSubnet(p netip.Prefix) *netmap.Refusal {
	return netmap.Refuse(netmap.Unknown, "there is no subnet %s in this cluster; the last network with it was removed meanwhile, create it again (docker network create --subnet %s)", p, p)
}

// notUsed refuses what a host wants of a subnet of which it has no network.
func (t *step) notUsed(host netmap.HostID, p netip.Prefix) *netmap.Refusal {
	return netmap.Refuse(netmap.Unknown, "%s has no network with %s, so it gets nothing of it; create the network there (docker network create)", t.HostName(host), t.subnetName(p))
}
