package dockerapi

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestCreateGateway: with Docker's own options, where Docker wants it, or elsewhere where
// that is to be avoided.
func TestCreateGateway(t *testing.T) {
	for _, c := range []struct {
		story, avoid string
		want         []string // the subnets that are asked for
		removed      bool
	}{
		{"nothing is in the way", "172.17.0.0/16 10.0.0.0/8", []string{""}, false},
		{"an overlay is there", "172.17.0.0/16 172.18.7.0/24 10.0.0.0/8", []string{"", "172.19.0.0/16"}, true},
		{"there is no room", "172.16.0.0/12", []string{""}, false},
	} {
		t.Run(c.story, func(t *testing.T) {
			f := newFake(t, "1.41")
			f.answers["GET /networks/made-0"] = `{"Name":"docker_gwbridge","Id":"made-0","IPAM":{"Config":[{"Subnet":"172.18.0.0/16"}]}}`
			f.start()
			var avoid []netip.Prefix
			for word := range strings.FieldsSeq(c.avoid) {
				avoid = append(avoid, netip.MustParsePrefix(word))
			}
			if err := f.open().CreateGateway(t.Context(), avoid); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range f.networks {
				text, _ := json.Marshal(n)
				for _, option := range []string{`"Name":"docker_gwbridge"`, `"Driver":"bridge"`, `bridge.name":"docker_gwbridge"`, `bridge.enable_icc":"false"`, `enable_ip_masquerade":"true"`} {
					if !strings.Contains(string(text), option) {
						t.Errorf("%s lacks %s", text, option)
					}
				}
				_, subnet, _ := strings.Cut(string(text), `"Subnet":"`)
				subnet, _, _ = strings.Cut(subnet, `"`)
				got = append(got, subnet)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("asked for %q, want %q", got, c.want)
			}
			if removed := slices.Contains(f.asked(), "DELETE /networks/made-0"); removed != c.removed {
				t.Errorf("removed: %v, want %v", removed, c.removed)
			}
		})
	}
}

// TestCreateGatewayAfterDocker: engines before API 1.44 answer a name that is taken with
// the bridge driver's error.
func TestCreateGatewayAfterDocker(t *testing.T) {
	f := newFake(t, "1.41")
	f.answers["POST /networks/create"] = `403 {"message":"cannot create network x (docker_gwbridge): conflicts with network y (docker_gwbridge): networks have same bridge name"}`
	f.start()
	if err := f.open().CreateGateway(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "same bridge name") {
		t.Errorf("an error without such a network: %v", err)
	}
	f.mu.Lock()
	f.networks = decoded(t, `[{"Name":"docker_gwbridge","Id":"y"}]`)
	f.mu.Unlock()
	if err := f.open().CreateGateway(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
