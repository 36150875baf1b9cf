package ipam

import (
	"net/netip"
	"strings"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// PoolID names a pool to Docker. It holds everything about the pool, so that an agent that lost
// its disk still understands the id that Docker stored.
type PoolID struct {
	Subnet netip.Prefix
	Range  netip.Prefix // --ip-range; zero if there is none
}

const poolScheme = "weft:"

// String returns the form that Docker stores: weft:SUBNET or weft:SUBNET,RANGE.
func (id PoolID) String() string {
	if !id.Range.IsValid() {
		return poolScheme + id.Subnet.String()
	}
	return poolScheme + id.Subnet.String() + "," + id.Range.String()
}

// ParsePoolID parses what String returns. The error is an *rpc.BadRequest.
func ParsePoolID(s string) (PoolID, error) {
	rest, ok := strings.CutPrefix(s, poolScheme)
	subnet, area, ranged := strings.Cut(rest, ",")
	var id PoolID
	var err error
	if id.Subnet, err = netip.ParsePrefix(subnet); err != nil || id.Subnet != id.Subnet.Masked() {
		ok = false
	}
	if ranged {
		if id.Range, err = netip.ParsePrefix(area); err != nil || id.Range != id.Range.Masked() || !netmap.Within(id.Range, id.Subnet) {
			ok = false
		}
	}
	if !ok {
		return PoolID{}, &rpc.BadRequest{Text: netmap.Refuse(netmap.BadInput, "PoolID %.100q is none of Weft's; want weft:SUBNET or weft:SUBNET,RANGE", s).Text}
	}
	return id, nil
}
