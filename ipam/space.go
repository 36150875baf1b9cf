package ipam

import "net/netip"

// lastAddr is the greatest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		network := min(max(p.Bits()-8*i, 0), 8)
		b[i] |= byte(0xff >> network)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// edge reports whether an address of a subnet is never a container's: the network
// and broadcast address of IPv4, the subnet-router anycast address of IPv6
// (RFC 4291 §2.6.1).
func edge(a netip.Addr, subnet netip.Prefix) bool {
	return a == subnet.Addr() || a.Is4() && a == lastAddr(subnet)
}

// inside reports whether inner is part of outer.
func inside(inner, outer netip.Prefix) bool {
	return inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

// common is the part that two prefixes share; the zero Prefix if there is none.
func common(a, b netip.Prefix) netip.Prefix {
	switch {
	case inside(a, b):
		return a
	case inside(b, a):
		return b
	}
	return netip.Prefix{}
}

// size is the number of addresses of a prefix, at most 1<<62, so that two can be added.
func size(p netip.Prefix) uint64 {
	return 1 << min(p.Addr().BitLen()-p.Bits(), 62)
}
