package state

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

// namesOf are the names that were added by hand, as facts.
func namesOf(s *State) (out []string) {
	for _, c := range s.Changes() {
		if n, is := c.Value.(netmap.StaticName); is {
			out = append(out, fmt.Sprintf("%d/%s/%s", n.Network, n.Name, n.Addr))
		}
	}
	return out
}

func named(network netmap.NetworkID, name, addr string) netmap.StaticName {
	n := netmap.StaticName{Network: network, Name: name}
	if addr != "" {
		n.Addr = ip(addr)
	}
	return n
}

// network makes a network that a host is in.
func (c *cluster) network(host int, subnet string) netmap.NetworkID {
	c.t.Helper()
	c.ok(Command{Kind: KindEnsureSubnet, Host: hostID(host), EnsureSubnet: &EnsureSubnet{Want: pfx(subnet)}})
	return c.ok(Command{Kind: KindEnsureNetwork, Host: hostID(host), EnsureNetwork: &EnsureNetwork{Subnets: subnets(subnet)}}).Network.ID
}

func addName(n netmap.StaticName) Command {
	return Command{Kind: KindAddName, Host: hostID(1), AddName: &AddName{n}}
}

func removeName(n netmap.StaticName) Command {
	return Command{Kind: KindRemoveName, Host: hostID(1), RemoveName: &RemoveName{n}}
}

func TestNamesAreAddedAndRemovedByHand(t *testing.T) {
	c := newCluster(t, 2)
	id := c.network(1, web)
	c.ok(addName(named(id, "NAS", "192.0.2.7")))
	c.ok(addName(named(id, "nas", "2001:db8::7")))
	c.ok(addName(named(id, "printer.office", "192.0.2.9")))
	if c.ok(addName(named(id, "nas", "::ffff:192.0.2.7"))); len(c.last) != 0 {
		t.Errorf("a name that is there was added: %v", c.last)
	}
	nas4, nas6, printer := fmt.Sprintf("%d/nas/192.0.2.7", id), fmt.Sprintf("%d/nas/2001:db8::7", id), fmt.Sprintf("%d/printer.office/192.0.2.9", id)
	if diff := cmp.Diff([]string{nas4, nas6, printer}, namesOf(c.state)); diff != "" {
		t.Error(diff)
	}
	b, err := c.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeState(b)
	if err != nil || !slices.Equal(namesOf(back), namesOf(c.state)) {
		t.Errorf("a snapshot gives %v, %v", namesOf(back), err)
	}
	c.ok(removeName(named(id, "nas", "192.0.2.7")))
	if diff := cmp.Diff([]string{nas6, printer}, namesOf(c.state)); diff != "" {
		t.Error(diff)
	}
	c.ok(addName(named(id, "nas", "192.0.2.7")))
	c.ok(removeName(named(id, "Nas", "")))
	if diff := cmp.Diff([]string{printer}, namesOf(c.state)); diff != "" {
		t.Error(diff)
	}
	var told []string
	for _, e := range c.state.events(Query{}) {
		if e.What == EventNameAdded || e.What == EventNameGone {
			told = append(told, fmt.Sprintf("%s %s", e.What, e.Space))
		}
	}
	want := []string{"name 192.0.2.7/32", "name 2001:db8::7/128", "name 192.0.2.9/32", "name-gone 192.0.2.7/32", "name 192.0.2.7/32", "name-gone 192.0.2.7/32", "name-gone 2001:db8::7/128"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("history: %s", diff)
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	c := newCluster(t, 2)
	id, retired := c.network(1, web), c.network(1, "10.41.0.0/24")
	c.ok(Command{Kind: KindRetireNetwork, Host: hostID(2), RetireNetwork: &RetireNetwork{retired}})
	for what, refused := range map[string]struct {
		cmd  Command
		kind netmap.RefusalKind
	}{
		"an unknown network":     {addName(named(99, "nas", "192.0.2.7")), netmap.Unknown},
		"a removed network":      {addName(named(retired, "nas", "192.0.2.7")), netmap.Unknown},
		"no name":                {addName(named(id, "a b", "192.0.2.7")), netmap.BadInput},
		"an empty name":          {addName(named(id, "", "192.0.2.7")), netmap.BadInput},
		"no address":             {addName(named(id, "nas", "")), netmap.BadInput},
		"an address of the host": {addName(named(id, "nas", "127.0.0.1")), netmap.BadInput},
		"nothing to remove":      {removeName(named(id, "nas", "")), netmap.Unknown},
	} {
		if r := c.do(refused.cmd); r.Refusal == nil || r.Refusal.Kind != refused.kind || len(c.last) > 0 {
			t.Errorf("%s: %v, %v", what, r.Refusal, c.last)
		}
	}
	for i := range netmap.MaxStaticNames {
		c.ok(addName(named(id, fmt.Sprintf("n%d", i), "192.0.2.7")))
	}
	if r := c.do(addName(named(id, "more", "192.0.2.7"))); r.Refusal == nil || r.Refusal.Kind != netmap.Exhausted {
		t.Errorf("one more than the limit: %v", r.Refusal)
	}
	c.ok(addName(named(id, "n7", "192.0.2.7"))) // is there
}

// TestNamesGoWithTheirNetwork, and stay when the ledger is recovered from the facts.
func TestNamesGoWithTheirNetwork(t *testing.T) {
	c := newCluster(t, 2)
	id, other := c.network(1, web), c.network(1, "10.41.0.0/24")
	c.ok(addName(named(id, "nas", "192.0.2.7")))
	c.ok(addName(named(other, "nas", "192.0.2.8")))
	again := Rebuild(nil, 1, c.state.applied, c.state.Changes())
	if !slices.Equal(namesOf(again), namesOf(c.state)) || again.Verify() != nil {
		t.Errorf("from the facts: %v, %v", namesOf(again), again.Verify())
	}
	c.ok(Command{Kind: KindLeaveNetwork, Host: hostID(1), LeaveNetwork: &LeaveNetwork{id}})
	if got := namesOf(c.state); !slices.Equal(got, []string{fmt.Sprintf("%d/nas/192.0.2.8", other)}) {
		t.Errorf("a network has gone, and there is %v", got)
	}
	if !slices.ContainsFunc(c.last, func(c netmap.Change) bool { return c.Key.Kind == netmap.KindStaticName && c.Value == nil }) {
		t.Errorf("nobody is told that the name has gone: %v", c.last)
	}
}

func TestSnapshotsWithBadNamesAreRefused(t *testing.T) {
	c := newCluster(t, 1)
	id := c.network(1, web)
	good := named(id, "nas", "192.0.2.7")
	for what, names := range map[string][]netmap.StaticName{
		"of another network": {named(99, "nas", "192.0.2.7")}, "no name": {named(id, "a b", "192.0.2.7")}, "twice": {good, good},
	} {
		c.state.networks[id].names = names
		b, err := c.state.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(b); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

// TestNamesAgainstASet: whatever is added, removed and goes with its network, there is what a set
// of names has, what hosts were told is that, and a snapshot has it too.
func TestNamesAgainstASet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t, 1)
		nets := []netmap.NetworkID{c.network(1, web), c.network(1, "10.41.0.0/24")}
		want, told := map[netmap.StaticName]bool{}, map[netmap.Key]bool{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			n := netmap.StaticName{Network: rapid.SampledFrom(nets).Draw(rt, "network"), Name: rapid.SampledFrom([]string{"nas", "nas.b", "dns"}).Draw(rt, "name")}
			n.Addr = rapid.SampledFrom([]netip.Addr{ip("192.0.2.7"), ip("192.0.2.8"), ip("2001:db8::7")}).Draw(rt, "address")
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				c.do(Command{Kind: KindLeaveNetwork, Host: hostID(1), LeaveNetwork: &LeaveNetwork{n.Network}})
				maps.DeleteFunc(want, func(o netmap.StaticName, _ bool) bool { return o.Network == n.Network })
			case 1, 2, 3:
				c.do(removeName(n))
				delete(want, n)
			case 4:
				maps.DeleteFunc(want, func(o netmap.StaticName, _ bool) bool { return o.Network == n.Network && o.Name == n.Name })
				n.Addr = netip.Addr{}
				c.do(removeName(n))
			default:
				if r := c.do(addName(n)); r.Refusal == nil {
					want[n] = true
				} else if c.state.networks[n.Network] != nil {
					rt.Fatalf("%+v is refused: %v", n, r.Refusal)
				}
			}
			for _, ch := range c.last {
				if told[ch.Key] = ch.Value != nil; ch.Key.Kind != netmap.KindStaticName || !told[ch.Key] {
					delete(told, ch.Key)
				}
			}
			checkNames(rt, c.state, want, told)
		}
	})
}

func checkNames(rt *rapid.T, s *State, want map[netmap.StaticName]bool, told map[netmap.Key]bool) {
	b, err := s.Encode()
	if err != nil {
		rt.Fatal(err)
	}
	back, err := DecodeState(b)
	if err != nil {
		rt.Fatal(err)
	}
	for _, s := range []*State{s, back} {
		have := map[netmap.StaticName]bool{}
		for _, ch := range s.Changes() {
			if n, is := ch.Value.(netmap.StaticName); is {
				if have[n] = true; !told[ch.Key] {
					rt.Fatalf("nobody was told of %+v", n)
				}
			}
		}
		if !maps.Equal(have, want) || len(told) != len(want) {
			rt.Fatalf("there is %v, hosts were told of %d; wanted %v", have, len(told), want)
		}
	}
}
