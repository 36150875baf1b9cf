package overlays

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/netmap"
)

var devices = Devices{
	Bridge: func(v netmap.VNI) string { return "br" + strconv.Itoa(int(v)) }, VXLAN: func(v netmap.VNI) string { return "vx" + strconv.Itoa(int(v)) },
}

// hostAt is a host of a view.
func hostAt(index byte, ip, overlays string) netmap.HostView {
	id := netmap.HostID{index}
	return netmap.HostView{
		ID: id, Entry: netmap.HostEntry{ID: id, Index: uint32(index)},
		Fact: netmap.HostFact{Underlay: netip.AddrPortFrom(netip.MustParseAddr(ip), 7950), Overlays: overlays},
	}
}

// jsonOf is a value as an answer over HTTP has it.
func jsonOf(t *testing.T, v any) (out any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestStateOfTheModules: the answer of the modules' own tests (16/1), with what differs on Weft: the device names and the
// VNI are those that exist, both containerizers share an agent's whole subnet, and the agent without containers has none.
func TestStateOfTheModules(t *testing.T) {
	pre := netip.MustParsePrefix
	view := &netmap.View{
		Hosts:    []netmap.HostView{hostAt(1, "10.0.0.1", `{"mz-overlay":{"status":"STATUS_OK"}}`), hostAt(2, "10.0.0.2", `{"mz-overlay":{"status":"STATUS_FAILED","error":"no Docker"}}`), hostAt(3, "10.0.0.3", "")},
		Networks: []netmap.Network{{ID: 7, Name: "mz-overlay", VNI: 5000, Subnets: []netip.Prefix{pre("192.168.0.0/16")}}},
		Subnets:  []netmap.Subnet{{Prefix: pre("192.168.0.0/16"), BlockBits: 24}},
		Blocks:   []netmap.Block{{Prefix: pre("192.168.0.0/24"), Subnet: pre("192.168.0.0/16"), Owner: netmap.HostID{1}}, {Prefix: pre("192.168.9.0/24"), Subnet: pre("192.168.0.0/16"), Owner: netmap.HostID{1}}},
	}
	gone := hostAt(4, "10.0.0.4", "")
	gone.Entry.Removed = true
	view.Hosts = append(view.Hosts, gone)
	var want any
	err := json.Unmarshal([]byte(`{
	"network":{"vtep_subnet":"44.128.0.0/16","vtep_mac_oui":"70:B3:D5:00:00:00","overlays":[{"name":"mz-overlay","subnet":"192.168.0.0/16","prefix":24,"enabled":true}]},
	"agents":[
	 {"ip":"10.0.0.1","overlays":[{"info":{"name":"mz-overlay","subnet":"192.168.0.0/16","prefix":24,"enabled":true},"subnet":"192.168.0.0/24",
	  "mesos_bridge":{"name":"br5000","ip":"192.168.0.0/24"},"docker_bridge":{"name":"br5000","ip":"192.168.0.0/24"},
	  "backend":{"vxlan":{"vni":5000,"vtep_name":"vx5000","vtep_ip":"44.128.0.1/16","vtep_mac":"70:b3:d5:80:00:01"}},"state":{"status":"STATUS_OK"}}]},
	 {"ip":"10.0.0.2","overlays":[{"info":{"name":"mz-overlay","subnet":"192.168.0.0/16","prefix":24,"enabled":true},
	  "backend":{"vxlan":{"vni":5000,"vtep_name":"vx5000","vtep_ip":"44.128.0.2/16","vtep_mac":"70:b3:d5:80:00:02"}},"state":{"status":"STATUS_FAILED","error":"no Docker"}}]},
	 {"ip":"10.0.0.3","overlays":[{"info":{"name":"mz-overlay","subnet":"192.168.0.0/16","prefix":24,"enabled":true},
	  "backend":{"vxlan":{"vni":5000,"vtep_name":"vx5000","vtep_ip":"44.128.0.3/16","vtep_mac":"70:b3:d5:80:00:03"}}}]}]}`), &want)
	if err != nil {
		t.Fatal(err)
	}
	c := parsed(t, bare)
	if diff := cmp.Diff(want, jsonOf(t, StateOf(c, view, devices))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A master without agents echoes its configuration; a network of another subnet is not the overlay.
	if got := jsonOf(t, StateOf(c, &netmap.View{}, devices)); !cmp.Equal(got, map[string]any{"network": want.(map[string]any)["network"], "agents": []any{}}) {
		t.Errorf("%v", got)
	}
	view.Networks[0].Subnets = []netip.Prefix{pre("192.168.0.0/17")}
	if got := StateOf(c, view, devices).Agents[2].Overlays; len(got) != 0 {
		t.Errorf("a network with another subnet is shown as %+v", got)
	}
}

// TestStateShowsTheWholeFile: IPv6, the MTU of VTEPs (checkMTUConfiguration, checkIPv6Configuration), and disabled
// overlays, which are in the configuration only (ROOT_checkDisabledIPV6OverlayNetwork).
func TestStateShowsTheWholeFile(t *testing.T) {
	pre := netip.MustParsePrefix
	c := parsed(t, dcos)
	view := &netmap.View{
		Hosts: []netmap.HostView{hostAt(1, "10.0.0.1", "")},
		Networks: []netmap.Network{
			{ID: 7, Name: "dcos6", VNI: 5000, Subnets: []netip.Prefix{pre("fd01:b::/64")}},
			{ID: 8, Name: "off", VNI: 5001, Subnets: []netip.Prefix{pre("10.0.0.0/16"), pre("fd01:c::/64")}},
		},
		Blocks: []netmap.Block{{Prefix: pre("fd01:b::/80"), Subnet: pre("fd01:b::/64"), Owner: netmap.HostID{1}}},
	}
	s := StateOf(c, view, devices)
	if len(s.Network.Overlays) != 3 || s.Network.VTEPMTU != 9000 {
		t.Errorf("network %+v", s.Network)
	}
	if got := s.Agents[0].Overlays; len(got) != 1 || got[0].Info.Name != "dcos6" || got[0].Subnet6 != pre("fd01:b::/80") || got[0].Subnet.IsValid() {
		t.Fatalf("overlays %+v", got)
	}
	want := VXLAN{VNI: 5000, VTEPName: "vx5000", VTEPIP: pre("44.128.0.1/20"), VTEPMAC: "70:b3:d5:80:00:01", VTEPIP6: pre("fd01:a::1/64"), VTEPMTU: 9000}
	if got := *s.Agents[0].Overlays[0].Backend.VXLAN; got != want {
		t.Errorf("backend %+v, want %+v", got, want)
	}
}

// TestVTEPs: the n-th address of the subnet, which may have bits set behind its length, until there is none.
func TestVTEPs(t *testing.T) {
	for _, c := range []struct {
		subnet string
		n      uint32
		want   string // empty: none
	}{
		{"44.128.0.0/16", 1, "44.128.0.1/16"},
		{"44.128.3.7/16", 300, "44.128.1.44/16"},
		{"44.128.0.0/30", 2, "44.128.0.2/30"},
		{"44.128.0.0/30", 3, ""},
		{"44.128.0.0/32", 1, ""},
		{"255.255.255.0/24", 255, ""},
		{"fd01:a::/64", 65536, "fd01:a::1:0/64"},
		{"fd01:a::/112", 65536, ""},
		{"44.128.0.0/16", 0, ""},
	} {
		got := nth(netip.MustParsePrefix(c.subnet), c.n)
		if c.want == "" && got.IsValid() || c.want != "" && got.String() != c.want {
			t.Errorf("%d of %s is %s, want %q", c.n, c.subnet, got, c.want)
		}
	}
}

// TestStatusesTravel: as much as a fact can carry, whatever Docker says.
func TestStatusesTravel(t *testing.T) {
	all := map[string]*Status{}
	for i := range maxOverlays {
		all["overlay-name-"[:11]+strconv.Itoa(10+i)] = &Status{StatusConfiguring, strings.Repeat("\"\x1bé", 1000)}
	}
	for _, n := range []int{1, maxOverlays} {
		some := map[string]*Status{}
		for name, s := range all {
			if len(some) < n {
				some[name] = s
			}
		}
		text := writeStatuses(some)
		fact := netmap.HostFact{Name: "a", Overlays: text}
		raw, err := netmap.Encode(netmap.HostFactKey(netmap.HostID{1}), fact)
		if err != nil {
			t.Fatalf("%d overlays: %v", n, err)
		}
		back, err := netmap.Decode(netmap.HostFactKey(netmap.HostID{1}), raw)
		if err != nil || back != any(fact) {
			t.Errorf("%d overlays: %v, %v", n, back, err)
		}
		for name, s := range readStatuses(text) {
			if s.Status != StatusConfiguring || !strings.HasPrefix(s.Error, `"??"`) || !strings.HasSuffix(s.Error, "...") || all[name] == nil {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
	if got := writeStatuses(nil); got != "" {
		t.Errorf("nothing travels as %q", got)
	}
	for _, text := range []string{"", "x", "[]", `{"a":7}`} {
		if got := readStatuses(text); got["a"] != nil {
			t.Errorf("%s is read as %v", text, got)
		}
	}
}
