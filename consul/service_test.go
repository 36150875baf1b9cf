package consul

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weftnet/weft/netmap"
)

var (
	self  = netmap.HostID{0xaa, 1}
	other = netmap.HostID{0xbb, 2}
)

const endpoint netmap.EndpointID = "e0e1e2e3e4e5e6e7e8e9e0e1e2e3e4e5e6e7e8e9e0e1e2e3e4e5e6e7e8e9e0e1"

// words makes metadata of lines such as SERVICE_NAME=web.
func words(lines ...string) map[string]string {
	out := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		out[name] = value
	}
	return out
}

func tcp(ports ...uint16) (out []netmap.Service) {
	for _, p := range ports {
		out = append(out, netmap.Service{Port: p, Protocol: netmap.TCP})
	}
	return out
}

// TestNamesAndTags: registrator's rules, and that of Marathon's ids. A service is written
// name:port and its tags.
func TestNamesAndTags(t *testing.T) {
	udp := netmap.Service{Port: 53, Protocol: netmap.UDP}
	for _, c := range []struct {
		story, app, image string
		ports             []netmap.Service
		metadata          map[string]string
		want              string
	}{
		{"the image's name", "", "registry:5000/acme/nginx:1.25", tcp(80), nil, "nginx:80"},
		{"an image by digest", "", "acme/nginx@sha256:00ff", tcp(80), nil, "nginx:80"},
		{"an image with more than one port", "", "nginx", tcp(80, 443), nil, "nginx-80:80 nginx-443:443"},
		{"no port", "", "nginx", nil, words("SERVICE_NAME=web"), ""},
		{"a name", "", "nginx", tcp(80), words("SERVICE_NAME=web"), "web:80"},
		{"a name and two ports", "", "nginx", tcp(80, 443), words("SERVICE_NAME=web"), "web-80:80 web-443:443"},
		{"a port's name has no suffix", "", "nginx", tcp(80, 443), words("SERVICE_NAME=web", "SERVICE_443_NAME=secure"), "web-80:80 secure:443"},
		{"an ignored port counts for the suffix", "", "nginx", tcp(80, 443), words("SERVICE_443_IGNORE=1"), "nginx-80:80"},
		{"ignored", "", "nginx", tcp(80, 443), words("SERVICE_IGNORE=true"), ""},
		{"ignored if not empty", "", "nginx", tcp(80), words("SERVICE_IGNORE="), "nginx:80"},
		{"tags", "", "nginx", tcp(80), words("SERVICE_TAGS=a,b,c"), "nginx:80 c b a"},
		{"tags with commas", "", "nginx", tcp(80), words(`SERVICE_TAGS=x\,y,,z,`), "nginx:80 z x,y"},
		{"a port's tags", "", "nginx", tcp(80, 443), words("SERVICE_TAGS=a", "SERVICE_80_TAGS=b"), "nginx-80:80 b nginx-443:443 a"},
		{"a port's own wins whatever is longer", "", "nginx", tcp(80), words("SERVICE_80_NAME=mine", "SERVICE_NAME=any", "SERVICE_8_NAME=no", "SERVICE_800_NAME=no"), "mine:80"},
		{"keys in any case", "", "nginx", tcp(80), words("SERVICE_name=web", "SERVICE_Tags=a"), "web:80 a"},
		{"udp", "", "bind", []netmap.Service{udp}, words("SERVICE_TAGS=a"), "bind:53 a udp"},
		{"both protocols", "", "bind", append(tcp(53), udp), nil, "bind-53:53 bind-53:53 udp"},

		{"Marathon's id", "/web/customer1/site1", "nginx", tcp(80), nil, "web:80 site1.customer1"},
		{"an id of one segment", "/nodejs-rest-api", "nginx", tcp(8080), nil, "nodejs-rest-api:8080"},
		{"an id of two segments", "/web/site", "nginx", tcp(80), words("SERVICE_TAGS=a"), "web:80 site a"},
		{"an id has no suffix", "/web/site", "nginx", tcp(80, 443), nil, "web:80 site web:443 site"},
		{"an id without a slash", "web", "nginx", tcp(80), nil, "web:80"},
		{"an empty id", "/", "nginx", tcp(80), nil, "nginx:80"},
		{"a name is before an id", "/web/site", "nginx", tcp(80), words("SERVICE_NAME=shop"), "shop:80"},
		{"a port's name is before an id", "/web/site", "nginx", tcp(80, 443), words("SERVICE_443_NAME=secure"), "web:80 site secure:443"},
	} {
		t.Run(c.story, func(t *testing.T) {
			var got []string
			for _, s := range services(self, Container{Endpoint: endpoint, Name: "c1", App: c.app, Image: c.image, V4: netip.MustParseAddr("10.32.0.7"), Ports: c.ports, Metadata: c.metadata}) {
				got = append(got, strings.TrimSpace(strings.Join(append([]string{s.Name + ":" + portText(s.Port)}, s.Tags...), " ")))
				if s.Address != "10.32.0.7" || s.Meta[metaContainer] != "c1" {
					t.Errorf("service %+v", s)
				}
			}
			if have := strings.Join(got, " "); have != c.want {
				t.Errorf("got  %s\nwant %s", have, c.want)
			}
		})
	}
}

func portText(p uint16) string {
	return strings.TrimPrefix(netip.AddrPortFrom(netip.IPv4Unspecified(), p).String(), "0.0.0.0:")
}

// TestChecks are registrator's, with the container's own address.
func TestChecks(t *testing.T) {
	for _, c := range []struct {
		metadata []string
		want     *Check
	}{
		{[]string{"SERVICE_CHECK_INTERVAL=3s"}, nil},
		{[]string{"SERVICE_CHECK_HTTP=/health"}, &Check{HTTP: "http://10.32.0.7:80/health", Interval: "10s"}},
		{
			[]string{"SERVICE_80_CHECK_HTTP=/h", "SERVICE_CHECK_HTTP_METHOD=HEAD", "SERVICE_CHECK_INTERVAL=3s", "SERVICE_CHECK_TIMEOUT=1s", "SERVICE_CHECK_INITIAL_STATUS=passing", "SERVICE_CHECK_DEREGISTER_AFTER=10m"},
			&Check{HTTP: "http://10.32.0.7:80/h", Method: "HEAD", Interval: "3s", Timeout: "1s", Status: "passing", DeregisterCriticalServiceAfter: "10m"},
		},
		{[]string{"SERVICE_443_CHECK_HTTP=/h"}, nil},
		{[]string{"SERVICE_CHECK_HTTPS=/h", "SERVICE_CHECK_TLS_SKIP_VERIFY=1"}, &Check{HTTP: "https://10.32.0.7:80/h", TLSSkipVerify: true, Interval: "10s"}},
		{[]string{"SERVICE_CHECK_CMD=/ok now"}, &Check{Args: []string{"check-cmd", "c0ffee000000", "80", "/ok now"}, Interval: "10s"}},
		{[]string{"SERVICE_CHECK_SCRIPT=nc $SERVICE_IP $SERVICE_PORT | grep OK"}, &Check{Args: []string{"sh", "-c", "nc 10.32.0.7 80 | grep OK"}, Interval: "10s"}},
		{[]string{"SERVICE_CHECK_TTL=30s"}, &Check{TTL: "30s"}},
		{[]string{"SERVICE_CHECK_TCP=true", "SERVICE_CHECK_TIMEOUT=2s"}, &Check{TCP: "10.32.0.7:80", Interval: "10s", Timeout: "2s"}},
		{[]string{"SERVICE_CHECK_GRPC=true", "SERVICE_CHECK_GRPC_USE_TLS=1"}, &Check{GRPC: "10.32.0.7:80", GRPCUseTLS: true, Interval: "10s"}},
		{[]string{"SERVICE_CHECK_TCP=true", "SERVICE_CHECK_HTTP=/h"}, &Check{HTTP: "http://10.32.0.7:80/h", Interval: "10s"}},
	} {
		got := services(self, Container{Endpoint: endpoint, Short: "c0ffee000000", Image: "nginx", V4: netip.MustParseAddr("10.32.0.7"), Ports: tcp(80), Metadata: words(c.metadata...)})
		if diff := cmp.Diff(c.want, got[0].Check); diff != "" {
			t.Errorf("%q: %s", c.metadata, diff)
		}
	}
}

// TestRegistration: ids, the rest of the metadata, and addresses of both families.
func TestRegistration(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.32.0.7"), netip.MustParseAddr("fd00:32::7")
	c := Container{
		Endpoint: endpoint, Name: "web-1", Image: "nginx", V4: v4, V6: v6, Ports: append(tcp(80), netmap.Service{Port: 80, Protocol: netmap.UDP}),
		Metadata: words("SERVICE_ID=mine", "SERVICE_NAME=web", "SERVICE_REGION=eu", "SERVICE_80_REGION=us", "SERVICE_CHECK_TCP=1"),
	}
	got := services(self, c)
	want := Service{
		ID: "weft-aa010000000000000000000000000000-e0e1e2e3e4e5-80-tcp", Name: "web-80", Tags: []string{}, Address: "10.32.0.7", Port: 80,
		TaggedAddresses: map[string]TaggedAddress{"lan_ipv4": {"10.32.0.7", 80}, "lan_ipv6": {"fd00:32::7", 80}},
		Meta:            map[string]string{"region": "us", metaContainer: "web-1"}, Check: &Check{TCP: "10.32.0.7:80", Interval: "10s"},
	}
	ignoreDigest := cmpopts.IgnoreMapEntries(func(key, _ string) bool { return key == metaDigest })
	if diff := cmp.Diff(want, got[0], ignoreDigest); diff != "" {
		t.Error(diff)
	}
	if got[1].ID == got[0].ID || got[0].Meta[metaDigest] == "" {
		t.Errorf("ids %s and %s, digest %q", got[0].ID, got[1].ID, got[0].Meta[metaDigest])
	}
	c.V4 = netip.Addr{}
	if s := services(self, c)[0]; s.Address != "fd00:32::7" || s.TaggedAddresses != nil || s.Check.TCP != "[fd00:32::7]:80" {
		t.Errorf("with IPv6 alone: %+v, check %+v", s, s.Check)
	}
	c.V6 = netip.Addr{}
	if s := services(self, c); s != nil {
		t.Errorf("without an address: %+v", s)
	}
}

// TestWhatIsPlanned: nothing is done about what is as it should be, and about what others made.
func TestWhatIsPlanned(t *testing.T) {
	c := Container{Endpoint: endpoint, Image: "nginx", V4: netip.MustParseAddr("10.32.0.7"), Ports: tcp(80, 443)}
	want := services(self, c)
	as := func(s Service) registered {
		return registered{Service: s.Name, Tags: s.Tags, Address: s.Address, Port: int(s.Port), Meta: s.Meta}
	}
	gone := serviceID(self, "ffffffffffffffff", tcp(80)[0])
	untold := serviceID(self, "eeeeeeeeeeeeeeee", tcp(80)[0])
	elsewhere := serviceID(other, "ffffffffffffffff", tcp(80)[0])
	others := map[string]registered{"host:web:80": {}, "web": {}, "weft-web": {}, "weft-a-b-c-d": {}, untold: {}, elsewhere: {}}
	ours := func(host netmap.HostID, endpoint string) bool { return host == self && endpoint != "eeeeeeeeeeee" }
	for story, change := range map[string]func(has map[string]registered) (register, deregister []string){
		"all is well": func(map[string]registered) (register, deregister []string) { return nil, nil },
		"lost by Consul": func(has map[string]registered) (register, deregister []string) {
			delete(has, want[0].ID)
			return []string{want[0].ID}, nil
		},
		"has no digest": func(has map[string]registered) (register, deregister []string) {
			r := as(want[1])
			r.Meta = nil
			has[want[1].ID] = r
			return []string{want[1].ID}, nil
		},
		"another name": func(has map[string]registered) (register, deregister []string) {
			r := as(want[1])
			r.Service = "x"
			has[want[1].ID] = r
			return []string{want[1].ID}, nil
		},
		"another address": func(has map[string]registered) (register, deregister []string) {
			r := as(want[1])
			r.Address = "x"
			has[want[1].ID] = r
			return []string{want[1].ID}, nil
		},
		"another tag": func(has map[string]registered) (register, deregister []string) {
			r := as(want[1])
			r.Tags = []string{"x"}
			has[want[1].ID] = r
			return []string{want[1].ID}, nil
		},
		"another port": func(has map[string]registered) (register, deregister []string) {
			r := as(want[1])
			r.Port = 1
			has[want[1].ID] = r
			return []string{want[1].ID}, nil
		},
		"the container ended": func(has map[string]registered) (register, deregister []string) {
			has[gone] = registered{}
			return nil, []string{gone}
		},
	} {
		has := map[string]registered{want[0].ID: as(want[0]), want[1].ID: as(want[1])}
		maps.Copy(has, others)
		wantRegister, wantDeregister := change(has)
		register, deregister := plan(want, has, ours)
		var ids []string
		for _, s := range register {
			ids = append(ids, s.ID)
		}
		if !slices.Equal(ids, wantRegister) || !slices.Equal(deregister, wantDeregister) {
			t.Errorf("%s: register %q, deregister %q, want %q and %q", story, ids, deregister, wantRegister, wantDeregister)
		}
	}
}

// TestEveryDifferenceIsOneOfTheDigest: Consul does not tell its checks.
func TestEveryDifferenceIsOneOfTheDigest(t *testing.T) {
	c := Container{Endpoint: endpoint, Image: "nginx", V4: netip.MustParseAddr("10.32.0.7"), Ports: tcp(80)}
	seen := map[string]bool{}
	for _, line := range []string{"SERVICE_CHECK_TCP=1", "SERVICE_CHECK_HTTP=/a", "SERVICE_CHECK_HTTP=/b", "SERVICE_TAGS=a", "SERVICE_REGION=eu", "OTHER=1"} {
		c.Metadata = words(line)
		seen[services(self, c)[0].Meta[metaDigest]] = true
	}
	c.V6 = netip.MustParseAddr("fd00::7")
	seen[services(self, c)[0].Meta[metaDigest]] = true
	if len(seen) != 7 {
		t.Errorf("%d digests for 7 registrations", len(seen))
	}
}
