package pool

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func subnet(p string, bits int) netmap.Subnet {
	return netmap.Subnet{Prefix: prefix(p), BlockBits: bits, Gateway: prefix(p).Addr().Next()}
}

// naive is the slow twin of Pool: a list of all addresses of the subnet.
type naive struct {
	subnet   netmap.Subnet
	blocks   []netip.Prefix
	held     map[netip.Addr]bool
	foreign  map[netip.Addr]bool
	claims   map[netip.Addr]bool // true: donated
	released []netip.Addr        // oldest first
	asked    map[netip.Addr]bool // by --ip, by whoever had it last
}

func (n *naive) mine(a netip.Addr) bool {
	_, claimed := n.claims[a]
	return claimed || !n.foreign[a] && n.inBlock(a)
}

func (n *naive) inBlock(a netip.Addr) bool {
	return slices.ContainsFunc(n.blocks, func(b netip.Prefix) bool { return b.Contains(a) })
}

func (n *naive) empty(block netip.Prefix) bool {
	return n.inBlock(block.Addr()) && !slices.ContainsFunc(slices.Collect(maps.Keys(n.held)), block.Contains)
}

func (n *naive) dynamic(a netip.Addr, within netip.Prefix) bool {
	owned := n.claims[a] || n.inBlock(a)
	return owned && !n.asked[a] && !n.foreign[a] && n.possible(a, within)
}

// possible is whether a container may have an address of this host's.
func (n *naive) possible(a netip.Addr, within netip.Prefix) bool {
	return within.Contains(a) && !n.held[a] &&
		a != n.subnet.Gateway && a != n.subnet.Prefix.Addr() && !(a.Is4() && a == netmap.LastAddr(n.subnet.Prefix)) &&
		!slices.Contains(n.reserved(), a)
}

func (n *naive) reserved() (out []netip.Addr) {
	for _, a := range n.subnet.Reserved {
		out = append(out, a)
	}
	return out
}

func (n *naive) all(f func(netip.Addr)) {
	for a := n.subnet.Prefix.Addr(); n.subnet.Prefix.Contains(a); a = a.Next() {
		f(a)
	}
}

// pick is the rule: the lowest unused one, else the one released longest ago.
func (n *naive) pick(within netip.Prefix) (best netip.Addr) {
	n.all(func(a netip.Addr) {
		if !best.IsValid() && n.dynamic(a, within) && !slices.Contains(n.released, a) {
			best = a
		}
	})
	for _, a := range n.released {
		if !best.IsValid() && n.dynamic(a, within) {
			best = a
		}
	}
	return best
}

// last is the rule where pick finds none: what was never used, else what was released
// longest ago, of all that is this host's.
func (n *naive) last(within netip.Prefix) (best netip.Addr) {
	if best = n.pick(within); best.IsValid() {
		return best
	}
	n.all(func(a netip.Addr) {
		if !best.IsValid() && n.mine(a) && n.possible(a, within) && !slices.Contains(n.released, a) {
			best = a
		}
	})
	for _, a := range n.released {
		if !best.IsValid() && n.mine(a) && n.possible(a, within) {
			best = a
		}
	}
	return best
}

func (n *naive) free(within netip.Prefix) (count uint64) {
	n.all(func(a netip.Addr) {
		if n.dynamic(a, within) {
			count++
		}
	})
	return count
}

// hold has a container hold an address.
func (n *naive) hold(a netip.Addr, asked bool) {
	n.drop(a)
	n.held[a], n.asked[a] = true, asked
}

func (n *naive) drop(a netip.Addr) {
	delete(n.asked, a)
	n.released = slices.DeleteFunc(n.released, func(r netip.Addr) bool { return r == a })
}

func TestPoolAgainstNaiveModel(t *testing.T) {
	for _, family := range []struct {
		subnet string
		bits   int
		ranges []string
	}{
		{"10.40.0.0/26", 29, []string{"10.40.0.0/26", "10.40.0.16/28", "10.40.0.20/31", "10.40.0.32/29"}},
		{"10.40.0.0/30", 31, []string{"10.40.0.0/30"}},
		{"fd00::/122", 125, []string{"fd00::/122", "fd00::10/124", "fd00::14/127"}},
	} {
		t.Run(family.subnet, rapid.MakeCheck(func(t *rapid.T) {
			s := subnet(family.subnet, family.bits)
			p := New(s)
			n := &naive{subnet: s, held: map[netip.Addr]bool{}, foreign: map[netip.Addr]bool{}, claims: map[netip.Addr]bool{}, asked: map[netip.Addr]bool{}}
			var addrs []netip.Addr
			n.all(func(a netip.Addr) { addrs = append(addrs, a) })
			anyAddr := rapid.SampledFrom(addrs)
			anyRange := rapid.Map(rapid.SampledFrom(family.ranges), prefix)
			t.Repeat(map[string]func(*rapid.T){
				"block": func(t *rapid.T) {
					b, _ := anyAddr.Draw(t, "in").Prefix(family.bits)
					p.AddBlock(netmap.Block{Prefix: b, Subnet: s.Prefix})
					if !slices.Contains(n.blocks, b) {
						n.blocks = append(n.blocks, b)
					}
				},
				"pick": func(t *rapid.T) {
					within := anyRange.Draw(t, "within")
					a, ok := p.Pick(within, "")
					if want := n.pick(within); a != want || ok != want.IsValid() {
						t.Fatalf("picked %v, want %v", a, want)
					}
					if ok {
						p.Hold(a, Use{})
						n.hold(a, false)
					}
				},
				"last resort": func(t *rapid.T) {
					within := anyRange.Draw(t, "within")
					a, ok := p.LastResort(within)
					if want := n.last(within); a != want || ok != want.IsValid() {
						t.Fatalf("found %v at last, want %v", a, want)
					}
					if ok {
						p.Hold(a, Use{})
						n.hold(a, false)
					}
				},
				"static": func(t *rapid.T) {
					a := anyAddr.Draw(t, "addr")
					if p.Owns(a) != n.mine(a) {
						t.Fatalf("%s is mine: %v", a, p.Owns(a))
					}
					if n.mine(a) && !n.held[a] && !p.Unusable(a) {
						p.Hold(a, Use{Asked: true})
						n.hold(a, true)
					}
				},
				"release": func(t *rapid.T) {
					a := anyAddr.Draw(t, "addr")
					if n.held[a] {
						p.Release(a, Use{Seq: p.NextSeq(), Asked: n.asked[a]})
						delete(n.held, a)
						n.released = append(n.released, a)
					}
				},
				"cede": func(t *rapid.T) {
					a := anyAddr.Draw(t, "addr")
					if n.mine(a) && !n.held[a] {
						p.Forsake(a, netmap.HostID{9})
						delete(n.claims, a)
						if n.inBlock(a) {
							n.foreign[a] = true
						} else {
							n.drop(a)
						}
					}
				},
				"claim": func(t *rapid.T) {
					a := anyAddr.Draw(t, "addr")
					donated := rapid.Bool().Draw(t, "donated")
					if !p.Unusable(a) {
						p.AddClaim(Claim{Claim: netmap.Claim{Addr: a, Subnet: s.Prefix}, Donated: donated})
						n.claims[a] = donated
						if (n.foreign[a] || donated) && !n.held[a] && !slices.Contains(n.released, a) {
							n.released = append(n.released, a)
						}
						delete(n.foreign, a)
					}
				},
				"unclaim": func(t *rapid.T) {
					a := anyAddr.Draw(t, "addr")
					if _, claimed := n.claims[a]; claimed && !n.held[a] {
						p.DropClaim(a)
						delete(n.claims, a)
						if !n.inBlock(a) {
							n.drop(a)
						}
					}
				},
				"return": func(t *rapid.T) {
					b, _ := anyAddr.Draw(t, "in").Prefix(family.bits)
					if p.Empty(b) != n.empty(b) {
						t.Fatalf("%s is empty: %v", b, p.Empty(b))
					}
					if !n.empty(b) {
						return
					}
					p.Withdraw(b)
					if rapid.Bool().Draw(t, "the disk fails") {
						p.AddBlock(netmap.Block{Prefix: b, Subnet: s.Prefix})
						return
					}
					p.DropBlock(b)
					n.blocks = slices.DeleteFunc(n.blocks, func(o netip.Prefix) bool { return o == b })
					maps.DeleteFunc(n.foreign, func(a netip.Addr, _ bool) bool { return b.Contains(a) })
					for _, a := range slices.Clone(n.released) {
						if _, claimed := n.claims[a]; b.Contains(a) && !claimed {
							n.drop(a)
						}
					}
				},
				"take back": func(t *rapid.T) {
					a := anyAddr.Draw(t, "addr")
					if n.foreign[a] {
						p.TakeBack(a, Use{Seq: p.NextSeq()})
						delete(n.foreign, a)
						n.drop(a)
						n.released = append(n.released, a)
					}
				},
				"reserve": func(t *rapid.T) {
					a := anyAddr.Draw(t, "addr")
					if n.held[a] || len(n.subnet.Reserved) > 3 {
						return
					}
					reserved := map[string]netip.Addr{a.String(): a}
					maps.Copy(reserved, n.subnet.Reserved)
					n.subnet.Reserved = reserved
					p.SetSubnet(n.subnet)
				},
				"": func(t *rapid.T) {
					within := anyRange.Draw(t, "free within")
					if got, want := p.Free(within), n.free(within); got != want {
						t.Fatalf("%d free within %s, want %d", got, within, want)
					}
					if n := rapid.Uint64Range(0, 40).Draw(t, "scarce"); p.Scarce(within, n) != (p.Free(within) < n) {
						t.Fatalf("%d free within %s: scarce below %d is %v", p.Free(within), within, n, p.Scarce(within, n))
					}
				},
			})
		}))
	}
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
