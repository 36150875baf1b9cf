package state

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

// holdings is what a host has on its disk when it was told of every decision.
func holdings(s *State, id netmap.HostID) *DeclareHoldings {
	out := &DeclareHoldings{}
	for _, p := range netmap.SortedPrefixes(s.subnets) {
		sub := s.subnets[p]
		_, uses := sub.holders[id]
		if n := s.networkOf(p); n != nil && !uses { // an agent keeps the subnets of its networks
			_, uses = n.members[id]
		}
		if !uses {
			continue
		}
		h := Holding{Subnet: sub.Subnet}
		for _, b := range netmap.SortedPrefixes(sub.blocks) {
			if sub.blocks[b].Owner == id {
				h.Blocks = append(h.Blocks, sub.blocks[b])
			}
		}
		for _, a := range netmap.SortedAddrs(s.claims) {
			if c := s.claims[a]; c.Owner == id && c.Subnet == p {
				h.Claims = append(h.Claims, c)
			}
		}
		out.Holdings = append(out.Holdings, h)
	}
	for _, n := range s.sortedNetworks() {
		if _, member := n.members[id]; member {
			out.Networks = append(out.Networks, n.Network)
		}
	}
	return out
}

// past are the states of one ledger, oldest first, each a copy.
func past(rt *rapid.T, t testing.TB, steps int) []*State {
	c := newCluster(t, 4, "10.48.0.0/22")
	m := &naive{members: map[int]bool{1: true, 2: true, 3: true, 4: true}, gone: map[int]bool{}, owner: map[netip.Addr]int{}, ceded: map[netip.Addr]int{}, blocks: map[netip.Prefix]netmap.Block{}, holds: map[int]map[netip.Prefix]bool{1: {}, 2: {}, 3: {}, 4: {}}}
	out := []*State{clone(t, c.state)}
	for range steps {
		cmd, host := m.draw(rt)
		cmd.Host, cmd.Start, cmd.Nonce = hostID(host), 1, 7
		if r := c.do(cmd); r.Refusal == nil {
			m.learn(rt, host, cmd, r)
		}
		out = append(out, clone(t, c.state))
	}
	return out
}

func clone(t testing.TB, s *State) *State {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out, err := DecodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestARecoveredLedgerGivesNothingTwice: it goes on from any earlier state, with the
// facts of any later one or without a log at all; hosts declare what they hold in any
// order, and ask for more all the time. Whoever was not lost keeps what it holds.
func TestARecoveredLedgerGivesNothingTwice(t *testing.T) {
	forgotten, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		states := past(rt, t, rapid.IntRange(1, 40).Draw(rt, "steps"))
		end := states[len(states)-1]
		known := rapid.IntRange(0, len(states)-1).Draw(rt, "known")
		told := rapid.IntRange(known, len(states)-1).Draw(rt, "told")
		s := clone(t, states[known])
		if rapid.Bool().Draw(rt, "no log") {
			s = NewState()
			s.cluster, s.generation = clusterID, 1
		}
		s.adopt(states[told].Changes(), states[told].applied)
		var lost []netmap.HostID
		for n := 2; n <= 4; n++ {
			if rapid.IntRange(0, 3).Draw(rt, "lost") == 0 {
				lost = append(lost, hostID(n))
			}
		}
		s.Recover(clusterID, NextGeneration(1, 5), end.applied, 0, lost)
		if err := s.Verify(); err != nil {
			rt.Fatal(err)
		}
		c := &cluster{t: t, state: clone(t, s), index: s.applied}
		left := map[int]*DeclareHoldings{}
		for n := 1; n <= 4; n++ {
			if h := end.hosts[hostID(n)]; !h.Removed && !slices.Contains(lost, hostID(n)) {
				left[n] = holdings(end, hostID(n))
			}
		}
		for n := 1; n <= 4; n++ { // whose removal was forgotten is removed again by an operator
			if h := c.state.hosts[hostID(n)]; end.hosts[hostID(n)].Removed && h != nil {
				h.Removed = true
				(&step{State: c.state, index: c.index}).strip(hostID(n))
			}
		}
		if len(left) == 0 {
			return
		}
		order := rapid.Permutation([]int{1, 2, 3, 4}).Draw(rt, "order")
		for _, n := range order {
			for asker := 1; asker <= 4; asker++ { // all of them, all the time
				c.index++
				r, _ := c.state.Apply(c.index, Command{Kind: KindGrantBlock, Host: hostID(asker), Start: 1, Nonce: 7, GrantBlock: &GrantBlock{Subnet: pfx(modelSubnets[3])}})
				if len(left) > 0 && r.Refusal == nil && len(c.state.Undeclared()) > 0 {
					rt.Fatalf("host %d was given %v before all had declared what they hold", asker, r.Block)
				}
				if r.Refusal != nil {
					refused++
				}
			}
			declared, member := left[n]
			if !member {
				continue
			}
			r := c.do(Command{Kind: KindAdmit, Host: hostID(n), Start: 1, Nonce: 7, Admit: &Admit{Name: "h"}})
			if r.Refusal == nil {
				r = c.do(Command{Kind: KindDeclareHoldings, Host: hostID(n), Start: 1, Nonce: 7, DeclareHoldings: declared})
			}
			if r.Refusal != nil || r.Host.Removed {
				rt.Fatalf("host %d, which nobody said was off, is refused: %+v", n, r)
			}
		}
		if len(c.state.Undeclared()) > 0 {
			rt.Fatalf("not all have declared: %s", c.state.HostNames(c.state.Undeclared()))
		}
		for n, declared := range left {
			for _, w := range declared.Holdings {
				for _, b := range w.Blocks {
					if got := c.state.subnets[w.Subnet.Prefix].blocks[b.Prefix]; got.Owner != hostID(n) {
						rt.Fatalf("block %s of host %d is now of %s", b.Prefix, n, got.Owner.Short())
					}
					if sub := states[told].subnets[w.Subnet.Prefix]; sub == nil || sub.blocks[b.Prefix] != b {
						forgotten++
					}
				}
				for _, cl := range w.Claims {
					if got := c.state.claims[cl.Addr]; got.Owner != hostID(n) {
						rt.Fatalf("address %s of host %d is now of %s", cl.Addr, n, got.Owner.Short())
					}
				}
			}
		}
		for n, declared := range left {
			for _, w := range holdings(c.state, hostID(n)).Holdings {
				for _, b := range w.Blocks {
					if b.Epoch < c.state.recovered && !declared.names(b.Prefix) {
						rt.Fatalf("block %s is still of host %d, which does not hold it", b.Prefix, n)
					}
				}
				for _, cl := range w.Claims {
					if !declared.claims(cl.Addr) {
						rt.Fatalf("address %s is still of host %d, which does not hold it", cl.Addr, n)
					}
				}
			}
		}
		if err := c.state.Verify(); err != nil {
			rt.Fatal(err)
		}
	})
	if !testing.Short() && (forgotten == 0 || refused == 0) {
		t.Errorf("%d forgotten blocks came back, %d requests were refused: too few to prove anything", forgotten, refused)
	}
	t.Logf("%d forgotten blocks came back, %d requests were refused", forgotten, refused)
}

// TestWhoHoldsWhatIsAnothersIsNoMember: a word that was wrong, a host that nobody
// remembered, or one that went on with the old generation behind a cut.
func TestWhoHoldsWhatIsAnothersIsNoMember(t *testing.T) {
	block := func(owner int, epoch uint64) netmap.Block {
		return netmap.Block{Prefix: pfx("10.40.0.0/28"), Subnet: pfx(web), Owner: hostID(owner), Epoch: epoch}
	}
	claim := func(epoch uint64) netmap.Claim {
		return netmap.Claim{Addr: ip("10.40.0.7"), Subnet: pfx(web), Owner: hostID(2), Epoch: epoch}
	}
	subnet := netmap.Subnet{Prefix: pfx(web), BlockBits: 28}
	other := netmap.Network{ID: 99, Name: "other", VNI: 1 << 20, Subnets: subnets(web)}
	for name, tc := range map[string]struct {
		declare DeclareHoldings
		removed bool
	}{
		"nothing":                   {DeclareHoldings{}, false},
		"a free block":              {DeclareHoldings{Holdings: []Holding{{Subnet: subnet, Blocks: []netmap.Block{{Prefix: pfx("10.40.0.16/28"), Subnet: pfx(web), Epoch: 9}}}}}, false},
		"a block of another":        {DeclareHoldings{Holdings: []Holding{{Subnet: subnet, Blocks: []netmap.Block{block(2, 9)}}}}, true},
		"an address that was ceded": {DeclareHoldings{Holdings: []Holding{{Subnet: subnet, Claims: []netmap.Claim{claim(9)}}}}, false},
		"an address of a block that was granted since": {DeclareHoldings{Holdings: []Holding{{Subnet: subnet, Claims: []netmap.Claim{{Addr: ip("10.40.0.39"), Subnet: pfx(web), Epoch: 9}}}}}, true},
		"blocks of another size":                       {DeclareHoldings{Holdings: []Holding{{Subnet: netmap.Subnet{Prefix: pfx(web), BlockBits: 27}}}}, true},
		"an overlapping subnet":                        {DeclareHoldings{Holdings: []Holding{{Subnet: netmap.Subnet{Prefix: pfx("10.40.0.0/20"), BlockBits: 28}}}}, true},
		"another network's VNI":                        {DeclareHoldings{Holdings: []Holding{{Subnet: subnet}}, Networks: []netmap.Network{other}}, true},
	} {
		c := newCluster(t, 2)
		c.ok(Command{Kind: KindEnsureSubnet, Host: hostID(1), Start: 1, Nonce: 7, EnsureSubnet: &EnsureSubnet{Want: pfx(web), BlockBits: 28}})
		c.ok(Command{Kind: KindEnsureNetwork, Host: hostID(1), Start: 1, Nonce: 7, EnsureNetwork: &EnsureNetwork{Subnets: subnets(web)}})
		c.ok(Command{Kind: KindGrantBlock, Host: hostID(1), Start: 1, Nonce: 7, GrantBlock: &GrantBlock{Subnet: pfx(web)}})
		mine := holdings(c.state, hostID(1))
		c.state.Recover(clusterID, NextGeneration(1, 1), c.index, 0, nil)
		c.index = c.state.applied
		c.ok(Command{Kind: KindDeclareHoldings, Host: hostID(1), Start: 1, Nonce: 7, DeclareHoldings: mine})
		since := netmap.Block{Prefix: pfx("10.40.0.32/28"), Subnet: pfx(web), Owner: hostID(1), Epoch: c.state.recovered + 1}
		c.state.subnets[pfx(web)].blocks[since.Prefix] = since
		r := c.ok(Command{Kind: KindDeclareHoldings, Host: hostID(2), Start: 1, Nonce: 7, DeclareHoldings: &tc.declare})
		if r.Host.Removed != tc.removed {
			t.Errorf("%s: %+v", name, r.Host)
		}
		if got := c.state.subnets[pfx(web)].blocks[pfx("10.40.0.0/28")].Owner; got != hostID(1) {
			t.Errorf("%s: the block is now of %s", name, got.Short())
		}
	}
}

// TestAnAddressThatPassedOnIsItsNewHoldersWhoeverShowsFirst: the ledger remembers the
// holder of before, which holds it no more, and says so by not naming it.
func TestAnAddressThatPassedOnIsItsNewHoldersWhoeverShowsFirst(t *testing.T) {
	for _, order := range [][]int{{1, 2}, {2, 1}} {
		c := newCluster(t, 2)
		for n := 1; n <= 2; n++ {
			c.ok(Command{Kind: KindEnsureSubnet, Host: hostID(n), Start: 1, Nonce: 7, EnsureSubnet: &EnsureSubnet{Want: pfx(web), BlockBits: 28}})
		}
		c.ok(Command{Kind: KindClaim, Host: hostID(1), Start: 1, Nonce: 7, Claim: &Claim{Subnet: pfx(web), Addr: ip("10.40.0.7")}})
		remembered := clone(t, c.state)
		c.ok(Command{Kind: KindCede, Host: hostID(1), Start: 1, Nonce: 7, Cede: &Cede{Addr: ip("10.40.0.7"), To: hostID(2)}})
		declared := map[int]*DeclareHoldings{1: holdings(c.state, hostID(1)), 2: holdings(c.state, hostID(2))}
		remembered.Recover(clusterID, NextGeneration(1, 1), c.index, 0, nil)
		c.state, c.index = remembered, remembered.applied
		for _, n := range order {
			if r := c.ok(Command{Kind: KindDeclareHoldings, Host: hostID(n), Start: 1, Nonce: 7, DeclareHoldings: declared[n]}); r.Host.Removed {
				t.Errorf("%v: host %d is removed for what it holds", order, n)
			}
		}
		if got := c.state.claims[ip("10.40.0.7")].Owner; got != hostID(2) {
			t.Errorf("%v: the address is of host %s", order, got.Short())
		}
	}
}

func TestGenerationsGrow(t *testing.T) {
	if a, b := NextGeneration(1, 1<<31), NextGeneration(NextGeneration(1, 1<<31), 0); a <= 1 || b <= a {
		t.Error("generations do not grow", a, b)
	}
}

// TestAHostWithManyNetworksShowsThemAll: what it holds fits into one command, else a
// recovered ledger would wait for it for ever. So does which subnets it uses.
func TestAHostWithManyNetworksShowsThemAll(t *testing.T) {
	const many = 1000
	c := newCluster(t, 1)
	s, n := c.state, c.state.Applied()
	apply := func(cmd Command) Reply { // as a keeper does it, without the checks of a cluster
		t.Helper()
		n++
		cmd.Host, cmd.Start, cmd.Nonce = hostID(1), 1, 7
		b, err := EncodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if cmd, err = DecodeCommand(b); err != nil {
			t.Fatal(err)
		}
		r, _ := s.Apply(n, cmd)
		if r.Refusal != nil {
			t.Fatal(r.Refusal)
		}
		return r
	}
	var used []netip.Prefix
	for i := range many {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 48, byte(i / 32), byte(i * 8)}), 29)
		used = append(used, p)
		apply(ensure(1, p.String()))
		apply(networkOf(1, EnsureNetwork{Subnets: []netip.Prefix{p}, Name: fmt.Sprintf("a customer's network %d", i)}))
		for range 2 {
			apply(grant(1, p.String()))
		}
	}
	declared := holdings(s, hostID(1))
	s.Recover(clusterID, 2, n, 0, nil)
	n = s.Applied()
	apply(Command{Kind: KindDeclareHoldings, DeclareHoldings: declared})
	apply(Command{Kind: KindUseSubnets, UseSubnets: &UseSubnets{used}})
	apply(ensure(1, "10.99.0.0/24")) // something new is given out
	if len(s.subnets) != many+1 || len(s.networks) != many {
		t.Errorf("%d subnets, %d networks", len(s.subnets), len(s.networks))
	}
}
