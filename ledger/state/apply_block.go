package state

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// maxLateOfBlock bounds what a returned block tells of its addresses.
const maxLateOfBlock = 64

// maxGrant bounds the blocks of one command.
const maxGrant = 64

func (t *step) grantBlock(g *GrantBlock) *netmap.Refusal {
	s := t.subnets[g.Subnet]
	if s == nil {
		return noSubnet(g.Subnet)
	}
	if _, ok := s.holders[t.cmd.Host]; !ok {
		return t.notUsed(t.cmd.Host, g.Subnet)
	}
	area, refusal := s.area(g.Within)
	if refusal != nil {
		return refusal
	}
	if g.Count < 0 || g.Count > maxGrant {
		return netmap.Refuse(netmap.BadInput, "%d blocks at once; ask for 1 to %d", g.Count, maxGrant)
	}
	// After a recovery even what the host has is not answered before everybody has declared
	// what he holds: an address that is not known to be ceded would be taken back.
	if refusal := t.complete(); refusal != nil {
		return refusal
	}
	own := t.owned(s, area)
	if g.Have && len(own) > 0 {
		t.answerBlocks(s, own)
		return nil
	}
	count, refusal := t.share(s, area, g, len(own) > 0)
	if refusal != nil {
		return refusal
	}
	free := t.freeIn(s)
	granted := make([]netmap.Block, 0, count)
	for p, ok := free.block(area); ok && len(granted) < count; p, ok = free.block(area) {
		b := netmap.Block{Prefix: p, Subnet: s.Prefix, Owner: t.cmd.Host, Epoch: t.index}
		s.blocks[p] = b
		delete(s.freed, p)
		t.set(b)
		granted = append(granted, b)
	}
	t.answerBlocks(s, granted)
	return nil
}

// area is the part of a subnet that an --ip-range names; all of it where there is none.
func (s *subnet) area(within netip.Prefix) (netip.Prefix, *netmap.Refusal) {
	if !within.IsValid() {
		return s.Prefix, nil
	}
	if within.Masked() != within || !netmap.Within(within, s.Prefix) {
		return within, netmap.Refuse(netmap.Outside, "the ip-range %s is not inside subnet %s; choose an --ip-range inside it", within, s.Prefix)
	}
	return within, nil
}

// share returns how many blocks a host gets of those that it asks for, so that there are some
// for every host that uses the subnet: more than one, and any ahead of need, only while twice
// as many are free for each. The last tenth goes to hosts that have none, and address by address
// (claimAny) to the others.
func (t *step) share(s *subnet, area netip.Prefix, g *GrantBlock, has bool) (int, *netmap.Refusal) {
	open, all := t.freeIn(s).count(area)
	each, last := open/(2*uint64(len(s.holders))), open*10 < all
	switch {
	case open == 0:
		return 0, t.exhausted(s, area)
	case g.Ahead && (last || each == 0):
		return 0, netmap.Refuse(netmap.Exhausted, "%d of %d blocks are free in %s, and none of them is given ahead of need; ask again when a container waits", open, all, t.subnetName(s.Prefix))
	case last && has:
		return 0, netmap.Refuse(netmap.Exhausted, "%d of %d blocks are free in %s, for hosts that have none; ask for a single address of them", open, all, t.subnetName(s.Prefix))
	}
	return int(min(uint64(max(g.Count, 1)), max(each, 1))), nil
}

// answerBlocks tells of the addresses inside that the host may not hand out: those
// claimed by others, and those reserved, which are nobody's. The host may have
// heard of the subnet before they were reserved.
func (t *step) answerBlocks(s *subnet, blocks []netmap.Block) {
	t.reply.Block, t.reply.Blocks = new(blocks[0]), blocks
	inside := func(a netip.Addr) bool {
		return slices.ContainsFunc(blocks, func(b netmap.Block) bool { return b.Prefix.Contains(a) })
	}
	for _, b := range blocks {
		for _, a := range t.freeIn(s).claimed[b.Prefix] {
			if c := t.claims[a]; c.Owner != t.cmd.Host {
				t.reply.Claims = append(t.reply.Claims, c)
			}
		}
	}
	for _, a := range slices.SortedFunc(maps.Values(s.Reserved), netip.Addr.Compare) {
		if inside(a) {
			t.reply.Claims = append(t.reply.Claims, netmap.Claim{Addr: a, Subnet: s.Prefix})
		}
	}
	for _, a := range netmap.SortedAddrs(s.late) {
		if inside(a) {
			t.reply.Late = append(t.reply.Late, a)
		}
	}
}

// owned are the asking host's blocks in an area.
func (t *step) owned(s *subnet, area netip.Prefix) []netmap.Block {
	var out []netmap.Block
	for p, b := range s.blocks {
		if b.Owner == t.cmd.Host && p.Overlaps(area) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b netmap.Block) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

// exhausted names who holds the blocks.
func (t *step) exhausted(s *subnet, area netip.Prefix) *netmap.Refusal {
	held := map[netmap.HostID]int{}
	for p, b := range s.blocks {
		if p.Overlaps(area) {
			held[b.Owner]++
		}
	}
	ids := slices.SortedFunc(maps.Keys(held), func(a, b netmap.HostID) int {
		return cmp.Or(cmp.Compare(held[b], held[a]), a.Compare(b))
	})
	owners := make([]string, 0, len(ids))
	for i, id := range ids {
		if i == 8 {
			owners = append(owners, fmt.Sprintf("%d further hosts the rest", len(ids)-i))
			break
		}
		owners = append(owners, fmt.Sprintf("%s holds %d", t.HostName(id), held[id]))
	}
	where := t.subnetName(s.Prefix)
	if area != s.Prefix {
		where = fmt.Sprintf("the ip-range %s in %s", area, where)
	}
	if len(owners) == 0 {
		owners = []string{"all addresses are reserved or claimed one by one"}
	}
	return netmap.Refuse(netmap.Exhausted, "no block is free in %s: %s; stop containers there, remove hosts that are gone (weft host rm), or use a larger subnet", where, strings.Join(owners, ", "))
}

func (t *step) returnBlock(r *ReturnBlock) *netmap.Refusal {
	for _, p := range netmap.SortedPrefixes(t.subnets) {
		s := t.subnets[p]
		if b, ok := s.blocks[r.Block]; ok && b.Owner == t.cmd.Host && b.Epoch == r.Epoch {
			t.free(s, r.Block)
			late := slices.DeleteFunc(slices.Clone(r.Late), func(a netip.Addr) bool { return !r.Block.Contains(a) })
			t.giveOutLast(late[:min(len(late), maxLateOfBlock)])
		}
	}
	return nil // to return what one does not own is no mistake
}
