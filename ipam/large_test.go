package ipam

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
)

// used returns a pool of one block in which every address was handed out and released before, except
// some that belong to other hosts. The last ones were in use when this host stopped.
func used(block netip.Prefix, foreign, last int) *allocator {
	p := newAllocator(&env{}, subnetRecord{Subnet: netmap.Subnet{Prefix: netip.MustParsePrefix("10.0.0.0/8"), BlockBits: block.Bits(), Gateway: netip.MustParseAddr("10.0.0.1")}})
	p.AddBlock(netmap.Block{Prefix: block, Subnet: p.prefix})
	a := block.Addr()
	for n := range netmap.Size(block) {
		p.Release(a, pool.Use{Seq: p.NextSeq()})
		switch {
		case n < uint64(foreign):
			p.Forsake(a, netmap.HostID{1})
		case n >= netmap.Size(block)-uint64(last):
			p.last[a] = lastUse{held: n%2 == 0}
		}
		a = a.Next()
	}
	return p
}

// BenchmarkLargeBlock: handing out and releasing an address costs the same in a large block as in a
// small one, also with many addresses of other hosts in it.
func BenchmarkLargeBlock(b *testing.B) {
	for _, c := range []struct {
		block   string
		foreign int
	}{{"10.1.0.0/24", 0}, {"10.1.0.0/24", 100}, {"10.1.0.0/16", 0}, {"10.1.0.0/16", 10000}} {
		b.Run(fmt.Sprintf("%s,foreign=%d", c.block, c.foreign), func(b *testing.B) {
			p := used(netip.MustParsePrefix(c.block), c.foreign, 0)
			for b.Loop() {
				a, _, err := p.pick(p.prefix, "")
				if err != nil {
					b.Fatal(err)
				}
				p.Unlock(a)
				p.Hold(a, pool.Use{})
				p.Release(a, pool.Use{Seq: p.NextSeq()})
			}
		})
	}
}

// BenchmarkAfterABoot: an address that was in use when the host stopped is found as fast among many
// such addresses as among few.
func BenchmarkAfterABoot(b *testing.B) {
	for _, c := range []struct {
		block  string
		others int
	}{{"10.1.0.0/24", 10}, {"10.1.0.0/16", 10}, {"10.1.0.0/16", 10000}} {
		b.Run(fmt.Sprintf("%s,others=%d", c.block, c.others), func(b *testing.B) {
			p := used(netip.MustParsePrefix(c.block), 0, 100)
			facts := SubnetFacts{Decided: 1}
			for n := range c.others {
				facts.Others = append(facts.Others, netmap.Claim{Addr: netip.AddrFrom4([4]byte{10, 2, byte(n >> 8), byte(n)}), Epoch: 1})
			}
			p.cfg = Config{Facts: func(netip.Prefix) (SubnetFacts, bool) { return facts, true }}
			facts.Blocks = []netmap.Block{p.Blocks()[0].Block}
			for b.Loop() {
				a, ok := p.pickLast(p.prefix, "")
				if !ok {
					b.Fatal("none is found")
				}
				p.Unlock(a)
			}
		})
	}
}
