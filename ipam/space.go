package ipam

import (
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// common is the part that two prefixes share; the zero Prefix if there is none.
func common(a, b netip.Prefix) netip.Prefix {
	switch {
	case netmap.Within(a, b):
		return a
	case netmap.Within(b, a):
		return b
	}
	return netip.Prefix{}
}

// size is the number of addresses of a prefix, at most 1<<62, so that two can be added.
func size(p netip.Prefix) uint64 {
	return 1 << min(p.Addr().BitLen()-p.Bits(), 62)
}
