package state

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/netmap"
)

func sized(host int, subnet string, bits int) Command {
	return Command{Kind: KindEnsureSubnet, Host: hostID(host), EnsureSubnet: &EnsureSubnet{Want: pfx(subnet), BlockBits: bits}}
}

// TestTheCreatorMayStillChooseBlockSizes: the sole holder, while there are neither
// blocks nor a network.
func TestTheCreatorMayStillChooseBlockSizes(t *testing.T) {
	const subnet = "10.40.0.0/24" // blocks of /28 by itself
	grantTo := func(host int) Command {
		return Command{Kind: KindGrantBlock, Host: hostID(host), GrantBlock: &GrantBlock{Subnet: pfx(subnet)}}
	}
	release := func(host int) Command {
		return Command{Kind: KindUseSubnets, Host: hostID(host), UseSubnets: &UseSubnets{}}
	}
	for name, c := range map[string]struct {
		before []Command
		bits   int
		want   netmap.RefusalKind // empty: it may
		host   int
	}{
		"nothing was done with it":      {bits: 26, host: 1},
		"smaller ones":                  {bits: 30, host: 1},
		"one block":                     {bits: 24, host: 1},
		"one address each":              {bits: 32, host: 1},
		"changed before":                {before: []Command{sized(1, subnet, 26)}, bits: 30, host: 1},
		"the other holder has left":     {before: []Command{ensure(2, subnet), release(2)}, bits: 26, host: 1},
		"a reservation is no hindrance": {before: []Command{{Kind: KindReserve, Host: hostID(1), Reserve: &Reserve{Subnet: pfx(subnet), Name: Gateway}}}, bits: 26, host: 1},
		"larger than the subnet":        {bits: 23, host: 1, want: netmap.BadInput},
		"no size at all":                {bits: 33, host: 1, want: netmap.BadInput},
		"negative":                      {bits: -1, host: 1, want: netmap.BadInput},
		"by another host":               {bits: 26, host: 2, want: netmap.Conflict},
		"with another holder":           {before: []Command{ensure(2, subnet)}, bits: 26, host: 1, want: netmap.Conflict},
		"after a grant":                 {before: []Command{grantTo(1)}, bits: 26, host: 1, want: netmap.Conflict},
		"with a network": {
			before: []Command{networkOf(1, EnsureNetwork{Subnets: []netip.Prefix{pfx(subnet)}})}, bits: 26, host: 1, want: netmap.Conflict,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 2)
			cl.ok(ensure(1, subnet))
			for _, cmd := range c.before {
				cl.ok(cmd)
			}
			if c.want != "" {
				cl.refused(sized(c.host, subnet, c.bits), c.want)
				return
			}
			if got := cl.ok(sized(c.host, subnet, c.bits)).Subnet.BlockBits; got != c.bits {
				t.Errorf("blocks of /%d, want /%d", got, c.bits)
			}
			if got := cl.ok(grantTo(c.host)).Block.Prefix.Bits(); got != c.bits {
				t.Errorf("granted a /%d, want /%d", got, c.bits)
			}
			cl.refused(sized(c.host, subnet, 29), netmap.Conflict, "weft.block") // there is one now
		})
	}
}

// TestOldBlocksOfAnotherSizeAreForgotten: a block that was returned before the size
// changed must not come back in its old size.
func TestOldBlocksOfAnotherSizeAreForgotten(t *testing.T) {
	c := newCluster(t, 1)
	c.ok(ensure(1, "10.40.0.0/24"))
	b := c.ok(Command{Kind: KindGrantBlock, Host: hostID(1), GrantBlock: &GrantBlock{Subnet: pfx("10.40.0.0/24")}}).Block
	c.ok(Command{Kind: KindReturnBlock, Host: hostID(1), ReturnBlock: &ReturnBlock{Block: b.Prefix, Epoch: b.Epoch}})
	c.ok(sized(1, "10.40.0.0/24", 26))
	seen := map[netip.Prefix]bool{}
	for range 4 {
		got := c.ok(Command{Kind: KindGrantBlock, Host: hostID(1), GrantBlock: &GrantBlock{Subnet: pfx("10.40.0.0/24")}}).Block.Prefix
		if got.Bits() != 26 || seen[got] {
			t.Errorf("granted %s after %v", got, seen)
		}
		seen[got] = true
	}
}
