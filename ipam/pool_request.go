package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// poolAsk is a PoolRequest that was checked.
type poolAsk struct {
	SubnetRequest
	bits BlockBits // of both families: Docker passes --ipam-opt to the pool of each
}

func bad(format string, args ...any) error {
	return &rpc.BadRequest{Text: "ipam: " + fmt.Sprintf(format, args...)}
}

// parsePool checks a PoolRequest.
func parsePool(r PoolRequest) (poolAsk, error) {
	ask := poolAsk{SubnetRequest: SubnetRequest{V6: r.V6}}
	if r.AddressSpace != rpc.AddressSpace {
		return ask, bad("AddressSpace is %.50q, want %q, the only one that Weft offers", r.AddressSpace, rpc.AddressSpace)
	}
	var err error
	if r.Pool != "" {
		if ask.Want, err = parsePrefix("subnet", r.Pool); err != nil {
			return ask, err
		}
		if r.V6 && ask.Want.Addr().Is4() {
			return ask, bad("subnet %s is IPv4, want IPv6", ask.Want)
		}
		ask.V6 = ask.Want.Addr().Is6()
	}
	if r.SubPool != "" {
		if ask.Range, err = parsePrefix("ip-range", r.SubPool); err != nil {
			return ask, err
		}
		if !ask.Want.IsValid() || !netmap.Within(ask.Range, ask.Want) {
			return ask, bad("ip-range %s is not inside subnet %q; give a --subnet that contains it", ask.Range, r.Pool)
		}
	}
	bits, err := parseOptions(r.Options)
	ask.bits, ask.BlockBits = bits, bits.of(ask.V6)
	return ask, err
}

func parsePrefix(what, s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, bad("%s %.100q is no prefix; want one such as 10.40.0.0/16", what, s)
	}
	return p.Masked(), nil
}

// BlockBits are the prefix lengths of blocks that a user asked for; 0 = none.
type BlockBits struct{ V4, V6 int }

func (b BlockBits) of(v6 bool) int {
	if v6 {
		return b.V6
	}
	return b.V4
}

// checkFamilies refuses a block size for a family that the network has no subnet of.
func (b BlockBits) checkFamilies(subnets []netip.Prefix) error {
	for _, v6 := range []bool{false, true} {
		has := slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Addr().Is6() == v6 })
		if bits := b.of(v6); bits != 0 && !has {
			family := map[bool]string{false: "IPv4", true: "IPv6"}[v6]
			return bad("weft.block=/%d is a size of %s blocks, and the network has no %s subnet; its subnets are %v", bits, family, family, subnets)
		}
	}
	return nil
}

// ParseBlockBits reads the value of weft.block: /24, or /24,/112 for both families.
// Up to /32 it is about IPv4, beyond about IPv6.
func ParseBlockBits(s string) (b BlockBits, err error) {
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimPrefix(part, "/"))
		switch {
		case err != nil || n < 8 || n > 128 || !strings.HasPrefix(part, "/"):
			return BlockBits{}, fmt.Errorf("weft.block is %.50q; want a prefix length such as /24, or /24,/112 for IPv4 and IPv6", s)
		case n <= 32:
			b.V4 = n
		default:
			b.V6 = n
		}
	}
	return b, nil
}

// parseOptions reads --ipam-opt. It ignores options that are not of Weft.
func parseOptions(opts map[string]string) (b BlockBits, err error) {
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		switch {
		case k == optBlock:
			if b, err = ParseBlockBits(opts[k]); err != nil {
				return b, bad("%v", err)
			}
		case strings.HasPrefix(k, ownOptions):
			return b, bad("unknown --ipam-opt %.50q; known: %s", k, knownOptions)
		}
	}
	return b, nil
}
