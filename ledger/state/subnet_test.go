package state

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/netmap"
)

func TestBlockSizesFollowFromTheSubnet(t *testing.T) {
	for subnet, want := range map[string]int{
		"10.0.0.0/8": 20, "10.32.0.0/14": 26, "10.32.0.0/16": 28, "10.32.0.0/20": 30, "10.32.0.0/24": 30, "10.32.0.0/28": 30, "10.32.0.0/29": 31, "10.32.0.0/30": 31,
		"fd00:1::/48": 64, "fd00::/64": 80, "fd00::/96": 112, "fd00::/104": 116, "fd00::/112": 124, "fd00::/120": 126, "fd00::/126": 127,
	} {
		if got := blockBits(pfx(subnet)); got != want {
			t.Errorf("%s is cut into /%d, want /%d", subnet, got, want)
		}
	}
}

func TestExplicitSubnets(t *testing.T) {
	c := newCluster(t, 2)
	s := c.ok(ensure(1, "10.40.0.0/24")).Subnet
	if s.BlockBits != 28 || s.Gateway.IsValid() {
		t.Errorf("made %+v", s)
	}
	c.ok(networkOf(1, EnsureNetwork{Subnets: []netip.Prefix{pfx("10.40.0.0/24")}, Name: "web"}))
	c.ok(ensure(2, "10.40.0.0/24"))
	c.refused(ensure(2, "10.40.0.0/16"), netmap.Overlaps, "10.40.0.0/24", "network web", "host-1", "host-2")
	c.refused(ensure(2, "10.40.0.128/25"), netmap.Overlaps, "network web")
	c.refused(Command{Kind: KindEnsureSubnet, Host: hostID(2), EnsureSubnet: &EnsureSubnet{Want: pfx("10.40.0.0/24"), BlockBits: 26}}, netmap.Conflict, "/28", "/26")
	for _, bad := range []string{"10.50.0.0/31", "10.50.0.0/32", "fd00::/127", "0.0.0.0/0", "10.0.0.0/7", "127.0.0.0/24", "224.0.1.0/24", "fe80::/64", "169.254.1.0/24", "255.0.0.0/8", "::/64"} {
		c.refused(ensure(1, bad), netmap.BadInput, bad)
	}
	unmasked := ensure(1, "")
	unmasked.EnsureSubnet.Want = netip.PrefixFrom(ip("10.50.0.7"), 24)
	c.refused(unmasked, netmap.BadInput, "did you mean 10.50.0.0/24")
	for _, bits := range []int{23, 33, -1, 129} {
		c.refused(Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{Want: pfx("10.50.0.0/24"), BlockBits: bits}}, netmap.BadInput)
	}
	c.refused(Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{Want: pfx("10.0.0.0/8"), BlockBits: 30}}, netmap.Overlaps)
	c.refused(Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{Want: pfx("11.0.0.0/8"), BlockBits: 30}}, netmap.BadInput, "65536")
}

// TestTheMakersRangeIsKept: replicas on other hosts hand out from it too.
func TestTheMakersRangeIsKept(t *testing.T) {
	c := newCluster(t, 2)
	with := func(host byte, area string) Command {
		cmd := ensure(int(host), "10.40.0.0/24")
		cmd.EnsureSubnet.Range = pfx(area)
		return cmd
	}
	c.refused(with(1, "10.41.0.0/25"), netmap.Outside, "10.41.0.0/25", "10.40.0.0/24")
	if s := c.ok(with(1, "10.40.0.128/25")).Subnet; s.Range != pfx("10.40.0.128/25") {
		t.Errorf("made %+v", s)
	}
	// Another host may keep to another part, and that is its own affair.
	if s := c.ok(with(2, "10.40.0.0/25")).Subnet; s.Range != pfx("10.40.0.128/25") {
		t.Errorf("the range became %s", s.Range)
	}
}

func TestAutomaticSubnets(t *testing.T) {
	c := newCluster(t, 2, "10.32.0.0/16", "192.168.8.0/24")
	auto := func(v6 bool, avoid ...string) Command {
		e := &EnsureSubnet{V6: v6}
		for _, a := range avoid {
			e.Avoid = append(e.Avoid, pfx(a))
		}
		return Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: e}
	}
	var used []netip.Prefix
	for _, step := range []struct {
		cmd  Command
		want string
	}{
		{auto(false), "10.32.0.0/20"},
		{auto(false), "10.32.16.0/20"},
		{auto(false, "10.32.32.0/24", "10.32.50.0/30"), "10.32.64.0/20"},
		{auto(false, "10.0.0.0/8"), "192.168.8.0/28"},
		{auto(true), "fdc1:203:405::/64"},
		{auto(true, "fdc1:203:405::/60"), "fdc1:203:405:10::/64"},
	} {
		got := c.ok(step.cmd).Subnet.Prefix
		used = append(used, got)
		if got != pfx(step.want) {
			t.Errorf("avoiding %v: got %s, want %s", step.cmd.EnsureSubnet.Avoid, got, step.want)
		}
	}
	c.refused(auto(false, "10.0.0.0/8", "192.168.0.0/16"), netmap.Exhausted, "weft range add", "IPv4")
	// Docker asks again until it likes the answer: no pool may come twice.
	seen := map[netip.Prefix]bool{}
	var avoid []string
	for {
		r := c.do(auto(false, avoid...))
		if r.Refusal != nil {
			break
		}
		if seen[r.Subnet.Prefix] {
			t.Fatalf("%s was answered twice", r.Subnet.Prefix)
		}
		seen[r.Subnet.Prefix] = true
		avoid = append(avoid, r.Subnet.Prefix.String())
		c.ok(Command{Kind: KindUseSubnets, Host: hostID(1), UseSubnets: &UseSubnets{used}})
	}
	if len(seen) != 16+16-4 {
		t.Errorf("%d pools were offered", len(seen))
	}
}

func TestRangesCanBeAdded(t *testing.T) {
	c := newCluster(t, 1, "fd00:1::/64")
	auto := Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{}}
	c.refused(auto, netmap.Exhausted, "no IPv4 range")
	add := func(r string) Command {
		return Command{Kind: KindAddRange, Host: hostID(1), AddRange: &AddRange{pfx(r)}}
	}
	c.ok(add("10.99.0.0/22"))
	c.ok(add("10.99.0.0/22"))
	c.refused(add("10.96.0.0/12"), netmap.Overlaps, "10.99.0.0/22")
	if got := c.ok(auto).Subnet.Prefix; got != pfx("10.99.0.0/26") {
		t.Errorf("got %s", got)
	}
}

func TestSubnetsGoWithTheirLastUser(t *testing.T) {
	c := newCluster(t, 2)
	release := func(h int) Command {
		return Command{Kind: KindUseSubnets, Host: hostID(h), UseSubnets: &UseSubnets{}}
	}
	c.ok(ensure(1, "10.40.0.0/24"))
	c.ok(ensure(2, "10.40.0.0/24"))
	c.ok(networkOf(1, EnsureNetwork{Subnets: []netip.Prefix{pfx("10.40.0.0/24")}}))
	b := c.ok(grant(2, "10.40.0.0/24")).Block
	c.ok(claimOf(2, "10.40.0.0/24", "10.40.0.99"))
	c.ok(release(2))
	facts := factsOf(c.state.Changes())
	if facts[netmap.BlockKey(b.Prefix)] != nil || facts[netmap.ClaimKey(ip("10.40.0.99"))] != nil {
		t.Error("a host that released the subnet still owns something in it")
	}
	if facts[netmap.SubnetKey(pfx("10.40.0.0/24"))] == nil {
		t.Error("the subnet went while another host uses it")
	}
	for range 2 { // unknown by the second time
		c.ok(release(1))
		if facts := factsOf(c.state.Changes()); len(facts) != 4 {
			t.Errorf("left over: %v, want two ranges and two hosts", facts)
		}
	}
}

// TestWhoUsesWhichSubnets: a host says which ones it uses, and whatever else the ledger
// counts it among goes: a block, a claim, a subnet and a network of which it never
// heard that it has a part in it.
func TestWhoUsesWhichSubnets(t *testing.T) {
	c := newCluster(t, 2)
	const used, lost, shared, both = "10.40.0.0/24", "10.41.0.0/24", "10.42.0.0/24", "fd43::/64"
	uses := func(host int, which ...string) Command {
		return Command{Kind: KindUseSubnets, Host: hostID(host), UseSubnets: &UseSubnets{subnets(which...)}}
	}
	for _, s := range []string{used, lost, shared, both} {
		c.ok(ensure(1, s))
	}
	auto := c.ok(Command{Kind: KindEnsureSubnet, Host: hostID(1), EnsureSubnet: &EnsureSubnet{}}).Subnet.Prefix
	c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(used)}))
	c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(lost, both)}))
	c.ok(ensure(2, shared))
	c.ok(networkOf(2, EnsureNetwork{Subnets: subnets(shared)}))
	c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(shared)}))
	for _, s := range []string{used, lost, shared} {
		c.ok(grant(1, s))
	}
	mine := c.ok(claimOf(2, shared, "10.42.0.99")).Claim
	c.ok(claimOf(1, shared, "10.42.0.100"))
	c.ok(uses(1, used, both, "10.99.0.0/24")) // the last it does not hold, and need not
	facts := factsOf(c.state.Changes())
	for _, gone := range []netmap.Key{netmap.SubnetKey(pfx(lost)), netmap.SubnetKey(auto), netmap.ClaimKey(ip("10.42.0.100"))} {
		if facts[gone] != nil {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, stays := range []netmap.Key{netmap.SubnetKey(pfx(used)), netmap.SubnetKey(pfx(shared)), netmap.SubnetKey(pfx(both)), netmap.ClaimKey(mine.Addr)} {
		if facts[stays] == nil {
			t.Errorf("%s has gone", stays)
		}
	}
	// Two ranges, hosts, networks; three subnets, a claim, one block.
	if len(facts) != 11 {
		t.Errorf("%d facts: %v", len(facts), facts)
	}
	c.ok(uses(1))
	c.ok(uses(2))
	if facts := factsOf(c.state.Changes()); len(facts) != 4 {
		t.Errorf("left over: %v, want two ranges and two hosts", facts)
	}
	c.refused(grant(1, used), netmap.Unknown)
}

// TestWhatOthersUseCostsNothing: every host says at each start which subnets it uses, of
// a cluster that may have a thousand others.
func TestWhatOthersUseCostsNothing(t *testing.T) {
	const others = 64
	c := newCluster(t, 2)
	n := c.state.Applied()
	apply := func(cmd Command) { // without the checks of a cluster, which cost more
		n++
		cmd.Start, cmd.Nonce = 1, 7
		if r, _ := c.state.Apply(n, cmd); r.Refusal != nil {
			t.Fatal(r.Refusal)
		}
	}
	for i := range others {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40, byte(i), 0}), 24)
		apply(ensure(1, p.String()))
		apply(networkOf(1, EnsureNetwork{Subnets: []netip.Prefix{p}}))
		apply(claimOf(1, p.String(), p.Addr().Next().String()))
	}
	cost := testing.AllocsPerRun(10, func() {
		apply(Command{Kind: KindUseSubnets, Host: hostID(2), UseSubnets: &UseSubnets{}})
	})
	if cost > others {
		t.Errorf("%.0f allocations for %d subnets of another host", cost, others)
	}
}

func TestGatewayAndReservations(t *testing.T) {
	c := newCluster(t, 2)
	const s = "10.40.0.0/24"
	c.refused(reserveOf(1, s, Gateway, ""), netmap.Unknown, s)
	c.ok(ensure(1, s))
	if got := c.ok(reserveOf(1, s, Gateway, "")).Subnet.Gateway; got != ip("10.40.0.1") {
		t.Errorf("gateway %s", got)
	}
	if got := c.ok(reserveOf(1, s, Gateway, "10.40.0.254")).Subnet.Gateway; got != ip("10.40.0.254") {
		t.Errorf("the creator chose 10.40.0.254, got %s", got)
	}
	c.ok(ensure(2, s))
	c.refused(reserveOf(2, s, Gateway, "10.40.0.1"), netmap.Conflict, "10.40.0.1", "10.40.0.254")
	if got := c.ok(reserveOf(2, s, Gateway, "")).Subnet.Gateway; got != ip("10.40.0.254") {
		t.Errorf("the second host was told gateway %s", got)
	}
	c.ok(reserveOf(2, s, Gateway, "10.40.0.254"))
	c.ok(reserveOf(1, s, "router", "10.40.0.9"))
	if got := c.ok(reserveOf(2, s, "router", "10.40.0.9")).Subnet.Reserved; len(got) != 1 || got["router"] != ip("10.40.0.9") {
		t.Errorf("reserved %v", got)
	}
	c.refused(reserveOf(2, s, "router", "10.40.0.10"), netmap.Conflict, "10.40.0.9", "10.40.0.10", "router")
	c.refused(reserveOf(2, s, "x", "10.41.0.1"), netmap.Outside, s)
	c.refused(reserveOf(2, s, "x", "10.40.0.0"), netmap.BadInput, "network or broadcast")
	c.refused(reserveOf(2, s, "x", "10.40.0.255"), netmap.BadInput)
	c.refused(reserveOf(2, s, "", "10.40.0.7"), netmap.BadInput)
	c.ok(claimOf(1, s, "10.40.0.50"))
	c.refused(reserveOf(2, s, "x", "10.40.0.50"), netmap.Held, "host-1")
	b := c.ok(grant(1, s)).Block
	inside := b.Prefix.Addr().Next().Next()
	c.refused(reserveOf(2, s, "x", inside.String()), netmap.Held, "host-1", b.Prefix.String())
	c.ok(reserveOf(1, s, "x", inside.String()))
	c.refused(claimOf(1, s, "10.40.0.9"), netmap.Held, "reserved")
	c.refused(claimOf(1, s, "10.40.0.254"), netmap.Held, "reserved")
}

func TestReservationsAreBounded(t *testing.T) {
	c := newCluster(t, 1)
	c.ok(ensure(1, "10.40.0.0/16"))
	a := ip("10.40.0.0")
	for i := range 2000 {
		a = a.Next()
		r := c.do(reserveOf(1, "10.40.0.0/16", a.String(), a.String()))
		if r.Refusal != nil {
			if r.Refusal.Kind != netmap.BadInput || i < 100 {
				t.Errorf("reservation %d: %v", i, r.Refusal)
			}
			return
		}
	}
	t.Error("2000 reservations fit into one record")
}
