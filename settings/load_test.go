package settings

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var byValue = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{})

func defaults() Settings {
	return Settings{
		Ranges:      []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")},
		Port:        7950,
		VXLANPort:   4789,
		Replicate:   true,
		DNS:         DNS{On: true, Domain: "weft.local", TTL: 5 * time.Second, Marathon: true},
		RemoveAfter: 72 * time.Hour,
		Status:      netip.MustParseAddrPort("127.0.0.1:7951"),
		State:       "/var/lib/weft",
		LogLevel:    "info",
		LogFormat:   "text",
	}
}

// from is the defaults with something changed.
func from(change func(*Settings)) Settings {
	s := defaults()
	change(&s)
	return s
}

// loaded are settings that are accepted, and what they mean.
var loaded = []struct {
	name  string
	env   string // space separated
	flags map[string]string
	want  Settings
}{
	{name: "defaults", want: defaults()},
	{name: "other variables", env: "PATH=/bin WEFTY=1 HOME=/root", want: defaults()},
	{
		name: "peers get the port of this host", env: "WEFT_JOIN=web-1,10.0.0.2:7000,[fd00::1],[fd00::2]:1 WEFT_PORT=8000",
		want: from(func(s *Settings) {
			s.Port = 8000
			s.Join = []string{"web-1:8000", "10.0.0.2:7000", "[fd00::1]:8000", "[fd00::2]:1"}
		}),
	},
	{
		name: "peers by other ways", flags: map[string]string{"join": "dns+a, dns+b:1,dnssrv+_weft._tcp.c,mesos+http://m:5050,marathon+http://m:8080/prod/weft,exec: cat /peers"},
		want: from(func(s *Settings) {
			s.Join = []string{"dns+a", "dns+b:1", "dnssrv+_weft._tcp.c", "mesos+http://m:5050", "marathon+http://m:8080/prod/weft", "exec: cat /peers"}
		}),
	},
	{name: "a fully qualified peer", env: "WEFT_JOIN=a.b-c.example.", want: from(func(s *Settings) { s.Join = []string{"a.b-c.example.:7950"} })},
	{name: "empty peers", env: "WEFT_JOIN=", want: defaults()},
	{
		name: "two ranges", env: "WEFT_RANGE=10.64.0.0/12,fd00:32::/48",
		want: from(func(s *Settings) {
			s.Ranges = []netip.Prefix{netip.MustParsePrefix("10.64.0.0/12"), netip.MustParsePrefix("fd00:32::/48")}
		}),
	},
	{
		name: "advertise an address", env: "WEFT_ADVERTISE=fd00::7",
		want: from(func(s *Settings) { s.Advertise.Addr = netip.MustParseAddr("fd00::7") }),
	},
	{
		name: "advertise from a prefix, host bits do not matter", env: "WEFT_ADVERTISE=192.0.2.9/24",
		want: from(func(s *Settings) { s.Advertise.Within = netip.MustParsePrefix("192.0.2.0/24") }),
	},
	{
		name: "advertise from an interface", env: "WEFT_ADVERTISE=eth0.100",
		want: from(func(s *Settings) { s.Advertise.Interface = "eth0.100" }),
	},
	{
		name: "flags win", env: "WEFT_PORT=1 WEFT_VXLAN_PORT=2",
		flags: map[string]string{"port": "3", "log-level": "debug", "log-format": "json"},
		want: from(func(s *Settings) {
			s.Port, s.VXLANPort, s.LogLevel, s.LogFormat = 3, 2, "debug", "json"
		}),
	},
	{
		name: "the rest", env: "WEFT_NAME=web_1.a-b WEFT_MEMBER_OF=overlay,web,overlay WEFT_REPLICATE=false WEFT_MTU=8950 WEFT_STATE=/srv/weft WEFT_ROOT=/host",
		want: from(func(s *Settings) {
			s.Name, s.Replicate, s.MTU, s.State, s.Root = "web_1.a-b", false, 8950, "/srv/weft", "/host"
			s.MemberOf.Names = []string{"overlay", "web"}
		}),
	},
	{name: "no HTTP server", env: "WEFT_STATUS=", want: from(func(s *Settings) { s.Status = netip.AddrPort{} })},
	{name: "an HTTP server at IPv6", env: "WEFT_STATUS=[::1]:80", want: from(func(s *Settings) { s.Status = netip.MustParseAddrPort("[::1]:80") })},
	{name: "the whole of 127.0.0.0/8 is loopback", env: "WEFT_STATUS=127.1.2.3:80", want: from(func(s *Settings) { s.Status = netip.MustParseAddrPort("127.1.2.3:80") })},
	{name: "removal within a day", env: "WEFT_REMOVE_AFTER=20h30m", want: from(func(s *Settings) { s.RemoveAfter = 20*time.Hour + 30*time.Minute })},
	{
		name: "overlays", env: "WEFT_OVERLAYS=/etc/weft/overlays.json WEFT_CNI_DIR=/etc/cni/net.d WEFT_OVERLAYS_ADMIN=true",
		want: from(func(s *Settings) { s.Overlays = Overlays{"/etc/weft/overlays.json", "/etc/cni/net.d", true} }),
	},
	{name: "no removal", env: "WEFT_REMOVE_AFTER=0", want: from(func(s *Settings) { s.RemoveAfter = 0 })},
	{
		name: "names", env: "WEFT_DNS=false WEFT_DOMAIN=Prod.Example. WEFT_DNS_TTL=0s WEFT_DNS_PREFER=local WEFT_DNS_HEALTH=true WEFT_DNS_MARATHON=false",
		want: from(func(s *Settings) { s.DNS = DNS{Domain: "prod.example", PreferLocal: true, Health: true} }),
	},
	{name: "all agents of Mesos", env: "WEFT_EXPECT=agents WEFT_JOIN=mesos+http://m:5050", want: from(func(s *Settings) {
		s.Expect, s.Join = ExpectAgents, []string{"mesos+http://m:5050"}
	})},
	{name: "a default said aloud", env: "WEFT_EXPECT=0 WEFT_SECRET= WEFT_DOMAIN=weft.local", want: defaults()},
}

func TestLoad(t *testing.T) {
	for _, tc := range loaded {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Load(Source{Environ: strings.Split(tc.env, " "), Flags: tc.flags})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, byValue); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// refused are settings that are not accepted, and what the error says.
var refused = []struct{ env, want string }{
	{"WEFT_OVERLAYS=overlays.json", "want empty or an absolute path"},
	{"WEFT_CNI_DIR=/etc/../cni", "want empty or an absolute path"},
	{"WEFT_OVERLAYS_ADMIN=yes please", "want true or false"},
	{"WEFT_PORT=abc", "WEFT_PORT=abc: want a port number 1-65535"},
	{"WEFT_PORT=", "WEFT_PORT=: want a port number 1-65535"},
	{"WEFT_PORT=0", "WEFT_PORT=0: want a port number 1-65535"},
	{"WEFT_VXLAN_PORT=65536", "WEFT_VXLAN_PORT=65536: want a port number 1-65535"},
	{"WEFT_PORT=4789", "WEFT_PORT=4789 and WEFT_VXLAN_PORT=4789: both use udp, want two different ports"},
	{"WEFT_PROT=1", "WEFT_PROT: no such setting, perhaps WEFT_PORT is meant"},
	{"WEFT_join=x", "WEFT_join: no such setting, want one of WEFT_JOIN, WEFT_EXPECT"},
	{"WEFT_=", "WEFT_: no such setting, want one of WEFT_JOIN, WEFT_EXPECT"},
	{"WEFT_MEMBER_OF=a,,b", `"" is no name of a network; want all, or names of networks like overlay,web`},
	{"WEFT_MEMBER_OF=all,web", `"all" is no name of a network`},
	{"WEFT_MEMBER_OF=we.b", `"we.b" is no name of a network`},
	{"WEFT_REPLICATE=maybe", "WEFT_REPLICATE=maybe: want true or false"},
	{"WEFT_MTU=1279", "WEFT_MTU=1279: want 0 or a number of bytes 1280-65485"},
	{"WEFT_MTU=-1", "want 0 or a number of bytes"},
	{"WEFT_STATE=weft", "WEFT_STATE=weft: want an absolute path"},
	{"WEFT_STATE=/a/../b", "want an absolute path"},
	{"WEFT_ROOT=host", "WEFT_ROOT=host: want empty or an absolute path"},
	{"WEFT_NAME=web/1", "WEFT_NAME=web/1: want 1-64 letters"},
	{"WEFT_NAME=two\nlines", `WEFT_NAME="two\nlines": want 1-64 letters`},
	{"WEFT_LOG_LEVEL=INFO", "WEFT_LOG_LEVEL=INFO: want debug, info, warn or error"},
	{"WEFT_LOG_FORMAT=xml", "WEFT_LOG_FORMAT=xml: want text or json"},

	{"WEFT_RANGE=", `WEFT_RANGE=: "" is not a prefix; want unicast prefixes`},
	{"WEFT_RANGE=10.32.0.0", `"10.32.0.0" is not a prefix`},
	{"WEFT_RANGE=10.33.0.0/12", "10.33.0.0/12 has bits set behind its length, perhaps 10.32.0.0/12 is meant"},
	{"WEFT_RANGE=10.0.0.0/8,10.32.0.0/12", "10.0.0.0/8 and 10.32.0.0/12 overlap"},
	{"WEFT_RANGE=10.32.0.0/25", "10.32.0.0/25 is too large or too small"},
	{"WEFT_RANGE=fd00::/65", "fd00::/65 is too large or too small"},
	{"WEFT_RANGE=127.0.0.0/12", "is not unicast address space"},
	{"WEFT_RANGE=ff02::/16", "is not unicast address space"},

	{"WEFT_ADVERTISE=0.0.0.0", "not an address that other hosts can send to; want an address like"},
	{"WEFT_ADVERTISE=fe80::1%eth0", "not an address that other hosts can send to"},
	{"WEFT_ADVERTISE=10.0.0.256", "WEFT_ADVERTISE=10.0.0.256: want an address like"},
	{"WEFT_ADVERTISE=a-name-too-long-for-linux", "want an address like"},

	{"WEFT_JOIN=a,zk://m:2181/mesos", `"zk://" is not a form of peers; want host or`},
	{"WEFT_JOIN=dns+192.0.2.1", "192.0.2.1 is an address, dns+ takes a name"},
	{"WEFT_JOIN=dns+a:0", `"a:0": "0" is not a port number`},
	{"WEFT_JOIN=dnssrv+a:80", `"a:80" is neither a host name nor an address`},
	{"WEFT_JOIN=mesos+https://m:5050", "is not of the form mesos+http://HOST:PORT"},
	{"WEFT_JOIN=mesos+m:5050", "is not of the form mesos+http://HOST:PORT"},
	{"WEFT_JOIN=mesos+http://u:p@m:5050", "neither a password nor a query may be in the URL"},
	{"WEFT_JOIN=marathon+http://m:8080/", "names no app"},
	{"WEFT_JOIN=exec:", "exec: without a command"},
	{"WEFT_JOIN=fd00::1", "fd00::1 needs brackets, as in [fd00::1]"},
	{"WEFT_JOIN=a:b:c", `"a:b:c" is not a peer`},
	{"WEFT_JOIN=[a]:1", "brackets are for IPv6 addresses"},
	{"WEFT_JOIN=a:99999", `"a:99999": "99999" is not a port number`},
	{"WEFT_JOIN=a:", `is not a peer`},
	{"WEFT_JOIN=[fd00::1]:", `is not a peer`},
	{"WEFT_JOIN=a,,b", `"" is neither a host name nor an address`},
	{"WEFT_JOIN=10.0.0.999", `"10.0.0.999" is neither a host name nor an address`},
	{"WEFT_JOIN=http://a", "is not a"},
	{"WEFT_JOIN=0.0.0.0:1", "0.0.0.0 is not an address of a host"},

	{"WEFT_EXPECT=3", "WEFT_EXPECT=3 without WEFT_JOIN"},
	{"WEFT_EXPECT=x", "WEFT_EXPECT=x: want a number of hosts 0-1000, or agents"},
	{"WEFT_EXPECT=-1", "WEFT_EXPECT=-1: want a number of hosts"},
	{"WEFT_EXPECT=agents", "WEFT_EXPECT=agents without WEFT_JOIN"},
	{"WEFT_SECRET=hunter2", "WEFT_SECRET=(hidden): secret 1 of the list has 7 characters, want 16 or more (openssl rand -hex 16 makes one), or none; want file:/path"},
	{"WEFT_SECRET=file:secret", "WEFT_SECRET=(hidden): want file:/path"},
	{"WEFT_DOMAIN=a_b.local", "WEFT_DOMAIN=a_b.local: want a DNS name like weft.local"},
	{"WEFT_DOMAIN=.", "WEFT_DOMAIN=.: want a DNS name like weft.local"},
	{"WEFT_DNS=on", "WEFT_DNS=on: want true or false"},
	{"WEFT_DNS_TTL=1500ms", "WEFT_DNS_TTL=1500ms: want whole seconds from 0s to 1h, like 5s"},
	{"WEFT_DNS_TTL=2h", "WEFT_DNS_TTL=2h: want whole seconds from 0s to 1h, like 5s"},
	{"WEFT_DNS_PREFER=near", "WEFT_DNS_PREFER=near: want any or local"},
	{"WEFT_STATUS=:80", "WEFT_STATUS=:80: want a loopback address with a port like 127.0.0.1:7951"},
	{"WEFT_STATUS=localhost:80", "WEFT_STATUS=localhost:80: want a loopback address with a port"},
	{"WEFT_STATUS=127.0.0.1:0", "WEFT_STATUS=127.0.0.1:0: want a loopback address with a port"},
	{"WEFT_STATUS=0.0.0.0:7951", "other hosts could reach 0.0.0.0 and read everything about the cluster: there is no password"},
	{"WEFT_STATUS=192.0.2.7:7951", "other hosts could reach 192.0.2.7"},
	{"WEFT_STATUS=[fd00::7]:7951", "other hosts could reach fd00::7"},
	{"WEFT_STATUS=127.0.0.1:7950", "WEFT_PORT=7950 and WEFT_STATUS=127.0.0.1:7950: both use tcp, want two different ports"},
	{"WEFT_DNS_ZONES=consul", `"consul" has no address; want zones with an address like`},
	{"WEFT_DNS_ZONES==10.0.0.1", `"" is not the name of a zone`},
	{"WEFT_DNS_ZONES=.=10.0.0.1", `"" is not the name of a zone`},
	{"WEFT_DNS_ZONES=a b=10.0.0.1", `"a b" is not the name of a zone`},
	{"WEFT_DNS_ZONES=-a=10.0.0.1", `"-a" is not the name of a zone`},
	{"WEFT_DNS_ZONES=a..b=10.0.0.1", `"a..b" is not the name of a zone`},
	{"WEFT_DNS_ZONES=" + strings.Repeat("a", 64) + "=10.0.0.1", "is not the name of a zone"},
	{"WEFT_DNS_ZONES=" + strings.Repeat("a.", 130) + "a=10.0.0.1", "is not the name of a zone"},
	{"WEFT_DNS_ZONES=a=consul.example", `zone a: "consul.example" is not an address`},
	{"WEFT_DNS_ZONES=a=10.0.0.1:0", "zone a: 10.0.0.1:0 is not an address of a DNS server"},
	{"WEFT_DNS_ZONES=a=0.0.0.0", "zone a: 0.0.0.0 is not an address of a DNS server"},
	{"WEFT_DNS_ZONES=a=10.0.0.1,a=10.0.0.1:53", "zone a has 10.0.0.1:53 twice"},
	{"WEFT_DNS_ZONES=a=10.0.0.1,", `"" has no address`},
	{"WEFT_DNS_LISTEN=53", "WEFT_DNS_LISTEN=53: want an address with a port like 127.0.0.55:53"},
	{"WEFT_DNS_LISTEN=localhost:53", "want an address with a port"},
	{"WEFT_DNS_LISTEN=127.0.0.1:0", "want an address with a port"},
	{"WEFT_DNS_LISTEN=0.0.0.0:53", "it stands for all addresses of the host"},
	{"WEFT_DNS_LISTEN=[::]:53", "it stands for all addresses of the host"},
	{"WEFT_REMOVE_AFTER=-1h", "WEFT_REMOVE_AFTER=-1h: want 0 or a time like 72h"},
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range refused {
		t.Run(tc.env, func(t *testing.T) {
			got, err := Load(Source{Environ: []string{tc.env}, Version: "1.2.3"})
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q shows the secret", err)
			}
		})
	}
}

func TestAgentsAreListedByMesosAlone(t *testing.T) {
	_, err := Load(Source{Environ: []string{"WEFT_EXPECT=agents", "WEFT_JOIN=mesos+http://m:5050,192.0.2.1"}})
	if want := "WEFT_EXPECT=agents with 192.0.2.1 in WEFT_JOIN, want only mesos+http://MASTER:5050"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestLoadNamesEverythingThatIsWrong(t *testing.T) {
	_, err := Load(Source{
		Environ: []string{"WEFT_PORT=x", "WEFT_MTU=x", "WEFT_JOINT=a"},
		Flags:   map[string]string{"vxlan-port": "x", "jion": "a"},
	})
	want := strings.Join([]string{
		"WEFT_JOINT: no such setting, perhaps WEFT_JOIN is meant",
		"--jion: no such setting, perhaps join is meant",
		"WEFT_PORT=x: want a port number 1-65535",
		"--vxlan-port=x: want a port number 1-65535",
		"WEFT_MTU=x: want 0 or a number of bytes 1280-65485",
	}, "\n")
	if err == nil || !strings.Contains(err.Error(), "--jion") {
		t.Fatalf("error %v", err)
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestHostPath(t *testing.T) {
	for root, want := range map[string]string{"": "/var/lib/weft", "/": "/var/lib/weft", "/host": "/host/var/lib/weft"} {
		if got := (Settings{Root: root}).HostPath("/var/lib/weft"); got != want {
			t.Errorf("below %q: %s, want %s", root, got, want)
		}
	}
}

func TestAdvertiseReadsWhatItPrints(t *testing.T) {
	for _, v := range []string{"", "192.0.2.7", "fd00::/64", "eth0"} {
		s, err := Load(Source{Environ: []string{"WEFT_ADVERTISE=" + v}})
		if err != nil || s.Advertise.String() != v {
			t.Errorf("%q became %q, %v", v, s.Advertise, err)
		}
	}
}

// FuzzLoad: whatever an operator types, Load answers with settings that hold or
// with an error that names the setting, and never panics.
func FuzzLoad(f *testing.F) {
	for _, s := range Table() {
		f.Add(s.Env, s.Default)
		f.Add(s.Env, "[fd00::1]:80,a:1,10.0.0.0/8")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		s, err := Load(Source{Environ: []string{name + "=" + value}})
		if err != nil {
			return
		}
		if s.Port == 0 || s.VXLANPort == 0 || s.Port == s.VXLANPort || len(s.Ranges) == 0 || !strings.HasPrefix(s.State, "/") {
			t.Errorf("%s=%q gave %+v", name, value, s)
		}
		for _, peer := range s.Join {
			if strings.HasSuffix(peer, ":") && !strings.HasPrefix(peer, "exec:") {
				t.Errorf("%s=%q: peer %q has no port", name, value, peer)
			}
		}
	})
}

// TestTheSecretIsNoArgument: every user of a host sees the arguments of its processes.
func TestTheSecretIsNoArgument(t *testing.T) {
	_, err := Load(Source{Flags: map[string]string{"secret": "0123456789abcdef"}})
	if err == nil || !strings.Contains(err.Error(), "--secret=(hidden): every user of the host sees") || strings.Contains(err.Error(), "0123") {
		t.Errorf("%v", err)
	}
	if s, err := Load(Source{Flags: map[string]string{"secret": "file:/etc/weft.secret"}}); err != nil || s.Secret != "file:/etc/weft.secret" {
		t.Errorf("%q, %v", s.Secret, err)
	}
}
