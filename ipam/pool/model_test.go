package pool

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

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

// dropBlock forgets a block and what was released of it.
func (n *naive) dropBlock(b netip.Prefix) {
	n.blocks = slices.DeleteFunc(n.blocks, func(o netip.Prefix) bool { return o == b })
	maps.DeleteFunc(n.foreign, func(a netip.Addr, _ bool) bool { return b.Contains(a) })
	for _, a := range slices.Clone(n.released) {
		if _, claimed := n.claims[a]; b.Contains(a) && !claimed {
			n.drop(a)
		}
	}
}

func (n *naive) drop(a netip.Addr) {
	delete(n.asked, a)
	n.released = slices.DeleteFunc(n.released, func(r netip.Addr) bool { return r == a })
}

// twins are a pool and its naive model, which the same things happen to.
type twins struct {
	pool   *Pool
	naive  *naive
	addr   *rapid.Generator[netip.Addr]
	within *rapid.Generator[netip.Prefix]
	subnet netip.Prefix
	bits   int // of a block's prefix
}

// twinsOf has no block yet.
func twinsOf(s netmap.Subnet, ranges []string) *twins {
	n := &naive{subnet: s, held: map[netip.Addr]bool{}, foreign: map[netip.Addr]bool{}, claims: map[netip.Addr]bool{}, asked: map[netip.Addr]bool{}}
	var addrs []netip.Addr
	n.all(func(a netip.Addr) { addrs = append(addrs, a) })
	return &twins{
		pool: New(s), naive: n, subnet: s.Prefix, bits: s.BlockBits,
		addr: rapid.SampledFrom(addrs), within: rapid.Map(rapid.SampledFrom(ranges), prefix),
	}
}

func (w *twins) addBlock(t *rapid.T) {
	b, _ := w.addr.Draw(t, "in").Prefix(w.bits)
	w.pool.AddBlock(netmap.Block{Prefix: b, Subnet: w.subnet})
	if !slices.Contains(w.naive.blocks, b) {
		w.naive.blocks = append(w.naive.blocks, b)
	}
}

func (w *twins) pick(t *rapid.T) {
	within := w.within.Draw(t, "within")
	a, ok := w.pool.Pick(within, "")
	w.handedOut(t, a, ok, w.naive.pick(within))
}

func (w *twins) lastResort(t *rapid.T) {
	within := w.within.Draw(t, "within")
	a, ok := w.pool.LastResort(within)
	w.handedOut(t, a, ok, w.naive.last(within))
}

// handedOut checks which address the pool found, if any, and has a container hold it.
func (w *twins) handedOut(t *rapid.T, a netip.Addr, ok bool, want netip.Addr) {
	if a != want || ok != want.IsValid() {
		t.Fatalf("found %v, want %v", a, want)
	}
	if ok {
		w.pool.Hold(a, Use{})
		w.naive.hold(a, false)
	}
}

func (w *twins) static(t *rapid.T) {
	a := w.addr.Draw(t, "addr")
	if w.pool.Owns(a) != w.naive.mine(a) {
		t.Fatalf("%s is mine: %v", a, w.pool.Owns(a))
	}
	if w.naive.mine(a) && !w.naive.held[a] && !w.pool.Unusable(a) {
		w.pool.Hold(a, Use{Asked: true})
		w.naive.hold(a, true)
	}
}

func (w *twins) release(t *rapid.T) {
	a := w.addr.Draw(t, "addr")
	if w.naive.held[a] {
		w.pool.Release(a, Use{Seq: w.pool.NextSeq(), Asked: w.naive.asked[a]})
		delete(w.naive.held, a)
		w.naive.released = append(w.naive.released, a)
	}
}

func (w *twins) cede(t *rapid.T) {
	n, a := w.naive, w.addr.Draw(t, "addr")
	if !n.mine(a) || n.held[a] {
		return
	}
	w.pool.Forsake(a, netmap.HostID{9})
	delete(n.claims, a)
	if n.inBlock(a) {
		n.foreign[a] = true
	} else {
		n.drop(a)
	}
}

func (w *twins) claim(t *rapid.T) {
	n, a := w.naive, w.addr.Draw(t, "addr")
	donated := rapid.Bool().Draw(t, "donated")
	if w.pool.Unusable(a) {
		return
	}
	w.pool.AddClaim(Claim{Claim: netmap.Claim{Addr: a, Subnet: w.subnet}, Donated: donated})
	n.claims[a] = donated
	if (n.foreign[a] || donated) && !n.held[a] && !slices.Contains(n.released, a) {
		n.released = append(n.released, a)
	}
	delete(n.foreign, a)
}

func (w *twins) unclaim(t *rapid.T) {
	n, a := w.naive, w.addr.Draw(t, "addr")
	if _, claimed := n.claims[a]; claimed && !n.held[a] {
		w.pool.DropClaim(a)
		delete(n.claims, a)
		if !n.inBlock(a) {
			n.drop(a)
		}
	}
}

// returnBlock gives an empty block back, unless the disk fails.
func (w *twins) returnBlock(t *rapid.T) {
	n := w.naive
	b, _ := w.addr.Draw(t, "in").Prefix(w.bits)
	if w.pool.Empty(b) != n.empty(b) {
		t.Fatalf("%s is empty: %v", b, w.pool.Empty(b))
	}
	if !n.empty(b) {
		return
	}
	w.pool.Withdraw(b)
	if rapid.Bool().Draw(t, "the disk fails") {
		w.pool.AddBlock(netmap.Block{Prefix: b, Subnet: w.subnet})
		return
	}
	w.pool.DropBlock(b)
	n.dropBlock(b)
}

func (w *twins) takeBack(t *rapid.T) {
	n, a := w.naive, w.addr.Draw(t, "addr")
	if n.foreign[a] {
		w.pool.TakeBack(a, Use{Seq: w.pool.NextSeq()})
		delete(n.foreign, a)
		n.drop(a)
		n.released = append(n.released, a)
	}
}

func (w *twins) reserve(t *rapid.T) {
	n, a := w.naive, w.addr.Draw(t, "addr")
	if n.held[a] || len(n.subnet.Reserved) > 3 {
		return
	}
	reserved := map[string]netip.Addr{a.String(): a}
	maps.Copy(reserved, n.subnet.Reserved)
	n.subnet.Reserved = reserved
	w.pool.SetSubnet(n.subnet)
}

// alike checks that both have as much left.
func (w *twins) alike(t *rapid.T) {
	within := w.within.Draw(t, "free within")
	if got, want := w.pool.Free(within), w.naive.free(within); got != want {
		t.Fatalf("%d free within %s, want %d", got, within, want)
	}
	if n := rapid.Uint64Range(0, 40).Draw(t, "scarce"); w.pool.Scarce(within, n) != (w.pool.Free(within) < n) {
		t.Fatalf("%d free within %s: scarce below %d is %v", w.pool.Free(within), within, n, w.pool.Scarce(within, n))
	}
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
			w := twinsOf(subnet(family.subnet, family.bits), family.ranges)
			t.Repeat(map[string]func(*rapid.T){
				"block": w.addBlock, "pick": w.pick, "last resort": w.lastResort, "static": w.static, "release": w.release,
				"cede": w.cede, "claim": w.claim, "unclaim": w.unclaim, "return": w.returnBlock, "take back": w.takeBack,
				"reserve": w.reserve, "": w.alike,
			})
		}))
	}
}
