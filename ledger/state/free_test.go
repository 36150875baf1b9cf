package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

// naiveFree lists the free blocks of an area, in the order in which they are granted, by looking
// at every block of it.
func naiveFree(s *State, sub *subnet, area netip.Prefix) []netip.Prefix {
	var fresh, used []netip.Prefix
	p := netip.PrefixFrom(area.Addr(), sub.BlockBits).Masked()
	for ok := true; ok && p.Overlaps(area); p, ok = nextPrefix(p) {
		_, owned := sub.blocks[p]
		_, before := sub.freed[p]
		switch {
		case owned || naiveFull(s, sub, p):
		case before:
			used = append(used, p)
		default:
			fresh = append(fresh, p)
		}
	}
	slices.SortStableFunc(used, func(a, b netip.Prefix) int { return cmp.Compare(sub.freed[a], sub.freed[b]) })
	return append(fresh, used...)
}

func naiveFull(s *State, sub *subnet, p netip.Prefix) bool {
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		if _, claimed := s.claims[a]; !claimed && !netmap.IsEdge(a, sub.Prefix) && !sub.reserves(a) {
			return false
		}
	}
	return true
}

// checkFreeBlocks compares the tree of each subnet with the naive search and with a tree that is
// built anew, as a keeper does that starts from a snapshot.
func checkFreeBlocks(t interface{ Fatalf(string, ...any) }, s *State) {
	for _, p := range netmap.SortedPrefixes(s.subnets) {
		sub := s.subnets[p]
		kept := s.freeIn(sub)
		sub.free = nil
		anew := s.freeIn(sub)
		if diff := gocmp.Diff(anew.nodes, kept.nodes, exact, gocmp.AllowUnexported(node{})) + gocmp.Diff(anew.claimed, kept.claimed, exact); diff != "" {
			t.Fatalf("%s: the tree differs from one that is built anew:\n%s", p, diff)
		}
		sub.free = kept
		low, high := halve(p)
		for _, area := range []netip.Prefix{p, low, high, netip.PrefixFrom(high.Addr(), p.Addr().BitLen())} {
			want := naiveFree(s, sub, area)
			got, ok := kept.block(area)
			if open, _ := kept.count(area); ok != (len(want) > 0) || ok && got != want[0] || int(open) != len(want) {
				t.Fatalf("%s: found %s (%v) of %d in %s, want %v", p, got, ok, open, area, want)
			}
		}
	}
}

// TestFreeBlocksAgainstTheNaiveSearch grants, returns and claims in a subnet of many small blocks.
// TestAgainstNaiveModel checks the same after every kind of command.
func TestFreeBlocksAgainstTheNaiveSearch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t, 1)
		const subnet = "10.40.0.0/25"
		c.ok(sized(1, subnet, rapid.IntRange(29, 32).Draw(rt, "block bits")))
		var blocks []netmap.Block
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			addr := pfx(subnet).Addr()
			for range rapid.IntRange(0, 127).Draw(rt, "addr") {
				addr = addr.Next()
			}
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0, 1:
				g := grant(1, subnet)
				g.GrantBlock.Within = netip.PrefixFrom(addr, rapid.IntRange(25, 32).Draw(rt, "area")).Masked()
				g.GrantBlock.Count = rapid.IntRange(0, 20).Draw(rt, "count")
				blocks = append(blocks, c.do(g).Blocks...)
			case 2:
				if len(blocks) > 0 {
					i := rapid.IntRange(0, len(blocks)-1).Draw(rt, "which")
					c.ok(Command{Kind: KindReturnBlock, Host: hostID(1), ReturnBlock: &ReturnBlock{Block: blocks[i].Prefix, Epoch: blocks[i].Epoch}})
					blocks = slices.Delete(blocks, i, i+1)
				}
			case 3:
				c.do(claimOf(1, subnet, addr.String()))
			case 4:
				c.do(reserveOf(1, subnet, fmt.Sprint(addr), addr.String()))
			case 5:
				want := naiveTop(c.state, c.state.subnets[pfx(subnet)])
				if r := c.do(hostClaim(1, subnet)); r.Refusal == nil && r.Claim.Addr != want {
					rt.Fatalf("the host gets %s, want %s", r.Claim.Addr, want)
				}
			}
			checkFreeBlocks(rt, c.state)
		}
	})
}

// naiveTop finds the highest address that nobody has, nor had until lately, by a look at every one
// of the subnet.
func naiveTop(s *State, sub *subnet) netip.Addr {
	for a := netmap.LastAddr(sub.Prefix); sub.Prefix.Contains(a); a = a.Prev() {
		_, owned := sub.blockAt(a)
		_, claimed := s.claims[a]
		_, late := sub.late[a]
		if !owned && !claimed && !late && !netmap.IsEdge(a, sub.Prefix) && !sub.reserves(a) {
			return a
		}
	}
	return netip.Addr{}
}

func hostClaim(host int, subnet string) Command {
	return Command{Kind: KindClaim, Host: hostID(host), Claim: &Claim{Subnet: pfx(subnet), Host: true}}
}

// TestAHostsOwnAddressComesFromTheTop, as long as there is enough for containers, and none is given
// again soon.
func TestAHostsOwnAddressComesFromTheTop(t *testing.T) {
	c := crowd(t, 4, web)
	for h, want := range []string{"10.40.0.254", "10.40.0.253"} {
		if r := c.apply(hostClaim(h+1, web)); r.Refusal != nil || r.Claim.Addr.String() != want {
			t.Errorf("host %d: %+v, want %s", h+1, r, want)
		}
	}
	first := c.state.claims[ip("10.40.0.254")]
	c.apply(Command{Kind: KindUnclaim, Host: hostID(1), Unclaim: &Unclaim{Addr: first.Addr, Epoch: first.Epoch}})
	if r := c.apply(hostClaim(3, web)); r.Refusal != nil || r.Claim.Addr.String() != "10.40.0.252" {
		t.Errorf("after a return: %+v", r)
	}
	for given := true; given; {
		given = c.apply(grant(4, web)).Refusal == nil
	}
	if r := c.apply(hostClaim(1, web)); r.Refusal == nil || r.Refusal.Kind != netmap.Exhausted || !strings.Contains(r.Refusal.Text, "kept for containers") {
		t.Errorf("where blocks are scarce: %+v", r)
	}
	checkFreeBlocks(t, c.state)
}

// crowd is a cluster in which many hosts use one subnet.
func crowd(t testing.TB, hosts int, subnet string) *cluster {
	c := &cluster{t: t, state: NewState()}
	c.apply(Command{Kind: KindFound, Host: hostID(1), Found: &Found{Cluster: clusterID, Ranges: []netip.Prefix{pfx("10.32.0.0/12")}}})
	for h := 1; h <= hosts; h++ {
		c.apply(Command{Kind: KindAdmit, Host: hostID(h), Admit: &Admit{Name: fmt.Sprint("host-", h)}})
		c.apply(Command{Kind: KindEnsureSubnet, Host: hostID(h), EnsureSubnet: &EnsureSubnet{Want: pfx(subnet)}})
	}
	c.apply(reserveOf(1, subnet, Gateway, ""))
	return c
}

// apply applies a command without the checks of do, which look at the whole state.
func (c *cluster) apply(cmd Command) Reply {
	c.t.Helper()
	c.index++
	cmd.Start, cmd.Nonce = 1, 7
	if cmd.Kind == KindFound {
		cmd.Start, cmd.Nonce = 0, 0
	}
	r, _ := c.state.Apply(c.index, cmd)
	return r
}

// needs asks for an address as a host does for a container: for blocks, then for a single
// address. It returns the addresses that the host may hand out from then on.
func (c *cluster) needs(h int, subnet string, count int) (out []netip.Addr) {
	g := grant(h, subnet)
	g.GrantBlock.Count = count
	r := c.apply(g)
	if r.Refusal != nil {
		r = c.apply(Command{Kind: KindClaim, Host: hostID(h), Claim: &Claim{Subnet: pfx(subnet)}})
		if r.Refusal == nil {
			out = append(out, r.Claim.Addr)
		}
		return out
	}
	s := c.state.subnets[pfx(subnet)]
	for _, b := range r.Blocks {
		for a := b.Prefix.Addr(); b.Prefix.Contains(a); a = a.Next() {
			taken := slices.ContainsFunc(r.Claims, func(c netmap.Claim) bool { return c.Addr == a })
			if _, own := c.state.claims[a]; !taken && !own && !netmap.IsEdge(a, s.Prefix) && !s.reserves(a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// TestADefaultSubnetTakesAThousandHosts: each gets addresses of its own, without asking another
// host, and all of the subnet can be used.
func TestADefaultSubnetTakesAThousandHosts(t *testing.T) {
	const subnet, hosts = "10.32.0.0/20", 1000
	c := crowd(t, hosts, subnet)
	owner := map[netip.Addr]int{}
	for round := range 50 {
		before := len(owner)
		for h := 1; h <= hosts; h++ {
			got := c.needs(h, subnet, 16)
			if round == 0 && len(got) == 0 {
				t.Fatalf("host %d gets no address", h)
			}
			for _, a := range got {
				if o, twice := owner[a]; twice {
					t.Fatalf("host %d gets %s, which host %d has", h, a, o)
				}
				owner[a] = h
			}
		}
		if len(owner) == before {
			break
		}
	}
	if len(owner) != 4096-3 {
		t.Errorf("%d addresses were given out of 4093", len(owner))
	}
	checkFreeBlocks(t, c.state)
}

// TestALargeSubnetTakesFiftyThousandByBlocks: no host of a thousand gets single addresses.
func TestALargeSubnetTakesFiftyThousandByBlocks(t *testing.T) {
	const subnet, hosts, each = "10.36.0.0/14", 1000, 50
	c := crowd(t, hosts, subnet)
	for h := 1; h <= hosts; h++ {
		got := 0
		for got < each {
			g := c.apply(grant(h, subnet))
			if g.Refusal != nil {
				t.Fatalf("host %d has %d addresses: %v", h, got, g.Refusal)
			}
			got += int(netmap.Size(g.Block.Prefix))
		}
	}
}

// TestTheDefaultRangeHoldsTwoHundredNetworks, none of which names a subnet.
func TestTheDefaultRangeHoldsTwoHundredNetworks(t *testing.T) {
	c := newCluster(t, 1)
	for n := range 200 {
		if r := c.apply(Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{}}); r.Refusal != nil || r.Subnet.Prefix.Bits() != 20 {
			t.Fatalf("network %d: %+v", n, r)
		}
	}
}

// TestTheLastAddressGoesToAHostWithoutABlock: every other one is in a block of others, or given
// out by itself.
func TestTheLastAddressGoesToAHostWithoutABlock(t *testing.T) {
	c := crowd(t, 2, web)
	given := 0
	for given < 256-3-1 {
		got := c.needs(1, web, 1)
		if len(got) == 0 {
			t.Fatalf("host 1 has %d addresses", given)
		}
		given += len(got)
	}
	last := c.needs(2, web, 1)
	if len(last) != 1 {
		t.Fatalf("the host without a block gets %v", last)
	}
	if again := c.needs(1, web, 1); len(again) != 0 {
		t.Errorf("and then there is %v", again)
	}
}

// TestAskingAheadLeavesTheLastBlocks to hosts that have none.
func TestAskingAheadLeavesTheLastBlocks(t *testing.T) {
	c := crowd(t, 2, web) // 64 blocks
	ahead := grant(1, web)
	ahead.GrantBlock.Ahead = true
	got := 0
	for c.apply(ahead).Refusal == nil {
		got++
	}
	if got != 58 {
		t.Errorf("asking ahead got %d blocks of 64, want all but a tenth", got)
	}
	if r := c.apply(grant(1, web)); r.Refusal == nil || r.Refusal.Kind != netmap.Exhausted {
		t.Errorf("a host that has blocks gets %+v", r)
	}
	if r := c.apply(grant(2, web)); r.Refusal != nil {
		t.Errorf("a host without blocks: %v", r.Refusal)
	}
}

// TestAHostGetsFewerBlocksWhereManyWantSome: several at once only while twice as many are left for each.
func TestAHostGetsFewerBlocksWhereManyWantSome(t *testing.T) {
	for hosts, want := range map[int]int{1: 16, 32: 16, 100: 5, 1000: 1} {
		c := crowd(t, hosts, "10.32.0.0/20")
		g := grant(1, "10.32.0.0/20")
		g.GrantBlock.Count = 16
		if got := c.apply(g).Blocks; len(got) != want {
			t.Errorf("of %d hosts one gets %d blocks, want %d", hosts, len(got), want)
		}
		if hosts == 1000 {
			g.GrantBlock.Ahead = true
			if r := c.apply(g); r.Refusal == nil {
				t.Errorf("asked ahead and got %v", r.Blocks)
			}
		}
	}
}

// BenchmarkFreeBlock finds a free block where a thousand are owned, by the tree and by looking
// at every block.
func BenchmarkFreeBlock(b *testing.B) {
	for _, owned := range []int{100, 1000, 4000} {
		const subnet = "10.36.0.0/14"
		c := crowd(b, 1, subnet)
		for range owned {
			c.apply(grant(1, subnet))
		}
		s := c.state.subnets[pfx(subnet)]
		b.Run(fmt.Sprint("tree/", owned), func(b *testing.B) {
			f := c.state.freeIn(s)
			for b.Loop() {
				p, _ := f.block(s.Prefix)
				f.update(s, p)
			}
		})
		b.Run(fmt.Sprint("naive/", owned), func(b *testing.B) {
			for b.Loop() {
				naiveFree(c.state, s, s.Prefix)
			}
		})
	}
}
