package datapath_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

var (
	hostA, hostB, hostC = netmap.HostID{1}, netmap.HostID{2}, netmap.HostID{3}

	network = netmap.Network{
		ID: 7, VNI: 0x100001, Multicast: true,
		Subnets: []netip.Prefix{prefix("10.32.0.0/20"), prefix("fd00:32::/64")},
	}
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func host(id netmap.HostID, underlay string, mtu int) netmap.HostView {
	return netmap.HostView{ID: id, Entry: netmap.HostEntry{ID: id}, Fact: netmap.HostFact{Underlay: netip.AddrPortFrom(addr(underlay), 7950), MTU: mtu}}
}

func endpoint(id string, on netmap.HostID, v4 string) netmap.EndpointView {
	e := netmap.EndpointView{Host: on, Endpoint: netmap.Endpoint{ID: netmap.EndpointID(id), Network: 7, V4: addr(v4)}}
	e.MAC = netmap.MACOf(e.V4)
	return e
}

func view(edit ...func(*netmap.View)) *netmap.View {
	v := &netmap.View{
		Hosts:    []netmap.HostView{host(hostA, "192.0.2.1", 1500), host(hostB, "192.0.2.2", 1500), host(hostC, "192.0.2.3", 1500)},
		Networks: []netmap.Network{network},
	}
	for _, e := range edit {
		e(v)
	}
	return v
}

func with(endpoints ...netmap.EndpointView) func(*netmap.View) {
	return func(v *netmap.View) { *v = *v.WithEndpoints(append(slices.Collect(v.Endpoints()), endpoints...)...) }
}

func local(edit ...func(*datapath.Local)) datapath.Local {
	l := datapath.Local{Networks: []netmap.Network{network}, Source: addr("192.0.2.1"), UnderlayMTU: 1500, Synced: true}
	for _, e := range edit {
		e(&l)
	}
	return l
}

func port(id, v4 string) func(*datapath.Local) {
	return func(l *datapath.Local) {
		l.Ports = append(l.Ports, datapath.Port{Endpoint: netmap.EndpointID(id), Network: 7, V4: addr(v4)})
	}
}

// plan is what an empty kernel is told, a command per line.
func plan(s datapath.State) (lines []string) {
	for _, op := range datapath.Diff(datapath.State{}, s) {
		lines = append(lines, op.String())
	}
	return lines
}

const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestDesiredAsCommands(t *testing.T) {
	dual := endpoint(idB, hostB, "10.32.1.2")
	dual.V6 = addr("fd00:32::2")
	got := plan(datapath.Desired(view(with(dual)), hostA, local(port(idA, "10.32.0.2"))))
	want := []string{
		"ip link add wfb100001 mtu 65535 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_response_interval 100 vlan_default_pvid 0 # weft network 7 mtu 1450",
		"ip link add wfx100001 mtu 65535 master wfb100001 type vxlan id 1048577 local 192.0.2.1 dstport 4789 nolearning",
		"ip link set wfpaaaaaaaaaaaa mtu 65535 master wfb100001 up # weft endpoint " + idA,
		"bridge fdb replace 02:57:0a:20:01:02 dev wfx100001 dst 192.0.2.2 self static",
		"bridge fdb append 00:00:00:00:00:00 dev wfx100001 dst 192.0.2.2 self static",
		"bridge fdb replace 02:57:0a:20:00:02 dev wfpaaaaaaaaaaaa master static",
		"bridge fdb replace 02:57:0a:20:01:02 dev wfx100001 master static",
		"ip neigh replace 10.32.0.2 lladdr 02:57:0a:20:00:02 dev wfb100001 nud permanent",
		"ip neigh replace 10.32.1.2 lladdr 02:57:0a:20:01:02 dev wfb100001 nud permanent",
		"ip neigh replace fd00:32::2 lladdr 02:57:0a:20:01:02 dev wfb100001 nud permanent",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// tables prints where each address leads: the neighbour's MAC, the bridge's port,
// the host.
func tables(s datapath.State) map[string]string {
	out := map[string]string{}
	for _, n := range s.Networks {
		for _, nb := range n.Neighbours {
			for _, b := range n.Bridging {
				if b.MAC != nb.MAC {
					continue
				}
				to := b.Port
				for _, f := range n.FDB {
					if f.MAC == nb.MAC && b.Port == n.VXLAN {
						to = f.VTEP.String()
					}
				}
				out[nb.Addr.String()] = to
			}
		}
	}
	return out
}

// disputed is what a host sees whose facts have one address of hosts B and C, with its
// block granted to owner.
func disputed(t *testing.T, owner netmap.HostID) *netmap.View {
	t.Helper()
	cluster := netmap.ClusterID{9}
	m := netmap.NewMap(cluster)
	block := netmap.Block{Prefix: prefix("10.32.1.0/24"), Subnet: network.Subnets[0], Owner: owner, Epoch: 1}
	changes := []netmap.Change{{Key: netmap.BlockKey(block.Prefix), Value: block}, {Key: netmap.NetworkKey(network.ID), Value: network}}
	for _, id := range []netmap.HostID{hostB, hostC} {
		changes = append(changes, netmap.Change{Key: netmap.HostEntryKey(id), Value: netmap.HostEntry{ID: id}})
	}
	decided, err := netmap.RecordsOf(1, changes)
	if err == nil {
		_, err = m.Apply(netmap.Batch{Origin: cluster, Life: 1, Seq: 1, Records: decided})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []netmap.EndpointView{endpoint(idA, hostB, "10.32.1.2"), endpoint(idB, hostC, "10.32.1.2")} {
		fact := host(e.Host, fmt.Sprintf("192.0.2.%d", e.Host[0]), 1500).Fact
		_, err := m.Append(e.Host, 1, []netmap.Change{{Key: netmap.HostFactKey(e.Host), Value: fact}, {Key: netmap.EndpointKey(e.ID), Value: e.Endpoint}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return m.View()
}

func TestWhereAddressesLead(t *testing.T) {
	removed := func(v *netmap.View) { v.Hosts[1].Entry.Removed = true }
	cases := []struct {
		name  string
		view  *netmap.View
		local datapath.Local
		want  map[string]string
	}{
		{"nothing known", nil, local(), map[string]string{}},
		{"a port with no view", nil, local(port(idA, "10.32.0.2")), map[string]string{"10.32.0.2": "wfpaaaaaaaaaaaa"}},
		{"remote", view(with(endpoint(idB, hostB, "10.32.1.2"))), local(), map[string]string{"10.32.1.2": "192.0.2.2"}},
		{"our own endpoints are those that are plugged", view(with(endpoint(idA, hostA, "10.32.0.2"))), local(), map[string]string{}},
		{"other networks", view(with(func() netmap.EndpointView {
			e := endpoint(idB, hostB, "10.32.1.2")
			e.Network = 8
			return e
		}())), local(), map[string]string{}},
		{"a removed host", view(with(endpoint(idB, hostB, "10.32.1.2")), removed), local(), map[string]string{}},
		{"a host that was never admitted", view(with(endpoint(idB, hostB, "10.32.1.2")), func(v *netmap.View) { v.Hosts[1].Entry = netmap.HostEntry{} }), local(), map[string]string{}},
		{"a host without address", view(with(endpoint(idB, hostB, "10.32.1.2")), func(v *netmap.View) { v.Hosts[1].Fact = netmap.HostFact{} }), local(), map[string]string{}},
		{"a host of the other family", view(with(endpoint(idB, hostB, "10.32.1.2")), func(v *netmap.View) { v.Hosts[1] = host(hostB, "2001:db8::2", 1500) }), local(), map[string]string{}},
		{"a host that shows our own address", view(with(endpoint(idB, hostB, "10.32.1.2")), func(v *netmap.View) { v.Hosts[1] = host(hostB, "192.0.2.1", 1500) }), local(), map[string]string{}},
		{"what is plugged here is here", view(with(endpoint(idB, hostB, "10.32.0.2"))), local(port(idA, "10.32.0.2")), map[string]string{"10.32.0.2": "wfpaaaaaaaaaaaa"}},
		{"two hosts announce one address: the owner of the block has it", disputed(t, hostC), local(), map[string]string{"10.32.1.2": "192.0.2.3"}},
		{"and if that is the other host", disputed(t, hostB), local(), map[string]string{"10.32.1.2": "192.0.2.2"}},
		{
			"a group MAC is not forwarded to",
			view(with(func() netmap.EndpointView {
				e := endpoint(idB, hostB, "10.32.1.2")
				e.MAC = netmap.MAC{1}
				return e
			}())), local(),
			map[string]string{},
		},
		{
			"no MAC announced",
			view(with(func() netmap.EndpointView {
				e := endpoint(idB, hostB, "10.32.1.2")
				e.MAC = netmap.MAC{}
				return e
			}())), local(),
			map[string]string{"10.32.1.2": "192.0.2.2"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, tables(datapath.Desired(c.view, hostA, c.local))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFloodList(t *testing.T) {
	v := view(with(endpoint("1", hostB, "10.32.1.2"), endpoint("2", hostB, "10.32.1.3"), endpoint("3", hostC, "10.32.2.3")))
	flood := func(v *netmap.View) string { return fmt.Sprint(datapath.Desired(v, hostA, local()).Networks[0].Flood) }
	if got, want := flood(v), "[192.0.2.2 192.0.2.3]"; got != want {
		t.Errorf("flood to %s, want each host with endpoints once: %s", got, want)
	}
	v.Networks[0].Multicast = false
	if got := flood(v); got != "[]" {
		t.Errorf("flood to %s although multicast is off", got)
	}
}

func TestMTU(t *testing.T) {
	only4 := []netip.Prefix{prefix("10.32.0.0/20")}
	cases := []struct {
		name  string
		view  func(*netmap.View)
		local func(*datapath.Local)
		want  int
	}{
		{"v4 underlay", nil, nil, 1450},
		{"v6 underlay", nil, func(l *datapath.Local) { l.Source = addr("2001:db8::1") }, 1430},
		{"unknown underlay", nil, func(l *datapath.Local) { l.UnderlayMTU = 0 }, 1450},
		{"jumbo here, not there", nil, func(l *datapath.Local) { l.UnderlayMTU = 9000 }, 1450},
		{"smaller there", func(v *netmap.View) { v.Hosts[2].Fact.MTU = 1400 }, nil, 1350},
		{"smaller on a removed host", func(v *netmap.View) { v.Hosts[2].Fact.MTU, v.Hosts[2].Entry.Removed = 1400, true }, nil, 1450},
		{"own fact in the view is old", func(v *netmap.View) { v.Hosts[0].Fact.MTU = 1400 }, nil, 1450},
		{"the network's own", func(v *netmap.View) { v.Networks[0].MTU = 1300 }, nil, 1300},
		{"the network's own, too large", func(v *netmap.View) { v.Networks[0].MTU = 9000 }, nil, 1450},
		{"the host's setting", nil, func(l *datapath.Local) { l.MTU = 1290 }, 1290},
		{"v6 needs 1280", func(v *netmap.View) { v.Networks[0].MTU = 1000 }, nil, 1280},
		{"v4 does not", func(v *netmap.View) { v.Networks[0].MTU, v.Networks[0].Subnets = 1000, only4 }, nil, 1000},
		{"loopback", nil, func(l *datapath.Local) { l.UnderlayMTU = 65536 }, 1450},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v, l := view(), local()
			if c.view != nil {
				c.view(v)
			}
			if c.local != nil {
				c.local(&l)
			}
			got := datapath.DeviceOf(v, hostA, v.Networks[0], l)
			if got.MTU != 65535 || got.PortMTU != c.want {
				t.Errorf("device %d, containers %d; want 65535, %d", got.MTU, got.PortMTU, c.want)
			}
		})
	}
}

func TestNetworksTakenPartIn(t *testing.T) {
	other := network
	other.ID, other.VNI = 8, 0x100002
	clash := network
	clash.ID = 9
	l := local(func(l *datapath.Local) { l.Networks = []netmap.Network{other, network, network, clash, {ID: 10}} })
	var got []netmap.NetworkID
	for _, n := range datapath.Desired(view(), hostA, l).Networks {
		got = append(got, n.ID)
	}
	if diff := cmp.Diff([]netmap.NetworkID{7, 8}, got); diff != "" {
		t.Error("each network once, none with another's VNI or without one:", diff)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{
		datapath.BridgeName(1<<24 - 1), datapath.VXLANName(1<<24 - 1),
		datapath.OuterName(idA), datapath.InnerName("not docker's"), datapath.InnerName(""),
	} {
		if len(name) > 15 {
			t.Errorf("%s has %d bytes, Linux takes 15", name, len(name))
		}
	}
	if datapath.OuterName("x") == datapath.OuterName("y") {
		t.Error("two ids, one name")
	}
	for _, name := range []string{"wfb100001", "wfx100001"} {
		if v, ok := datapath.VNIOf(name); !ok || v != 0x100001 {
			t.Errorf("%s is of VNI %x, %v", name, v, ok)
		}
	}
	for _, name := range []string{"wfb", "wfb0100001", "wfbxyz", "eth0", "wfx1000000", "wfpaaaaaaaaaaaa", "wfbABC"} {
		if _, ok := datapath.VNIOf(name); ok {
			t.Errorf("%s is no device of ours", name)
		}
	}
}

func TestAliases(t *testing.T) {
	d := datapath.Device{ID: 1<<63 + 1, PortMTU: 1450}
	if id, mtu, ok := datapath.ParseBridgeAlias(datapath.BridgeAlias(d)); id != d.ID || mtu != d.PortMTU || !ok {
		t.Errorf("%d, %d, %v", id, mtu, ok)
	}
	for _, s := range []string{"", "weft network x mtu 1", "weft network 1 mtu x", "my bridge", "weft network 1 mtu 2 3"} {
		if _, _, ok := datapath.ParseBridgeAlias(s); ok {
			t.Errorf("%q was read", s)
		}
	}
	if got := datapath.ParsePortAlias(datapath.PortAlias(idA)); got != idA {
		t.Errorf("got %s", got)
	}
	if got := datapath.ParsePortAlias("uplink"); got != "" {
		t.Errorf("got %s", got)
	}
}
