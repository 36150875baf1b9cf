package pool

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/netmap"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func subnet(p string, bits int) netmap.Subnet {
	return netmap.Subnet{Prefix: prefix(p), BlockBits: bits, Gateway: prefix(p).Addr().Next()}
}

func TestReuseIsAsLateAsPossible(t *testing.T) {
	p := New(subnet("10.40.0.0/24", 29))
	p.AddBlock(netmap.Block{Prefix: prefix("10.40.0.8/29")})
	var order []netip.Addr
	for range 20 {
		a, ok := p.Pick(prefix("10.40.0.0/24"), "")
		if !ok {
			t.Fatal("nothing to pick")
		}
		order = append(order, a)
		p.Hold(a, Use{})
		p.Release(a, Use{Seq: p.NextSeq()})
	}
	for i := 8; i < len(order); i++ {
		if order[i] != order[i-8] {
			t.Errorf("pick %d is %s, want %s: the one released longest ago", i, order[i], order[i-8])
		}
	}
}

func TestAContainerGetsItsAddressBack(t *testing.T) {
	p := New(subnet("10.40.0.0/24", 28))
	p.AddBlock(netmap.Block{Prefix: prefix("10.40.0.16/28")})
	p.Hold(addr("10.40.0.16"), Use{Name: "web"})
	p.Release(addr("10.40.0.16"), Use{Name: "web", Seq: p.NextSeq()})
	if a, _ := p.Pick(prefix("10.40.0.0/24"), "other"); a != addr("10.40.0.17") {
		t.Errorf("another container got %s", a)
	}
	if a, _ := p.Pick(prefix("10.40.0.0/24"), "web"); a != addr("10.40.0.16") {
		t.Errorf("web got %s", a)
	}
	p.Hold(addr("10.40.0.16"), Use{Name: "thief"})
	p.Release(addr("10.40.0.16"), Use{Name: "thief", Seq: p.NextSeq()})
	if a, _ := p.Pick(prefix("10.40.0.0/24"), "web"); a != addr("10.40.0.17") {
		t.Errorf("web got %s, which was another's meanwhile", a)
	}
}

func TestHugeBlocksCostNothing(t *testing.T) {
	p := New(subnet("fd00::/32", 48))
	p.AddBlock(netmap.Block{Prefix: prefix("fd00::/48")})
	p.AddBlock(netmap.Block{Prefix: prefix("fd00:0:1::/48")})
	p.AddBlock(netmap.Block{Prefix: prefix("fd00:0:2::/48")})
	if free := p.Free(prefix("fd00::/32")); free < 1<<61 {
		t.Errorf("free %d", free)
	}
	for i := range 1000 {
		a, ok := p.Pick(prefix("fd00::/32"), "")
		if want := addr(fmt.Sprintf("fd00::%x", i+2)); !ok || a != want {
			t.Fatalf("pick %d is %s, want %s", i, a, want)
		}
		p.Hold(a, Use{})
	}
}

// TestHugeBlocksAreRememberedInPart: containers with ever new names come and go, and
// what is remembered of them stays bounded; an address comes back late all the same.
func TestHugeBlocksAreRememberedInPart(t *testing.T) {
	p := New(subnet("fd00::/48", 64))
	p.AddBlock(netmap.Block{Prefix: prefix("fd00::/64")})
	last := map[netip.Addr]int{}
	for i := range 2 * maxReleased {
		name := fmt.Sprint("container ", i)
		a, ok := p.Pick(prefix("fd00::/48"), name)
		if n, again := last[a]; !ok || again && i-n < maxReleased {
			t.Fatalf("pick %d is %s, which was pick %d", i, a, n)
		}
		last[a] = i
		p.Hold(a, Use{Name: name})
		p.Release(a, Use{Name: name, Seq: p.NextSeq()})
	}
	if len(p.marks) > maxReleased || len(p.byName) > maxReleased || len(p.cursors) > 1 {
		t.Errorf("%d addresses and %d names are remembered", len(p.marks), len(p.byName))
	}
}

func TestPickIsQuickInAFullPool(t *testing.T) {
	p := New(subnet("10.0.0.0/8", 16))
	p.AddBlock(netmap.Block{Prefix: prefix("10.1.0.0/16")})
	for range 65000 { // quadratic work would not end in this test's time
		a, _ := p.Pick(prefix("10.0.0.0/8"), "")
		p.Hold(a, Use{})
	}
	if free := p.Free(prefix("10.0.0.0/8")); free != 536 {
		t.Errorf("%d free", free)
	}
}
