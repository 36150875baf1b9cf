package state

import (
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

func (t *step) claim(c *Claim) *netmap.Refusal {
	s := t.subnets[c.Subnet]
	if s == nil {
		return noSubnet(c.Subnet)
	}
	if _, ok := s.holders[t.cmd.Host]; !ok {
		return t.notUsed(t.cmd.Host, c.Subnet)
	}
	if !c.Addr.IsValid() {
		return t.claimAny(s, c)
	}
	old, taken := t.claims[c.Addr]
	switch {
	case !s.Prefix.Contains(c.Addr):
		return netmap.Refuse(netmap.Outside, "%s is not inside %s; choose an --ip inside it", c.Addr, t.subnetName(s.Prefix))
	case netmap.IsEdge(c.Addr, s.Prefix):
		return netmap.Refuse(netmap.BadInput, "%s is the network or broadcast address of subnet %s, which no container can have; choose another --ip", c.Addr, s.Prefix)
	case s.reserves(c.Addr):
		return netmap.Refuse(netmap.Held, "%s is reserved in %s (gateway or --aux-address); choose another --ip", c.Addr, t.subnetName(s.Prefix))
	case taken && old.Owner == t.cmd.Host:
		t.reply.Claim = new(old)
		return nil
	case taken:
		t.reply.Host = t.entry(old.Owner)
		return netmap.Refuse(netmap.Held, "%s in %s is held by %s; choose another --ip, or stop what uses it there (weft status)", c.Addr, t.subnetName(s.Prefix), t.HostName(old.Owner))
	}
	if refusal := t.complete(); refusal != nil {
		return refusal
	}
	if b, ok := s.blockAt(c.Addr); ok && b.Owner != t.cmd.Host {
		t.reply.Host, t.reply.Block = t.entry(b.Owner), new(b)
		return netmap.Refuse(netmap.Held, "%s in %s lies in block %s of %s, which alone can cede it; start that host, or choose another --ip", c.Addr, t.subnetName(s.Prefix), b.Prefix, t.HostName(b.Owner))
	}
	t.give(netmap.Claim{Addr: c.Addr, Subnet: s.Prefix, Owner: t.cmd.Host, Epoch: t.index})
	return nil
}

// claimAny gives the asking host any address that lies in no host's block.
func (t *step) claimAny(s *subnet, c *Claim) *netmap.Refusal {
	area, refusal := s.area(c.Within)
	if refusal != nil {
		return refusal
	}
	if refusal := t.complete(); refusal != nil {
		return refusal
	}
	free := t.freeIn(s)
	pick := free.single
	if c.Host {
		if open, all := free.count(area); open*10 < all {
			return netmap.Refuse(netmap.Exhausted, "%d of %d blocks are free in %s: they are kept for containers; this host gets an address when there are more, or use a larger subnet", open, all, t.subnetName(s.Prefix))
		}
		pick = free.top
	}
	a, ok := pick(s, area)
	if !ok {
		return t.exhausted(s, area)
	}
	t.give(netmap.Claim{Addr: a, Subnet: s.Prefix, Owner: t.cmd.Host, Epoch: t.index})
	return nil
}

// claimsThat are those of which something is true, sorted. Few are, of all there may be.
func (s *State) claimsThat(is func(netmap.Claim) bool) (out []netmap.Claim) {
	for _, c := range s.claims {
		if is(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b netmap.Claim) int { return a.Addr.Compare(b.Addr) })
	return out
}

func (t *step) give(c netmap.Claim) {
	t.claims[c.Addr] = c
	t.set(c)
	t.reply.Claim = new(c)
}

func (t *step) entry(id netmap.HostID) *netmap.HostEntry {
	if h := t.hosts[id]; h != nil {
		return new(h.HostEntry)
	}
	return nil
}

func (t *step) cede(c *Cede) *netmap.Refusal {
	heir := t.hosts[c.To]
	if heir == nil || heir.Removed {
		return netmap.Refuse(netmap.Unknown, "%s cannot be ceded to host %s, which is not in the cluster; see weft status there", c.Addr, c.To.Short())
	}
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		if c.Addr.IsValid() && p.Contains(c.Addr) {
			return t.cedeIn(t.subnets[p], c)
		}
	}
	return netmap.Refuse(netmap.Outside, "%s is in no subnet of this cluster; choose an --ip inside the network's --subnet", c.Addr)
}

func (t *step) cedeIn(s *subnet, c *Cede) *netmap.Refusal {
	b, owned := s.blockAt(c.Addr)
	old, taken := t.claims[c.Addr]
	_, uses := s.holders[c.To]
	switch {
	case taken && old.Owner == c.To:
		t.reply.Claim = new(old)
		return nil
	case taken && old.Owner != t.cmd.Host:
		return netmap.Refuse(netmap.Busy, "%s was ceded to %s already; choose another --ip", c.Addr, t.HostName(old.Owner))
	case !taken && (!owned || b.Owner != t.cmd.Host):
		return netmap.Refuse(netmap.Busy, "%s is not %s's to cede; try again, its owner may have changed", c.Addr, t.HostName(t.cmd.Host))
	case netmap.IsEdge(c.Addr, s.Prefix) || s.reserves(c.Addr):
		return netmap.Refuse(netmap.Held, "%s is reserved in %s; choose another --ip", c.Addr, t.subnetName(s.Prefix))
	case !uses:
		return t.notUsed(c.To, s.Prefix)
	}
	t.give(netmap.Claim{Addr: c.Addr, Subnet: s.Prefix, Owner: c.To, Epoch: t.index})
	return nil
}

func (t *step) unclaim(u *Unclaim) *netmap.Refusal {
	if c, ok := t.claims[u.Addr]; ok && c.Owner == t.cmd.Host && c.Epoch == u.Epoch {
		delete(t.claims, u.Addr)
		t.gone(c)
		t.giveOutLast([]netip.Addr{u.Addr})
	}
	return nil // to return what one does not hold is no mistake
}
