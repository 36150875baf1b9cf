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
	area := g.Within
	if !area.IsValid() {
		area = s.Prefix
	}
	if area.Masked() != area || !netmap.Within(area, s.Prefix) {
		return netmap.Refuse(netmap.Outside, "the ip-range %s is not inside subnet %s; choose an --ip-range inside it", area, s.Prefix)
	}
	if g.Count < 0 || g.Count > maxGrant {
		return netmap.Refuse(netmap.BadInput, "%d blocks at once; ask for 1 to %d", g.Count, maxGrant)
	}
	// After a recovery even what the host has is not answered before everybody has declared
	// what he holds: an address that is not known to be ceded would be taken back.
	if refusal := t.complete(); refusal != nil {
		return refusal
	}
	if own := t.owned(s, area); g.Have && len(own) > 0 {
		t.answerBlocks(s, own)
		return nil
	}
	free := t.freeBlocks(s, area, max(g.Count, 1))
	if len(free) == 0 {
		return t.exhausted(s, area)
	}
	granted := make([]netmap.Block, 0, len(free))
	for _, p := range free {
		b := netmap.Block{Prefix: p, Subnet: s.Prefix, Owner: t.cmd.Host, Epoch: t.index}
		s.blocks[p] = b
		delete(s.freed, p)
		t.set(b)
		granted = append(granted, b)
	}
	t.answerBlocks(s, granted)
	return nil
}

// answerBlocks tells of the addresses inside that the host may not hand out: those
// claimed by others, and those reserved, which are nobody's. The host may have
// heard of the subnet before they were reserved.
func (t *step) answerBlocks(s *subnet, blocks []netmap.Block) {
	t.reply.Block, t.reply.Blocks = new(blocks[0]), blocks
	inside := func(a netip.Addr) bool {
		return slices.ContainsFunc(blocks, func(b netmap.Block) bool { return b.Prefix.Contains(a) })
	}
	t.reply.Claims = t.claimsThat(func(c netmap.Claim) bool { return inside(c.Addr) && c.Owner != t.cmd.Host })
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
	for _, p := range netmap.SortedPrefixes(s.blocks) {
		if b := s.blocks[p]; b.Owner == t.cmd.Host && p.Overlaps(area) {
			out = append(out, b)
		}
	}
	return out
}

// freeBlocks picks up to n blocks that reach into the area: the lowest that were
// never used, then those whose last owner gave them up longest ago, so that an
// address comes back as late as possible.
func (t *step) freeBlocks(s *subnet, area netip.Prefix, n int) []netip.Prefix {
	full := t.fullBlocks(s)
	var fresh, used []netip.Prefix
	p := netip.PrefixFrom(area.Addr(), s.BlockBits).Masked()
	for ok := true; ok && p.Overlaps(area) && len(fresh) < n; p, ok = nextPrefix(p) {
		_, owned := s.blocks[p]
		_, before := s.freed[p]
		switch {
		case owned || full[p]:
		case before:
			used = append(used, p)
		default:
			fresh = append(fresh, p)
		}
	}
	slices.SortStableFunc(used, func(a, b netip.Prefix) int { return cmp.Compare(s.freed[a], s.freed[b]) })
	all := append(fresh, used...)
	return all[:min(n, len(all))]
}

// fullBlocks are those in which every address is reserved or claimed: to own one
// would be of no use.
func (t *step) fullBlocks(s *subnet) map[netip.Prefix]bool {
	hostBits := s.Prefix.Addr().BitLen() - s.BlockBits
	if hostBits > 16 {
		return nil
	}
	spoken := map[netip.Addr]bool{s.Prefix.Addr(): true, s.Gateway: true}
	if s.Prefix.Addr().Is4() {
		spoken[netmap.LastAddr(s.Prefix)] = true
	}
	for _, a := range s.Reserved {
		spoken[a] = true
	}
	for a, c := range t.claims {
		if c.Subnet == s.Prefix {
			spoken[a] = true
		}
	}
	count := map[netip.Prefix]int{}
	for a := range spoken {
		if p, err := a.Prefix(s.BlockBits); err == nil {
			count[p]++
		}
	}
	full := map[netip.Prefix]bool{}
	for p, n := range count {
		full[p] = n >= 1<<hostBits
	}
	return full
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
			t.postpone(late[:min(len(late), maxLateOfBlock)])
		}
	}
	return nil // to return what one does not own is no mistake
}
