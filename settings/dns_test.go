package settings

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestZonesAndTheirServers(t *testing.T) {
	at := netip.MustParseAddrPort
	for v, want := range map[string]map[string][]netip.AddrPort{
		"":                                       nil,
		"consul=127.0.0.1:8600":                  {"consul": {at("127.0.0.1:8600")}},
		"consul=127.0.0.1:8600,mesos=10.0.0.5":   {"consul": {at("127.0.0.1:8600")}, "mesos": {at("10.0.0.5:53")}},
		"DC1.Consul.=fd00::1, _x.y=[fd00::2]:54": {"dc1.consul": {at("[fd00::1]:53")}, "_x.y": {at("[fd00::2]:54")}},
		"a=10.0.0.2,a=10.0.0.1":                  {"a": {at("10.0.0.2:53"), at("10.0.0.1:53")}},
		"10.in-addr.arpa=::ffff:10.0.0.1":        {"10.in-addr.arpa": {at("10.0.0.1:53")}},
	} {
		var s Settings
		if err := parseZones(&s, v); err != nil {
			t.Errorf("%s: %v", v, err)
		}
		if diff := cmp.Diff(want, s.DNS.Zones, byValue); diff != "" {
			t.Errorf("%s: %s", v, diff)
		}
	}
}

func TestListen(t *testing.T) {
	for v, want := range map[string]string{"": "invalid AddrPort", "127.0.0.55:53": "127.0.0.55:53", "[::ffff:10.0.0.1]:5353": "10.0.0.1:5353"} {
		var s Settings
		if err := parseListen(&s, v); err != nil || s.DNS.Listen.String() != want {
			t.Errorf("%s: %s, %v", v, s.DNS.Listen, err)
		}
	}
}

func TestSettingsOfDNSAgree(t *testing.T) {
	for _, tt := range []struct{ zones, listen, want string }{
		{"consul=127.0.0.1:8600,local=10.0.0.1", "127.0.0.55:53", ""},
		{"weft.local=10.0.0.1", "", "is in WEFT_DOMAIN=weft.local"},
		{"x.weft.local=10.0.0.1", "", "is in WEFT_DOMAIN=weft.local"},
		{"a=10.0.0.1,consul=127.0.0.1:53", "127.0.0.1:53", "the zone consul is the agent itself"},
		{"", "10.0.0.1:7950", "the agent uses port 7950 already"},
		{"", "10.0.0.1:4789", "the agent uses port 4789 already"},
	} {
		s := defaults()
		if err := parseZones(&s, tt.zones); err != nil {
			t.Fatal(err)
		}
		if err := parseListen(&s, tt.listen); err != nil {
			t.Fatal(err)
		}
		err := s.checkDNS()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
