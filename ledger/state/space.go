package state

import (
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// Sizes of what is carved when nobody says otherwise, in prefix bits.
const (
	autoV4    = 20 // subnet of a network without --subnet
	autoV6    = 64
	minV4     = 8 // the largest subnet or range
	minV6     = 32
	maxV4     = 30 // the smallest subnet: a gateway and one container
	maxV6     = 126
	maxBlocks = 16 // a subnet has at most 2^maxBlocks blocks

	enoughBlocks = 12 // a subnet has 2^enoughBlocks blocks, a few for each of a thousand hosts…
	leastInBlock = 2  // …as far as a block has 2^leastInBlock addresses
)

// blockBits is the prefix length of a subnet's blocks: 4,096 blocks, fewer where they would
// have less than four addresses. An IPv6 subnet has up to 65,536, down to /112. The smallest
// subnets have blocks of two.
func blockBits(subnet netip.Prefix) int {
	s, width := subnet.Bits(), subnet.Addr().BitLen()
	if width == 128 && s <= 104 {
		return max(min(s+16, 112), s+enoughBlocks)
	}
	return max(min(s+enoughBlocks, width-leastInBlock), s+(width-s+1)/2)
}

// autoBits is the prefix length of a subnet picked from a range: a sixteenth of
// a small range, so that it is good for several networks.
func autoBits(r netip.Prefix) int {
	if r.Addr().Is4() {
		return max(autoV4, min(r.Bits()+4, 28), r.Bits())
	}
	return max(autoV6, min(r.Bits()+4, 120), r.Bits())
}

// defaultV6Range is the cluster's own piece of fd00::/8 (RFC 4193): 40 random
// bits, here those of the cluster id.
func defaultV6Range(cluster netmap.ClusterID) netip.Prefix {
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], cluster[:5])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// nextPrefix is the piece of the same size after p; false at the end of space.
func nextPrefix(p netip.Prefix) (netip.Prefix, bool) {
	a := netmap.LastAddr(p).Next()
	return netip.PrefixFrom(a, p.Bits()), a.IsValid()
}

// firstFree is the lowest piece of r of a size that overlaps none of taken. It
// jumps over what is taken, so it takes steps with the number of those, not with
// the size of r.
func firstFree(r netip.Prefix, bits int, taken []netip.Prefix) (netip.Prefix, bool) {
	p := netip.PrefixFrom(r.Addr(), bits)
	for netmap.Within(p, r) {
		blocker, ok := overlapping(p, taken)
		if !ok {
			return p, true
		}
		after := netmap.LastAddr(p)
		if blocker.Bits() < bits {
			after = netmap.LastAddr(blocker)
		}
		next := after.Next()
		if !next.IsValid() {
			break
		}
		p = netip.PrefixFrom(next, bits)
	}
	return netip.Prefix{}, false
}

// overlapping finds the largest of taken that overlaps p.
func overlapping(p netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	var found netip.Prefix
	for _, t := range taken {
		if t.Overlaps(p) && (!found.IsValid() || t.Bits() < found.Bits()) {
			found = t
		}
	}
	return found, found.IsValid()
}

// checkSubnet says why a prefix cannot be a subnet, or a range, of containers.
func checkSubnet(p netip.Prefix, what string) *netmap.Refusal {
	if !p.IsValid() {
		return netmap.Refuse(netmap.BadInput, "%s is missing or is not a prefix; want one such as 10.40.0.0/24", what)
	}
	if p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return netmap.Refuse(netmap.BadInput, "%s %s is neither plain IPv4 nor plain IPv6; want one such as 10.40.0.0/24 or fd40::/64", what, p)
	}
	if m := p.Masked(); m != p {
		return netmap.Refuse(netmap.BadInput, "%s %s has host bits set; did you mean %s?", what, p, m)
	}
	low, high := minV4, maxV4
	if p.Addr().Is6() {
		low, high = minV6, maxV6
	}
	switch {
	case p.Bits() > high:
		return netmap.Refuse(netmap.BadInput, "%s %s is too small for a gateway and a container; use /%d or larger", what, p, high)
	case p.Bits() < low:
		return netmap.Refuse(netmap.BadInput, "%s %s is too large; use /%d or smaller", what, p, low)
	}
	for _, bad := range unusable {
		if bad.Overlaps(p) {
			return netmap.Refuse(netmap.BadInput, "%s %s overlaps %s, which no container can use", what, p, bad)
		}
	}
	return nil
}

// unusable is space with a fixed meaning: this-network, loopback, link-local,
// multicast and reserved (RFC 6890).
var unusable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("::/32"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}
