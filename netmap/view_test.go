package netmap

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestDisputes is the rule on Dispute: two endpoints, one address.
func TestDisputes(t *testing.T) {
	low, high := hostID(1), hostID(2)
	block := func(owner HostID) Change {
		p := prefix("10.32.0.0/26")
		return Change{BlockKey(p), Block{Prefix: p, Subnet: prefix("10.32.0.0/20"), Owner: owner, Epoch: 1}}
	}
	claim := func(owner HostID) Change {
		a := addr("10.32.0.7")
		return Change{ClaimKey(a), Claim{Addr: a, Subnet: prefix("10.32.0.0/20"), Owner: owner, Epoch: 2}}
	}
	first, second := endpoint(1, "10.32.0.7"), endpoint(2, "10.32.0.7")
	for name, c := range map[string]struct {
		decided []Change
		low     []Change
		high    []Change
		want    EndpointID
		loser   EndpointID
	}{
		"nobody owns it":         {nil, []Change{first}, []Change{second}, dockerID(2), dockerID(1)},
		"the block's owner wins": {[]Change{block(low)}, []Change{first}, []Change{second}, dockerID(1), dockerID(2)},
		"a claim goes before it": {[]Change{block(low), claim(high)}, []Change{first}, []Change{second}, dockerID(2), dockerID(1)},
		"the later on one host":  {[]Change{block(high)}, []Change{second, first}, nil, dockerID(1), dockerID(2)},
		"the other order":        {nil, []Change{first, second}, nil, dockerID(2), dockerID(1)},
		"a third host's block":   {[]Change{block(hostID(9))}, []Change{first}, []Change{second}, dockerID(2), dockerID(1)},
		"the same id on two":     {[]Change{block(low)}, []Change{first}, []Change{first}, dockerID(1), dockerID(1)},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMap(cluster)
			decide(t, m, 0, 1, c.decided...)
			say(t, m, low, 1, c.low...)
			say(t, m, high, 1, c.high...)
			v := m.View()
			if diff := cmp.Diff([]EndpointID{c.want}, ids(v)); diff != "" {
				t.Error(diff)
			}
			if len(v.Disputes) != 1 || v.Disputes[0].Loser.ID != c.loser || v.Disputes[0].Winner.ID != c.want {
				t.Errorf("disputes: %+v", v.Disputes)
			}
		})
	}
}

func TestAnEndpointThatLosesOneAddressIsOut(t *testing.T) {
	m := NewMap(cluster)
	both := Endpoint{ID: dockerID(1), Network: 5, V4: addr("10.32.0.7"), V6: addr("fd00::7")}
	six := Endpoint{ID: dockerID(2), Network: 5, V6: addr("fd00::7")}
	elsewhere := Endpoint{ID: dockerID(3), Network: 6, V4: addr("10.32.0.7")}
	say(t, m, hostID(1), 1, Change{EndpointKey(both.ID), both}, Change{EndpointKey(elsewhere.ID), elsewhere})
	say(t, m, hostID(2), 1, Change{EndpointKey(six.ID), six})
	if diff := cmp.Diff([]EndpointID{dockerID(2), dockerID(3)}, ids(m.View())); diff != "" {
		t.Error(diff)
	}
}

func TestViewAnswersQuestions(t *testing.T) {
	m := NewMap(cluster)
	net := Network{ID: 5, Name: "overlay", Subnets: []netip.Prefix{prefix("10.32.0.0/20")}}
	sub := Subnet{Prefix: net.Subnets[0], BlockBits: 26}
	blk := Block{Prefix: prefix("10.32.0.0/26"), Subnet: sub.Prefix, Owner: hostID(1), Epoch: 7}
	clm := Claim{Addr: addr("10.32.0.9"), Subnet: sub.Prefix, Owner: hostID(2), Epoch: 8}
	decide(t, m, 0, 9, entryOf(hostID(2), false), entryOf(hostID(1), false), Change{NetworkKey(5), net},
		Change{SubnetKey(sub.Prefix), sub}, Change{BlockKey(blk.Prefix), blk}, Change{ClaimKey(clm.Addr), clm},
		Change{RangeKey(prefix("10.32.0.0/12")), Range{Prefix: prefix("10.32.0.0/12")}})
	say(t, m, hostID(1), 1, endpoint(1, "10.32.0.3"))
	v := m.View()
	if h, ok := v.Host(hostID(2)); !ok || h.Entry.Index != 2 {
		t.Errorf("host: %+v %v", h, ok)
	}
	if n, ok := v.NetworkOf(sub.Prefix); !ok || n.ID != 5 {
		t.Errorf("network of: %+v %v", n, ok)
	}
	if _, ok := v.Network(6); ok {
		t.Error("network 6 was found")
	}
	if s, ok := v.Subnet(sub.Prefix); !ok || s.BlockBits != 26 {
		t.Errorf("subnet: %+v %v", s, ok)
	}
	for a, want := range map[string]HostID{"10.32.0.3": hostID(1), "10.32.0.9": hostID(2), "10.32.1.0": {}} {
		if got := v.Owner(addr(a)); got != want {
			t.Errorf("owner of %s is %s", a, got.Short())
		}
	}
	if on := slices.Collect(v.EndpointsOn(hostID(1))); len(on) != 1 || on[0].ID != dockerID(1) || len(slices.Collect(v.EndpointsOn(hostID(2)))) > 0 {
		t.Errorf("on host 1: %+v", on)
	}
	if e, ok := v.Holder(5, addr("10.32.0.3")); !ok || e.Host != hostID(1) {
		t.Errorf("holder: %+v %v", e, ok)
	}
	if len(v.Ranges) != 1 {
		t.Errorf("ranges: %v", v.Ranges)
	}
}

// TestANameIsARecordOfItsOwn: an endpoint is announced once, whenever the name of its container
// is told, changes or goes; and a host names its own endpoints alone.
func TestANameIsARecordOfItsOwn(t *testing.T) {
	m := NewMap(cluster)
	e := Endpoint{ID: dockerID(1), Network: 5, V4: addr("10.32.0.3"), MAC: MACOf(addr("10.32.0.3"))}
	announce := func() uint64 {
		t.Helper()
		for k, v := range e.Facts() {
			say(t, m, hostID(1), 1, Change{k, v})
		}
		h, _ := m.Head(hostID(1))
		return h.Seq
	}
	shown := func(want string) {
		t.Helper()
		if v := slices.Collect(m.View().Endpoints()); len(v) != 1 || v[0].Name != want {
			t.Errorf("the view has %+v, want one of the name %q", v, want)
		}
	}
	first := announce()
	say(t, m, hostID(2), 1, Change{NameKey(e.ID), EndpointName{Endpoint: e.ID, Name: "liar"}})
	shown("")
	for n, name := range []string{"web", "db"} {
		e.Name = name
		if got := announce(); got != first+uint64(n)+1 {
			t.Errorf("with the name %s host 1 has announced %d records, want %d", name, got, first+uint64(n)+1)
		}
		shown(name)
	}
	say(t, m, hostID(1), 1, Change{Key: NameKey(e.ID)})
	shown("")
}

// TestASubnetsBlocksAndClaims are found among those of the subnets around it.
func TestASubnetsBlocksAndClaims(t *testing.T) {
	v := &View{}
	for _, b := range []string{"10.40.0.0/24", "10.40.1.0/28", "10.40.1.16/28", "10.40.1.240/28", "10.40.2.0/24", "fd00::/112", "fd00:0:0:1::/112"} {
		v.Blocks = append(v.Blocks, Block{Prefix: prefix(b)})
		v.Claims = append(v.Claims, Claim{Addr: prefix(b).Addr()})
	}
	for subnet, want := range map[string]struct{ from, to int }{
		"10.40.1.0/24": {1, 4}, "10.40.0.0/24": {0, 1}, "10.40.2.0/24": {4, 5}, "10.40.0.0/16": {0, 5}, "fd00:0:0:1::/64": {6, 7},
		"10.39.0.0/24": {0, 0}, "10.41.0.0/24": {5, 5}, "fd01::/64": {7, 7}, "10.40.1.128/26": {3, 3},
	} {
		if diff := cmp.Diff(v.Blocks[want.from:want.to], v.BlocksOf(prefix(subnet)), compareAddrs); diff != "" {
			t.Errorf("blocks of %s (-want +got):\n%s", subnet, diff)
		}
		if diff := cmp.Diff(v.Claims[want.from:want.to], v.ClaimsOf(prefix(subnet)), compareAddrs); diff != "" {
			t.Errorf("claims of %s (-want +got):\n%s", subnet, diff)
		}
	}
}

// TestNoTwoEndpointsOfAViewHaveOneAddress: whoever reads a View need not ask who owns an
// address. Whatever hosts announce and the ledger decides, in any order.
func TestNoTwoEndpointsOfAViewHaveOneAddress(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMap(cluster)
		number := func(name string, most byte) byte { return rapid.ByteRange(1, most).Draw(rt, name) }
		address := func(name string, of ...netip.Addr) netip.Addr { return rapid.SampledFrom(of).Draw(rt, name) }
		none, seven := netip.Addr{}, addr("10.32.0.7")
		var decided uint64
		for range rapid.IntRange(1, 30).Draw(rt, "changes") {
			if rapid.Bool().Draw(rt, "by the ledger") {
				c := Claim{Addr: seven, Subnet: prefix("10.32.0.0/20"), Owner: hostID(number("owner", 3)), Epoch: decided + 1}
				decide(t, m, decided, decided+1, Change{ClaimKey(seven), c})
				decided++
			} else {
				e := Endpoint{ID: dockerID(number("endpoint", 5)), Network: NetworkID(number("network", 2))}
				e.V4, e.V6 = address("v4", none, seven, addr("10.32.0.8")), address("v6", none, addr("fd00::7"))
				say(t, m, hostID(number("host", 3)), 1, Change{EndpointKey(e.ID), e})
			}
			seen := map[place]EndpointID{}
			for e := range m.View().Endpoints() {
				for _, p := range (claimant{EndpointView: e}).places() {
					if other, taken := seen[p]; taken {
						rt.Fatalf("%s and %s have %s of network %d", other, e.ID, p.addr, p.network)
					}
					seen[p] = e.ID
				}
			}
		}
	})
}
