package dockerapi

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weftnet/weft/netmap"
)

var byValue = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// decoded is JSON as the fake holds it.
func decoded(t *testing.T, text string) []map[string]any {
	t.Helper()
	var out []map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The answers of 20.10 to networks that Docker or a plugin chose pools for.
const oldNetworks = `[
 {"Name":"overlay","Id":"bbb","Driver":"weftnet/weft:latest","EnableIPv6":true,"Internal":true,"Attachable":true,
  "IPAM":{"Driver":"weftnet/weft:latest","Options":{},"Config":[
    {"Subnet":"10.32.0.0/20","IPRange":"10.32.1.0/24","Gateway":"10.32.0.1","AuxiliaryAddresses":{"nas":"10.32.0.9"}},
    {"Subnet":"fd00:32::/64","Gateway":"fd00:32::1/64"}]},
  "Containers":{},"Options":{"weft.mtu":"1400","weft.replica":"17"},"Labels":{"a":"b"},"Created":"2026-01-02T03:04:05.678Z","Scope":"local","ConfigFrom":{"Network":""}},
 {"Name":"bridge","Id":"aaa","Driver":"bridge","IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"172.17.0.0/16"}]},"Options":{"weft.replica":"x"},"Labels":{}},
 {"Name":"odd","Id":"ccc","Driver":"odd","Scope":"swarm","IPAM":{"Config":[{"Subnet":"none","Gateway":"<nil>"},{"Subnet":"10.9.0.0/24","Gateway":"dhcp","AuxiliaryAddresses":{"x":"?"}}]}},
 {"Name":"host","Id":"ddd","Driver":"host","IPAM":{"Driver":"default","Config":null}}
]`

func TestNetworks(t *testing.T) {
	for _, api := range []string{"1.41", "1.45", "1.51"} {
		t.Run(api, func(t *testing.T) {
			f := newFake(t, api)
			f.networks = decoded(t, oldNetworks)
			f.start()
			got, err := f.open().Networks(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := []Network{
				{ID: "aaa", Name: "bridge", Driver: "bridge", Shown: netmap.DockerNetwork{
					Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("172.17.0.0/16")}}, Options: map[string]string{ReplicaOption: "x"},
				}},
				{ID: "ddd", Name: "host", Driver: "host"},
				{ID: "ccc", Name: "odd", Driver: "odd", Swarm: true, Shown: netmap.DockerNetwork{Pools: []netmap.DockerPool{{Subnet: netip.MustParsePrefix("10.9.0.0/24"), Aux: map[string]netip.Addr{"x": {}}}}}},
				{
					ID: "bbb", Name: "overlay", Driver: "weftnet/weft:latest", Ours: true, Replica: 17, Internal: true,
					Shown: netmap.DockerNetwork{
						Pools: []netmap.DockerPool{
							{
								Subnet: netip.MustParsePrefix("10.32.0.0/20"), Range: netip.MustParsePrefix("10.32.1.0/24"),
								Gateway: netip.MustParseAddr("10.32.0.1"), Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.32.0.9")},
							},
							{Subnet: netip.MustParsePrefix("fd00:32::/64"), Gateway: netip.MustParseAddr("fd00:32::1")},
						},
						Options: map[string]string{"weft.mtu": "1400", "weft.replica": "17"}, Labels: map[string]string{"a": "b"}, Attachable: true, IPv6: true,
					},
				},
			}
			if diff := cmp.Diff(want, got, byValue, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVersionIsNegotiated(t *testing.T) {
	f := newFake(t, "1.41")
	f.start()
	if got, err := f.open().Version(t.Context()); err != nil || got != "1.41" {
		t.Errorf("version %q, %v", got, err)
	}
}

func TestDrivers(t *testing.T) {
	f := newFake(t, "1.41")
	f.start()
	d, err := Open(Config{Socket: f.socket, Drivers: []string{"weft"}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := d.Drivers(t.Context())
	if diff := cmp.Diff([]string{"weft", "weftnet/weft:latest"}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestAttachments(t *testing.T) {
	f := newFake(t, "1.41")
	f.answers["GET /containers/json"] = `[
	 {"Id":"c2","Names":["/web"],"State":"running","Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],
	  "NetworkSettings":{"Networks":{
	   "overlay":{"IPAMConfig":null,"Aliases":["www","web","c2"],"NetworkID":"n1","EndpointID":"e2","Gateway":"","IPAddress":"10.32.0.7","IPPrefixLen":20,"GlobalIPv6Address":"fd00::7","MacAddress":"02:00:0a:20:00:07"},
	   "other":{"NetworkID":"n2","EndpointID":"e9","IPAddress":"10.33.0.7"}}}},
	 {"Id":"c1","Names":["/db"],"State":"exited","NetworkSettings":{"Networks":{"overlay":{"NetworkID":"n1","EndpointID":"","IPAddress":"","MacAddress":""}}}},
	 {"Id":"c3","Names":["/new"],"State":"created","NetworkSettings":{"Networks":{"n1":{"NetworkID":""}}}},
	 {"Id":"c4","Names":["/newer"],"State":"created","NetworkSettings":{"Networks":{"overlay":{"NetworkID":""}}}},
	 {"Id":"c5","Names":["/old"],"State":"exited","NetworkSettings":{"Networks":{"overlay":{"NetworkID":"removed since"}}}},
	 {"Id":"c0","Names":null,"State":"created","NetworkSettings":null}]`
	f.start()
	got, err := f.open().Attachments(t.Context(), "n1", "overlay")
	if err != nil {
		t.Fatal(err)
	}
	want := []Attachment{
		{Container: "c1", Name: "db"},
		{Container: "c3", Name: "new"},
		{Container: "c4", Name: "newer"},
		{
			Container: "c2", Name: "web", Running: true, Endpoint: "e2",
			V4: netip.MustParseAddr("10.32.0.7"), V6: netip.MustParseAddr("fd00::7"),
		},
	}
	if diff := cmp.Diff(want, got, byValue, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if asked := strings.Join(f.asked(), "\n"); !strings.Contains(asked, `"network":{"n1":true,"overlay":true}`) {
		t.Errorf("asked %s", asked)
	}
}

// TestEndpoints: also one whose container does not run yet, or no more.
func TestEndpoints(t *testing.T) {
	f := newFake(t, "1.41")
	f.answers["GET /networks/n1"] = `{"Name":"overlay","Id":"n1","Driver":"weftnet/weft:latest","IPAM":{"Config":[{"Subnet":"fd00::/64","Gateway":"<nil>"}]},"Containers":{
	 "c2":{"Name":"web","EndpointID":"e2","MacAddress":"02:00:0a:20:00:07","IPv4Address":"10.32.0.7/20","IPv6Address":""},
	 "ep-e1":{"Name":"db","EndpointID":"e1","MacAddress":"","IPv4Address":"","IPv6Address":""}}}`
	f.answers["GET /networks/n2"] = `{"Name":"none","Id":"n2","Containers":{}}`
	f.start()
	d := f.open()
	got, err := d.Endpoints(t.Context(), "n1")
	if diff := cmp.Diff([]netmap.EndpointID{"e1", "e2"}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if got, err := d.Endpoints(t.Context(), "n2"); len(got) != 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := d.Endpoints(t.Context(), "n3"); err == nil {
		t.Errorf("no error, but %v", got)
	}
}

func spec() ReplicaSpec {
	return ReplicaSpec{
		Network: 17, Name: "overlay", Driver: "weftnet/weft:latest", Internal: true,
		Shown: netmap.DockerNetwork{
			Pools: []netmap.DockerPool{
				{Subnet: netip.MustParsePrefix("10.32.0.0/20"), Range: netip.MustParsePrefix("10.32.1.0/24"), Gateway: netip.MustParseAddr("10.32.0.1"), Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.32.0.9")}},
				{Subnet: netip.MustParsePrefix("fd00:32::/64")},
			},
			Options: map[string]string{"weft.mtu": "1400"}, Labels: map[string]string{"a": "b"}, IPAMOptions: map[string]string{"weft.block": "/26"}, Attachable: true, IPv6: true,
		},
	}
}

func TestCreateReplica(t *testing.T) {
	f := newFake(t, "1.41")
	f.networks = decoded(t, `[{"Name":"overlay2","Id":"other"}]`) // Docker's filter finds parts of names
	f.start()
	id, err := f.open().CreateReplica(t.Context(), spec())
	if err != nil || id != "made-1" {
		t.Fatalf("id %q, %v", id, err)
	}
	want := decoded(t, `[{"Id":"made-1","Name":"overlay","Driver":"weftnet/weft:latest","EnableIPv6":true,"Internal":true,"Attachable":true,
		"IPAM":{"Driver":"weftnet/weft:latest","Options":{"weft.block":"/26"},"Config":[
		  {"Subnet":"10.32.0.0/20","IPRange":"10.32.1.0/24","Gateway":"10.32.0.1","AuxiliaryAddresses":{"nas":"10.32.0.9"}},{"Subnet":"fd00:32::/64"}]},
		"Options":{"weft.mtu":"1400","weft.replica":"17"},"Labels":{"a":"b"}}]`)[0]
	unsaid := cmpopts.IgnoreMapEntries(func(_ string, v any) bool { return v == nil || v == false || v == "" })
	if diff := cmp.Diff(want, f.networks[1], unsaid); diff != "" {
		t.Error(diff)
	}
}

// A network without IPv4 must be one on every host: an engine that is not told gives it
// an IPv4 subnet.
func TestCreateReplicaSaysWhichFamilies(t *testing.T) {
	dual, six := spec(), spec()
	six.Shown.Pools = six.Shown.Pools[1:]
	if got := createOptions(dual); got.EnableIPv4 != nil || !*got.EnableIPv6 {
		t.Errorf("dual stack: EnableIPv4 %v, EnableIPv6 %v", got.EnableIPv4, *got.EnableIPv6)
	}
	if got := createOptions(dual).Options[ReplicaOption]; got != "17" {
		t.Errorf("a replica is marked %q", got)
	}
	dual.Network = 0
	if _, marked := createOptions(dual).Options[ReplicaOption]; marked {
		t.Error("what is no replica is marked as one")
	}
	if got := createOptions(six); got.EnableIPv4 == nil || *got.EnableIPv4 || !*got.EnableIPv6 {
		t.Errorf("IPv6 alone: EnableIPv4 %v, EnableIPv6 %v", got.EnableIPv4, *got.EnableIPv6)
	}
}

func TestOnlyIPv6(t *testing.T) {
	for version, want := range map[string]bool{"1.41": false, "1.47": false, "1.48": true, "1.51": true} {
		f := newFake(t, version)
		f.start()
		if got, err := f.open().OnlyIPv6(t.Context()); got != want || err != nil {
			t.Errorf("API %s: %v, %v", version, got, err)
		}
	}
}

func TestCreateReplicaWhereTheNameIsTaken(t *testing.T) {
	for _, tc := range []struct {
		story    string
		networks string
		answer   string
		calls    int
	}{
		{"before", `[{"Name":"overlay","Id":"theirs"}]`, "", 1},
		{"a modern engine says so", `[]`, `409 {"message":"network with name overlay already exists"}`, 2},
	} {
		t.Run(tc.story, func(t *testing.T) {
			f := newFake(t, "1.51")
			f.networks = decoded(t, tc.networks)
			if tc.answer != "" {
				f.answers["POST /networks/create"] = tc.answer
			}
			f.start()
			id, err := f.open().CreateReplica(t.Context(), spec())
			if !errors.Is(err, ErrNameTaken) || id != "" {
				t.Errorf("id %q, %v", id, err)
			}
			if got := f.asked(); len(got) != tc.calls {
				t.Errorf("asked %q", got)
			}
		})
	}
}

// TestCreateReplicaAtTheSameMomentAsAUser: engines before API 1.44 keep two
// networks of one name; the replica goes.
func TestCreateReplicaAtTheSameMomentAsAUser(t *testing.T) {
	f := newFake(t, "1.41")
	f.beside = decoded(t, `[{"Name":"overlay","Id":"theirs"}]`)
	f.start()
	id, err := f.open().CreateReplica(t.Context(), spec())
	if !errors.Is(err, ErrNameTaken) || !strings.Contains(err.Error(), "theirs") || id != "" {
		t.Errorf("id %q, %v", id, err)
	}
	asked := f.asked()
	if last := asked[len(asked)-1]; last != "DELETE /networks/made-1" {
		t.Errorf("asked last: %s", last)
	}
}

func TestRemoveNetwork(t *testing.T) {
	for _, tc := range []struct {
		answer string
		want   error
	}{
		{"204 ", nil},
		{`404 {"message":"network n not found"}`, nil},
		{`403 {"message":"error while removing network: network overlay id n has active endpoints"}`, ErrInUse},
		{`409 {"message":"network n has active endpoints"}`, ErrInUse},
	} {
		f := newFake(t, "1.41")
		f.answers["DELETE /networks/n"] = tc.answer
		f.start()
		if err := f.open().RemoveNetwork(t.Context(), "n"); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.answer, err, tc.want)
		}
	}
	f := newFake(t, "1.41")
	f.answers["DELETE /networks/n"] = `500 {"message":"plugin is not there"}`
	f.start()
	if err := f.open().RemoveNetwork(t.Context(), "n"); err == nil || !strings.Contains(err.Error(), "plugin is not there") {
		t.Errorf("error %v", err)
	}
}

func TestWithoutDocker(t *testing.T) {
	d := newFake(t, "1.41").open()
	if _, err := d.Networks(t.Context()); err == nil || !strings.Contains(err.Error(), "docker.sock") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("opened nothing")
	}
}

func FuzzTidy(f *testing.F) {
	f.Add([]byte(oldNetworks))
	f.Add([]byte(`{"IPAM":{"Config":[{"Gateway":"fd00::1/64"}]}}`))
	f.Add([]byte(`[1,null,{"IPAM":[]},{"IPAM":{"Config":{}}}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := tidy(raw)
		if json.Valid(raw) && !json.Valid(out) {
			t.Errorf("%q became %q", raw, out)
		}
		if again := tidy(out); string(again) != string(out) {
			t.Errorf("%q tidied twice is %q", out, again)
		}
	})
}
