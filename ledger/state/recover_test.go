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

// recovery is a ledger that was recovered from an earlier state, without hosts that were lost.
type recovery struct {
	*cluster
	rt    *rapid.T
	end   *State                   // as it was before
	told  *State                   // what facts tell of it
	kept  map[int]*DeclareHoldings // what each host that was not lost holds
	tally *recoveries
}

// recoveries counts what happened in many of them.
type recoveries struct{ forgotten, refused int }

// recovered draws one: its log ends at any state or is not there, and the facts are of any
// later state.
func recovered(t *testing.T, rt *rapid.T, tally *recoveries) *recovery {
	states := past(rt, t, rapid.IntRange(1, 40).Draw(rt, "steps"))
	known := rapid.IntRange(0, len(states)-1).Draw(rt, "known")
	told := rapid.IntRange(known, len(states)-1).Draw(rt, "told")
	r := &recovery{rt: rt, end: states[len(states)-1], told: states[told], kept: map[int]*DeclareHoldings{}, tally: tally}
	s := clone(t, states[known])
	if rapid.Bool().Draw(rt, "no log") {
		s = NewState()
		s.cluster, s.generation = clusterID, 1
	}
	s.adopt(r.told.Changes(), r.told.applied)
	var lost []netmap.HostID
	for n := 2; n <= 4; n++ {
		if rapid.IntRange(0, 3).Draw(rt, "lost") == 0 {
			lost = append(lost, hostID(n))
		}
	}
	s.Recover(clusterID, NextGeneration(1, 5), r.end.applied, 0, lost)
	if err := s.Verify(); err != nil {
		rt.Fatal(err)
	}
	r.cluster = &cluster{t: t, state: clone(t, s), index: s.applied}
	for n := 1; n <= 4; n++ {
		if h := r.end.hosts[hostID(n)]; !h.Removed && !slices.Contains(lost, hostID(n)) {
			r.kept[n] = holdings(r.end, hostID(n))
		}
	}
	return r
}

// removeAgain has an operator remove the hosts whose removal was forgotten.
func (r *recovery) removeAgain() {
	for n := 1; n <= 4; n++ {
		if h := r.state.hosts[hostID(n)]; r.end.hosts[hostID(n)].Removed && h != nil {
			h.Removed = true
			(&step{State: r.state, index: r.index}).strip(hostID(n))
		}
	}
}

// allAsk has every host ask for a block, which nobody gets before all have declared what they hold.
func (r *recovery) allAsk() {
	for asker := 1; asker <= 4; asker++ {
		r.index++
		got, _ := r.state.Apply(r.index, Command{Kind: KindGrantBlock, Host: hostID(asker), Start: 1, Nonce: 7, GrantBlock: &GrantBlock{Subnet: pfx(modelSubnets[3])}})
		if got.Refusal == nil && len(r.state.Undeclared()) > 0 {
			r.rt.Fatalf("host %d was given %v before all had declared what they hold", asker, got.Block)
		}
		if got.Refusal != nil {
			r.tally.refused++
		}
	}
}

// returns has a host join again and declare what it holds, if it was not lost.
func (r *recovery) returns(n int) {
	declared, member := r.kept[n]
	if !member {
		return
	}
	got := r.do(Command{Kind: KindAdmit, Host: hostID(n), Start: 1, Nonce: 7, Admit: &Admit{Name: "h"}})
	if got.Refusal == nil {
		got = r.do(Command{Kind: KindDeclareHoldings, Host: hostID(n), Start: 1, Nonce: 7, DeclareHoldings: declared})
	}
	if got.Refusal != nil || got.Host.Removed {
		r.rt.Fatalf("host %d, which nobody said was off, is refused: %+v", n, got)
	}
}

// keepsAll checks that a host owns all that it held.
func (r *recovery) keepsAll(n int) {
	for _, w := range r.kept[n].Holdings {
		for _, b := range w.Blocks {
			if got := r.state.subnets[w.Subnet.Prefix].blocks[b.Prefix]; got.Owner != hostID(n) {
				r.rt.Fatalf("block %s of host %d is now of %s", b.Prefix, n, got.Owner.Short())
			}
			if sub := r.told.subnets[w.Subnet.Prefix]; sub == nil || sub.blocks[b.Prefix] != b {
				r.tally.forgotten++
			}
		}
		for _, cl := range w.Claims {
			if got := r.state.claims[cl.Addr]; got.Owner != hostID(n) {
				r.rt.Fatalf("address %s of host %d is now of %s", cl.Addr, n, got.Owner.Short())
			}
		}
	}
}

// ownsNoMore checks that a host owns nothing that it did not hold, but for what it got since.
func (r *recovery) ownsNoMore(n int) {
	for _, w := range holdings(r.state, hostID(n)).Holdings {
		for _, b := range w.Blocks {
			if b.Epoch < r.state.recovered && !r.kept[n].names(b.Prefix) {
				r.rt.Fatalf("block %s is still of host %d, which does not hold it", b.Prefix, n)
			}
		}
		for _, cl := range w.Claims {
			if !r.kept[n].claims(cl.Addr) {
				r.rt.Fatalf("address %s is still of host %d, which does not hold it", cl.Addr, n)
			}
		}
	}
}

// TestARecoveredLedgerGivesNothingTwice: it goes on from any earlier state, with the
// facts of any later one or without a log at all; hosts declare what they hold in any
// order, and ask for more all the time. Whoever was not lost keeps what it holds.
func TestARecoveredLedgerGivesNothingTwice(t *testing.T) {
	var tally recoveries
	rapid.Check(t, func(rt *rapid.T) {
		r := recovered(t, rt, &tally)
		r.removeAgain()
		if len(r.kept) == 0 {
			return
		}
		for _, n := range rapid.Permutation([]int{1, 2, 3, 4}).Draw(rt, "order") {
			r.allAsk()
			r.returns(n)
		}
		if len(r.state.Undeclared()) > 0 {
			rt.Fatalf("not all have declared: %s", r.state.HostNames(r.state.Undeclared()))
		}
		for n := range r.kept {
			r.keepsAll(n)
			r.ownsNoMore(n)
		}
		if err := r.state.Verify(); err != nil {
			rt.Fatal(err)
		}
	})
	if !testing.Short() && (tally.forgotten == 0 || tally.refused == 0) {
		t.Errorf("%d forgotten blocks came back, %d requests were refused: too few to prove anything", tally.forgotten, tally.refused)
	}
	t.Logf("%d forgotten blocks came back, %d requests were refused", tally.forgotten, tally.refused)
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
