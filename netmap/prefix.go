package netmap

import (
	"maps"
	"net/netip"
	"slices"
)

// LastAddr is the greatest address of a prefix.
func LastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		network := min(max(p.Bits()-8*i, 0), 8) // bits of this byte
		b[i] |= byte(0xff >> network)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// IsEdge reports whether an address of a subnet is never a container's: the network and
// broadcast address of IPv4, the subnet-router anycast address of IPv6 (RFC 4291 §2.6.1).
func IsEdge(a netip.Addr, subnet netip.Prefix) bool {
	return a == subnet.Addr() || a.Is4() && a == LastAddr(subnet)
}

// Within reports whether inner is part of outer.
func Within(inner, outer netip.Prefix) bool {
	return inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

// Common is the part that two prefixes share; the zero Prefix if there is none.
func Common(a, b netip.Prefix) netip.Prefix {
	switch {
	case Within(a, b):
		return a
	case Within(b, a):
		return b
	}
	return netip.Prefix{}
}

// MaxSize is the greatest number of addresses that is told apart from more. Two of them can
// be added without overflow.
const MaxSize = 1 << 62

// Size is the number of addresses of a prefix, at most MaxSize.
func Size(p netip.Prefix) uint64 {
	return 1 << min(p.Addr().BitLen()-p.Bits(), 62)
}

// Single is the prefix of one address; the zero Prefix for the zero Addr.
func Single(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// SortedPrefixes are the keys of a map in ascending order.
func SortedPrefixes[V any](m map[netip.Prefix]V) []netip.Prefix {
	return slices.SortedFunc(maps.Keys(m), netip.Prefix.Compare)
}

// SortedAddrs are the keys of a map in ascending order.
func SortedAddrs[V any](m map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}
