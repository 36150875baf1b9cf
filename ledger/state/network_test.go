package state

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/weftnet/weft/netmap"
)

func subnets(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, pfx(s))
	}
	return out
}

func TestTheSameSubnetsAreTheSameNetwork(t *testing.T) {
	c := newCluster(t, 3)
	for h := 1; h <= 2; h++ {
		c.ok(ensure(h, web))
		c.ok(ensure(h, "fd00:9::/64"))
	}
	one := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets("fd00:9::/64", web), Multicast: true, Docker: labelled("a", "b")})).Network
	two := c.ok(networkOf(2, EnsureNetwork{Subnets: subnets(web, "fd00:9::/64"), Multicast: true})).Network
	if one.ID != two.ID || one.VNI != netmap.FirstVNI || uint64(one.ID) == 0 || one.Subnets[0] != pfx(web) || two.Docker.Labels["a"] != "b" || two.Creator != hostID(1) {
		t.Errorf("got %+v and %+v", one, two)
	}
	if len(c.last) != 0 {
		t.Errorf("a second member changed %v", c.last)
	}
	c.refused(networkOf(2, EnsureNetwork{Subnets: subnets(web), Multicast: true}), netmap.Conflict, web, "fd00:9::/64")
	c.refused(networkOf(2, EnsureNetwork{Subnets: subnets("10.77.0.0/24")}), netmap.Unknown, "10.77.0.0/24", "--ipam-driver")
	c.refused(networkOf(2, EnsureNetwork{}), netmap.BadInput)
	c.ok(ensure(2, "10.41.0.0/24"))
	c.refused(networkOf(2, EnsureNetwork{Subnets: subnets("10.41.0.0/24", web)}), netmap.BadInput, "one IPv4", web, "10.41.0.0/24")
	c.ok(ensure(2, "fd00:8::/64"))
	c.refused(networkOf(2, EnsureNetwork{Subnets: subnets("fd00:9::/64", "10.41.0.0/24", "fd00:8::/64")}), netmap.BadInput, "one IPv6", "fd00:8::/64", "fd00:9::/64")
}

func TestOptionConflictsNameBothValues(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, web))
	first := EnsureNetwork{Subnets: subnets(web), Name: "web", MTU: 1400, VNI: 77, Multicast: true}
	c.ok(networkOf(1, first))
	c.ok(networkOf(2, EnsureNetwork{Subnets: subnets(web), Multicast: true})) // no opinion
	for _, other := range []struct {
		change func(*EnsureNetwork)
		names  []string
	}{
		{func(e *EnsureNetwork) { e.MTU = 1300 }, []string{"weft.mtu", "1400", "1300"}},
		{func(e *EnsureNetwork) { e.VNI = 78 }, []string{"weft.vni", "77", "78"}},
		{func(e *EnsureNetwork) { e.Multicast = false }, []string{"weft.multicast", "true", "false"}},
		{func(e *EnsureNetwork) { e.Internal = true }, []string{"--internal", "true", "false"}},
		{func(e *EnsureNetwork) { e.Name = "shop" }, []string{"weft.network", "web", "shop"}},
	} {
		e := first
		other.change(&e)
		c.refused(networkOf(2, e), netmap.Conflict, append(other.names, "network web")...)
	}
	for _, bad := range []func(*EnsureNetwork){
		func(e *EnsureNetwork) { e.MTU = -1 }, func(e *EnsureNetwork) { e.VNI = 1 << 24 },
		func(e *EnsureNetwork) { e.Name = strings.Repeat("n", 256) },
	} {
		e := first
		bad(&e)
		c.refused(networkOf(2, e), netmap.BadInput)
	}
}

func TestNetworksAreFoundByName(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, web))
	c.ok(ensure(2, "10.41.0.0/24"))
	n := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(web), Name: "web"})).Network
	if got := c.ok(networkOf(2, EnsureNetwork{Name: "web"})).Network; got.ID != n.ID {
		t.Errorf("got %+v", got)
	}
	c.refused(networkOf(2, EnsureNetwork{Subnets: subnets("10.41.0.0/24"), Name: "web"}), netmap.Conflict, web, "10.41.0.0/24")
	c.refused(networkOf(2, EnsureNetwork{Name: "shop"}), netmap.Unknown, "shop")
}

func TestVNIsAreUniqueAndReusedLate(t *testing.T) {
	c := newCluster(t, 1)
	vni := func(subnet string, want netmap.VNI) Command {
		c.ok(ensure(1, subnet))
		return networkOf(1, EnsureNetwork{Subnets: subnets(subnet), VNI: want})
	}
	a := c.ok(vni("10.40.0.0/24", netmap.FirstVNI+1)).Network
	b := c.ok(vni("10.41.0.0/24", 0)).Network
	if b.VNI != netmap.FirstVNI {
		t.Errorf("got %#x", b.VNI)
	}
	c.refused(vni("10.42.0.0/24", a.VNI), netmap.Held, "10.40.0.0/24", "weft.vni")
	if d := c.ok(vni("10.42.0.0/24", 0)).Network; d.VNI != netmap.FirstVNI+2 {
		t.Errorf("got %#x", d.VNI)
	}
	c.ok(Command{Kind: KindLeaveNetwork, Host: hostID(1), LeaveNetwork: &LeaveNetwork{b.ID}})
	if e := c.ok(vni("10.41.0.0/24", 0)).Network; e.VNI != netmap.FirstVNI+3 || e.ID == b.ID {
		t.Errorf("the network made anew has VNI %#x", e.VNI)
	}
	c.state.nextVNI = maxVNI + 1
	if e := c.ok(vni("10.43.0.0/24", 0)).Network; e.VNI != netmap.FirstVNI {
		t.Errorf("after the last VNI came %#x", e.VNI)
	}
}

func TestTheFirstNameStays(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, web))
	c.ok(ensure(2, "10.41.0.0/24"))
	a := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(web)})).Network
	b := c.ok(networkOf(2, EnsureNetwork{Subnets: subnets("10.41.0.0/24")})).Network
	name := func(h int, id netmap.NetworkID, name string) Command {
		return Command{Kind: KindNameNetwork, Host: hostID(h), NameNetwork: &NameNetwork{ID: id, Name: name}}
	}
	c.ok(name(1, a.ID, "overlay"))
	c.ok(name(1, a.ID, "overlay"))
	if r := c.refused(name(2, b.ID, "overlay"), netmap.Conflict, "overlay", web); r.Network.ID != a.ID {
		t.Errorf("the refusal does not show the winner: %+v", r.Network)
	}
	c.refused(name(2, a.ID, "other"), netmap.Conflict, "overlay", "other")
	c.refused(name(2, 12345, "other"), netmap.Unknown)
	c.refused(name(2, b.ID, ""), netmap.BadInput)
	c.refused(name(2, b.ID, "a\x00b"), netmap.BadInput)
}

func TestRetiredNetworks(t *testing.T) {
	c := newCluster(t, 2)
	for h := 1; h <= 2; h++ {
		c.ok(ensure(h, web))
		c.ok(ensure(h, "10.41.0.0/24"))
	}
	a := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(web), Name: "overlay"})).Network
	retire := Command{Kind: KindRetireNetwork, Host: hostID(1), RetireNetwork: &RetireNetwork{a.ID}}
	c.ok(retire)
	c.ok(retire)
	c.refused(Command{Kind: KindNameNetwork, Host: hostID(1), NameNetwork: &NameNetwork{ID: a.ID, Name: "x"}}, netmap.Unknown)
	b := c.ok(networkOf(2, EnsureNetwork{Subnets: subnets("10.41.0.0/24"), Name: "overlay"})).Network
	if a.ID == b.ID {
		t.Error("the name of a retired network is not free")
	}
	// A member's replica does not revive it, a new member does.
	if n := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(web), Replica: a.ID})).Network; !n.Retired {
		t.Error("a member's replica revived the network")
	}
	if n := c.ok(networkOf(2, EnsureNetwork{Subnets: subnets(web)})).Network; n.Retired || n.Name != "" {
		t.Errorf("revived as %+v, want it without the name that another one has", n)
	}
	c.ok(retire)
	for h := 1; h <= 2; h++ {
		c.ok(Command{Kind: KindLeaveNetwork, Host: hostID(h), LeaveNetwork: &LeaveNetwork{a.ID}})
	}
	if factsOf(c.state.Changes())[netmap.NetworkKey(a.ID)] != nil {
		t.Error("a network without members is still there")
	}
	c.ok(retire)
}

// TestAUserRevivesWhatHisHostHasNotLeftYet: he removed the network while the ledger
// could not be told everything, and creates it again.
func TestAUserRevivesWhatHisHostHasNotLeftYet(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, web))
	c.ok(ensure(2, web))
	create := EnsureNetwork{Subnets: subnets(web), Name: "overlay"}
	n := c.ok(networkOf(1, create)).Network
	c.ok(networkOf(2, create))
	c.ok(Command{Kind: KindRetireNetwork, Host: hostID(1), RetireNetwork: &RetireNetwork{n.ID}})
	if got := c.ok(networkOf(1, create)).Network; got.ID != n.ID || got.Retired || got.Name != "overlay" {
		t.Errorf("what was created again is %+v", got)
	}
}

// TestAReplicaOfARemovedNetworkComesTooLate: an agent makes one while a user removes
// the network on another host.
func TestAReplicaOfARemovedNetworkComesTooLate(t *testing.T) {
	c := newCluster(t, 3)
	for h := 1; h <= 3; h++ {
		c.ok(ensure(h, web))
	}
	n := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(web), Name: "overlay"})).Network
	replica := EnsureNetwork{Subnets: subnets(web), Replica: n.ID}
	if got := c.ok(networkOf(2, replica)).Network; got.ID != n.ID {
		t.Errorf("the replica is of %d, want %d", got.ID, n.ID)
	}
	c.ok(Command{Kind: KindRetireNetwork, Host: hostID(1), RetireNetwork: &RetireNetwork{n.ID}})
	c.refused(networkOf(3, replica), netmap.Unknown, "removed meanwhile")
	if got := c.ok(networkOf(2, replica)).Network; !got.Retired {
		t.Error("a member's repetition revived the network")
	}
	for h := 1; h <= 2; h++ {
		c.ok(Command{Kind: KindLeaveNetwork, Host: hostID(h), LeaveNetwork: &LeaveNetwork{n.ID}})
	}
	c.refused(networkOf(3, replica), netmap.Unknown, "removed meanwhile")
	if got := c.ok(networkOf(3, EnsureNetwork{Subnets: subnets(web)})).Network; got.ID == n.ID {
		t.Error("a user's network is the one that was removed")
	}
}

func TestTooManyOptionsAreRefused(t *testing.T) {
	c := newCluster(t, 1)
	c.ok(ensure(1, web))
	c.refused(networkOf(1, EnsureNetwork{Subnets: subnets(web), Docker: labelled("k", strings.Repeat("v", 60<<10))}), netmap.BadInput)
}

func labelled(key, value string) *netmap.DockerNetwork {
	return &netmap.DockerNetwork{Labels: map[string]string{key: value}}
}

// TestWhatDockerShowsIsSaidByTheCreator: others say it only while nobody has.
func TestWhatDockerShowsIsSaidByTheCreator(t *testing.T) {
	c := newCluster(t, 2)
	for h := 1; h <= 2; h++ {
		c.ok(ensure(h, web))
	}
	n := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(web)})).Network
	c.ok(networkOf(2, EnsureNetwork{Subnets: subnets(web)}))
	says := func(h int, d *netmap.DockerNetwork) Command {
		return Command{Kind: KindNameNetwork, Host: hostID(h), NameNetwork: &NameNetwork{ID: n.ID, Name: "overlay", Docker: d}}
	}
	for _, step := range []struct {
		host      int
		says      *netmap.DockerNetwork
		want      string
		announces int
	}{
		{2, labelled("of", "two"), "two", 1},
		{2, labelled("of", "two again"), "two", 0},
		{1, labelled("of", "one"), "one", 1},
		{1, labelled("of", "one"), "one", 0},
		{2, labelled("of", "two"), "one", 0},
		{1, labelled("of", "one, changed"), "one, changed", 1},
		{1, nil, "one, changed", 0},
	} {
		got := c.ok(says(step.host, step.says)).Network
		if got.Docker.Labels["of"] != step.want || len(c.last) != step.announces {
			t.Errorf("host %d says %v: labels %v, want those of %s; %d changes, want %d", step.host, step.says, got.Docker.Labels, step.want, len(c.last), step.announces)
		}
	}
	c.refused(says(1, labelled("k", strings.Repeat("v", 4<<10+1))), netmap.BadInput, "overlay", `label "k"`, "4097 bytes", "at most 4096")
	c.refused(says(1, labelled(strings.Repeat("k", 4<<10+1), "v")), netmap.BadInput, "overlay", "name of label", "4097 bytes", "at most 4096")
	c.refused(says(1, labelled("red\x1b[31m", "v")), netmap.BadInput, "overlay", `name of label "red\x1b[31m"`, "control characters")
	c.refused(says(1, &netmap.DockerNetwork{IPAMOptions: map[string]string{"a\nb": ""}}), netmap.BadInput, `IPAM option "a\nb"`, "control characters")
	c.refused(says(1, &netmap.DockerNetwork{Pools: []netmap.DockerPool{{Aux: map[string]netip.Addr{"a\tb": {}}}}}), netmap.BadInput, `--aux-address "a\tb"`, "control characters")
	most := &netmap.DockerNetwork{Options: map[string]string{}}
	for i := range 513 {
		most.Options[strconv.Itoa(i)] = ""
	}
	c.refused(says(1, most), netmap.BadInput, "overlay", "513", "option", "at most 512")
	c.ok(says(1, labelled("a", "red\x1b[31m")))
	many := &netmap.DockerNetwork{Labels: map[string]string{}}
	for i := range 17 {
		many.Labels[strings.Repeat("k", i+1)] = strings.Repeat("v", 1<<10)
	}
	c.refused(says(1, many), netmap.BadInput, "overlay", "bytes", "16384", "fewer")
}

// TestWhoRevivesANetworkIsItsCreator: it is his network now.
func TestWhoRevivesANetworkIsItsCreator(t *testing.T) {
	c := newCluster(t, 2)
	for h := 1; h <= 2; h++ {
		c.ok(ensure(h, web))
	}
	n := c.ok(networkOf(1, EnsureNetwork{Subnets: subnets(web), Name: "overlay"})).Network
	c.ok(networkOf(2, EnsureNetwork{Subnets: subnets(web), Replica: n.ID}))
	c.ok(Command{Kind: KindRetireNetwork, Host: hostID(1), RetireNetwork: &RetireNetwork{n.ID}})
	c.refused(networkOf(1, EnsureNetwork{Subnets: subnets(web), MTU: 1300}), netmap.Conflict, "was removed", "host-2", "weft.mtu from the underlay, not 1300")
	if got := c.ok(networkOf(2, EnsureNetwork{Subnets: subnets(web)})).Network; got.Retired || got.Creator != hostID(2) {
		t.Errorf("revived by host 2 it is %+v", got)
	}
}
