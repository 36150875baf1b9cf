package overlays

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The overlay file of the modules' own README and tests, and what DC/OS 1.13 and later writes to /etc/overlay/config/master.json.
const (
	bare = `{"vtep_subnet": "44.128.0.0/16", "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "mz-overlay", "subnet": "192.168.0.0/16", "prefix": 24}]}`
	dcos = `{
  "replicated_log_dir": "/var/lib/dcos/mesos/master", "replicated_log_timeout": "5mins",
  "zk": {"url": "zk://zk-1.zk:2181/overlay", "quorum": 2, "session_timeout": 10},
  "network": {
    "vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/64", "vtep_mac_oui": "70:B3:D5:00:00:00", "vtep_mtu": 9000,
    "overlays": [
      {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24},
      {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80},
      {"name": "off", "subnet": "10.0.0.0/16", "prefix": 24, "subnet6": "fd01:c::/64", "prefix6": 80, "enabled": false}
    ]
  }
}`
)

var byValue = []cmp.Option{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmp.AllowUnexported(Config{}, Overlay{})}

func parsed(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	pre := netip.MustParsePrefix
	oui := [3]byte{0x70, 0xb3, 0xd5}
	for text, want := range map[string]*Config{
		bare: {
			VTEPSubnet: "44.128.0.0/16", VTEPMACOUI: "70:B3:D5:00:00:00", vtep: pre("44.128.0.0/16"), oui: oui,
			Overlays: []Overlay{{Name: "mz-overlay", Subnet: "192.168.0.0/16", Prefix: 24, Enabled: true, v4: pre("192.168.0.0/16")}},
		},
		dcos: {
			VTEPSubnet: "44.128.0.0/20", VTEPMACOUI: "70:B3:D5:00:00:00", VTEPSubnet6: "fd01:a::/64", VTEPMTU: 9000, oui: oui,
			vtep: pre("44.128.0.0/20"), vtep6: pre("fd01:a::/64"), Ignored: []string{"replicated_log_dir", "replicated_log_timeout", "zk"},
			Overlays: []Overlay{
				{Name: "dcos", Subnet: "9.0.0.0/8", Prefix: 24, Enabled: true, v4: pre("9.0.0.0/8")},
				{Name: "dcos6", Subnet6: "fd01:b::/64", Prefix6: 80, Enabled: true, v6: pre("fd01:b::/64")},
				{Name: "off", Subnet: "10.0.0.0/16", Prefix: 24, Subnet6: "fd01:c::/64", Prefix6: 80, v4: pre("10.0.0.0/16"), v6: pre("fd01:c::/64")},
			},
		},
	} {
		if diff := cmp.Diff(want, parsed(t, text), byValue...); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestParseRefuses: what the master module refuses, in its words (mesos-overlay-modules, createManagerProcess), and what
// cannot be a network of Weft.
func TestParseRefuses(t *testing.T) {
	head := `"vtep_subnet":"44.128.0.0/16","vtep_mac_oui":"70:B3:D5:00:00:00"`
	file := func(overlays string) string { return "{" + head + `,"overlays":[` + overlays + "]}" }
	one := `{"name":"a","subnet":"10.1.0.0/16","prefix":24}`
	for text, want := range map[string]string{
		"":                                "JSON parse failed: ",
		"[]":                              "JSON parse failed: ",
		`{"network":7}`:                   "Protobuf parse failed: ",
		`{"overlays":[` + one + "]}":      "Protobuf parse failed: Missing required fields: vtep_subnet, vtep_mac_oui",
		file(`{"subnet":"10.0.0.0/8"}`):   "Missing required fields: overlays[0].name",
		file(`{"name":"a","prefix":"x"}`): "Protobuf parse failed: ",
		file(""):                          "Could not find any overlay configuration. Specify at least one overlay",
		strings.Replace(file(one), "44.128.0.0/16", "44.128.0.0/33", 1):                         "Unable to parse the VTEP Subnet: ",
		strings.Replace(file(one), "44.128.0.0/16", "fd00::/64", 1):                             "Unable to parse the VTEP Subnet: ",
		strings.Replace(file(one), "44.128.0.0/16", "44.0.0.0/7", 1):                            "in order to guarantee unique VTEP MAC we need the VTEP IP subnet to greater than /8",
		strings.Replace(file(one), "70:B3:D5:00:00:00", "70:B3:D5", 1):                          "Unable to parse VTEP MAC OUI: Invalid MAC address. Mac address 70:B3:D5 needs to be in the format xx:xx:xx:00:00:00",
		strings.Replace(file(one), "70:B3:D5:00:00:00", "70:B3:zz:00:00:00", 1):                 "Unable to parse VTEP MAC OUI: Invalid MAC address.",
		strings.Replace(file(one), "70:B3:D5:00:00:00", "70:B3:D5:00:00:01", 1):                 "Unable to parse VTEP MAC OUI: Invalid OUI MAC address: 70:B3:D5:00:00:01. Least significant three bytes should not be set for the OUI",
		strings.Replace(file(one), `,"overlays"`, `,"vtep_subnet6":"10.0.0.0/8","overlays"`, 1): "Unable to parse the VTEP IPv6 Subnet: ",
		file(one + "," + one): "Duplicate overlay configuration detected for overlay: a",
		file(`{"name":"fourteen-chars","subnet":"10.1.0.0/16","prefix":24}`):                                    "Overlay name: fourteen-chars too long cannot, exceed 13  characters",
		file(`{"name":"a.b","subnet":"10.1.0.0/16","prefix":24}`):                                               `Overlay network name: "a.b" is no name of a network`,
		file(`{"name":"a","subnet":"10.1.0.0","prefix":24}`):                                                    "Unable to determine subnet for network: ",
		file(`{"name":"a","subnet6":"10.1.0.0/16","prefix6":80}`):                                               "Unable to determine IPv6 subnet for network: ",
		file(one + `,{"name":"b","subnet":"10.0.0.0/8","prefix":24}`):                                           "Incorrect address space for the overlay network 'b': Found overlapping address spaces",
		file(`{"name":"a","subnet6":"fd00::/48","prefix6":64},{"name":"b","subnet6":"fd00::/64","prefix6":80}`): "Incorrect IPv6 address space for the overlay network 'b': Found overlapping address spaces",
		file(`{"name":"a"}`):                                    "overlay a has neither subnet nor subnet6",
		file(`{"name":"a","subnet":"10.1.0.0/16"}`):             "overlay a gives each agent a /0 of 10.1.0.0/16: want a prefix from /16 to /32",
		file(`{"name":"a","subnet":"10.1.0.0/16","prefix":33}`): "want a prefix from /16 to /32",
		file(`{"name":"a","subnet6":"fd00::/24","prefix6":28}`): "want a prefix from /33 to /128",
		strings.Repeat(" ", MaxFile) + bare:                     "the file has more than 65536 bytes",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s: %v, want %q", text, err, want)
		}
	}
	for _, name := range []string{"host", "bridge", "default", "none"} { // checkReservedNetworks
		want := "Overlay network name: " + name + " is a reserved network name"
		if _, err := Parse([]byte(file(fmt.Sprintf(`{"name":%q,"subnet":"10.1.0.0/16","prefix":24}`, name)))); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many []string
	for i := range maxOverlays + 1 {
		many = append(many, fmt.Sprintf(`{"name":"o%d","subnet":"10.%d.0.0/16","prefix":24}`, i, i))
	}
	if _, err := Parse([]byte(file(strings.Join(many, ",")))); err == nil || !strings.Contains(err.Error(), "at most 32") {
		t.Errorf("%d overlays: %v", len(many), err)
	}
}
