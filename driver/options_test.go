package driver_test

import (
	"strings"
	"testing"

	"github.com/weftnet/weft/attach/attachtest"
)

// withOptions is a CreateNetwork with -o options.
func withOptions(generic any, pools ...string) object {
	if len(pools) == 0 {
		pools = []string{"10.32.0.0/20"}
	}
	body := createNetwork(netA, pools...)
	body["Options"] = object{"com.docker.network.generic": generic, "com.docker.network.enable_ipv6": false}
	return body
}

const made = "ledger: docker aaaaaaaaaaaa makes network 1 10.32.0.0/20"

func TestOptionsThatMakeSense(t *testing.T) {
	for _, c := range []struct {
		option, value, story string
	}{
		{"weft.network", "shop", " name shop"},
		{"weft.network", "Shop_2-b", " name Shop_2-b"},
		{"weft.network", strings.Repeat("n", 63), " name " + strings.Repeat("n", 63)},
		{"weft.block", "/26", ""},
		{"weft.block", "/26,/112", ""},
		{"weft.vni", "1", " VNI 1"},
		{"weft.vni", "16777215", " VNI 16777215"},
		{"weft.mtu", "576", " MTU 576"},
		{"weft.mtu", "65535", " MTU 65535"},
		{"com.docker.network.driver.mtu", "1400", " MTU 1400"},
		{"weft.multicast", "true", ""},
		{"weft.multicast", "false", " without multicast"},
		{"weft.host", "true", ""},
		{"weft.host", "false", " without hosts"},
		{"com.docker.network.bridge.name", "br0", ""},
		{"parent", "eth0", ""},
		{"weftish", "x", ""},
		{"", "", ""},
	} {
		t.Run(c.option+"="+c.value, func(t *testing.T) {
			d := inMemory(t, attachtest.New())
			d.ok("CreateNetwork", withOptions(object{c.option: c.value}))
			d.story(made + c.story)
			d.ok("DeleteNetwork", object{"NetworkID": netA})
			d.holds("")
		})
	}
}

func TestOptionsThatDoNot(t *testing.T) {
	const list = "want one of weft.block, weft.host, weft.mtu, weft.multicast, weft.network, weft.vni"
	for _, c := range []struct {
		option string
		value  any
		says   string
	}{
		{"weft.network", "", "want a name"},
		{"weft.network", "a.b", "want a name"},
		{"weft.network", "a b", "want a name"},
		{"weft.network", "-a", "want a name"},
		{"weft.network", "größe", "want a name"},
		{"weft.network", "a\n", "want a name"},
		{"weft.network", strings.Repeat("n", 64), "at most 63"},
		{"weft.block", "", "want a prefix length such as /24"},
		{"weft.block", "24", "want a prefix length such as /24"},
		{"weft.vni", "0", "from 1 to 16777215"},
		{"weft.vni", "16777216", "from 1 to 16777215"},
		{"weft.vni", "-1", "from 1 to 16777215"},
		{"weft.vni", "", "from 1 to 16777215"},
		{"weft.vni", "0x10", "from 1 to 16777215"},
		{"weft.mtu", "575", "weft.mtu=575: want bytes from 576 to 65535"},
		{"weft.mtu", "65536", "from 576 to 65535"},
		{"weft.mtu", "big", "from 576 to 65535"},
		{"weft.mtu", "", "from 576 to 65535"},
		{"encrypted", "", "payload is not encrypted in this version"},
		{"com.docker.network.driver.mtu", "0", "com.docker.network.driver.mtu=0: want bytes"},
		{"weft.multicast", "maybe", "want true or false"},
		{"weft.multicast", "", "want true or false"},
		{"weft.host", "x", "want true or false"},
		{"weft.", "x", "option weft. is not known, " + list},
		{"weft.blokc", "/24", "option weft.blokc is not known, " + list},
		{"weft." + strings.Repeat("x", 1000), "", "xxx is not known, " + list},
		{"weft.mtu", 1400, "want an object of strings"},
		{"weft.mtu", nil, "from 576 to 65535"},
	} {
		t.Run(c.option, func(t *testing.T) {
			d := inMemory(t, attachtest.New())
			d.refused(400, c.says, "CreateNetwork", withOptions(object{c.option: c.value}))
			d.story("")
			d.holds("")
		})
	}
}

func TestTwoNamesOfOneOption(t *testing.T) {
	d := inMemory(t, attachtest.New())
	both := object{"weft.mtu": "1400", "com.docker.network.driver.mtu": "1300"}
	d.refused(400, "weft.mtu=1400: another option says 1300; give one of them", "CreateNetwork", withOptions(both))
	both["com.docker.network.driver.mtu"] = "1400"
	d.ok("CreateNetwork", withOptions(both))
	d.story(made + " MTU 1400")
}

func TestGenericOptionsOfOddShape(t *testing.T) {
	for _, generic := range []any{"text", 7, []string{"a"}, true} {
		d := inMemory(t, attachtest.New())
		d.refused(400, "com.docker.network.generic is", "CreateNetwork", withOptions(generic))
		d.holds("")
	}
	for _, generic := range []any{nil, object{}} {
		d := inMemory(t, attachtest.New())
		d.ok("CreateNetwork", withOptions(generic))
	}
}

func TestInternal(t *testing.T) {
	for _, c := range []struct {
		value any
		story string
	}{{true, " internal"}, {false, ""}, {"yes", "?"}, {nil, "?"}, {1, "?"}} {
		d := inMemory(t, attachtest.New())
		body := createNetwork(netA, "10.32.0.0/20")
		body["Options"] = object{"com.docker.network.internal": c.value}
		if c.story == "?" {
			d.refused(400, "want true or false", "CreateNetwork", body)
			continue
		}
		d.ok("CreateNetwork", body)
		d.story(made + c.story)
	}
}

func TestPools(t *testing.T) {
	others := createNetwork(netA)
	others["IPv4Data"] = []object{{"AddressSpace": "LocalDefault", "Pool": "172.20.0.0/16"}}
	aux := createNetwork(netA)
	aux["IPv4Data"] = []object{{"AddressSpace": "weft", "Pool": "10.32.0.0/20", "AuxAddresses": object{"router": "10.9.0.1/20"}}}
	badAux := createNetwork(netA)
	badAux["IPv4Data"] = []object{{"AddressSpace": "weft", "Pool": "10.32.0.0/20", "AuxAddresses": object{"router": "router"}}}
	swapped := createNetwork(netA)
	swapped["IPv4Data"] = []object{pool("fd00::/64")}
	for says, body := range map[string]object{
		"has no subnet of Weft's: create it with --ipam-driver":                                       createNetwork(netA),
		`pool 172.20.0.0/16 comes from the IPAM driver of address space "LocalDefault"`:               others,
		`auxiliary address router="10.9.0.1/20" is not in pool 10.32.0.0/20`:                          aux,
		`auxiliary address router="router" is not in pool`:                                            badAux,
		`pool "fd00::/64" is no subnet of the field's family`:                                         swapped,
		`pool "10.32.0.0" is no subnet`:                                                               createNetwork(netA, "10.32.0.0"),
		`pool "" is no subnet`:                                                                        createNetwork(netA, ""),
		`pool "::ffff:10.0.0.0/120" is no subnet`:                                                     createNetwork(netA, "::ffff:10.0.0.0/120"),
		"at most one IPv4 and one IPv6 subnet, and this one asks for 10.32.0.0/20 and 10.40.0.0/16, ": createNetwork(netA, "10.32.0.0/20", "10.40.7.9/16"),
		"NetworkID is empty": createNetwork("", "10.32.0.0/20"),
		"at most one IPv4 and one IPv6 subnet, and this one asks for fd00::/64 and fd01::/64, ": createNetwork(netA, "10.32.0.0/20", "fd00::/64", "fd01::/64"),
		`pool "` + strings.Repeat("1", 79): createNetwork(netA, strings.Repeat("1", 5000)),
	} {
		d := inMemory(t, attachtest.New())
		d.refused(400, says, "CreateNetwork", body)
		d.story("")
	}
	d := inMemory(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.40.7.9/16", "fd00::/64"))
	d.story("ledger: docker aaaaaaaaaaaa makes network 1 10.40.0.0/16 fd00::/64")
	d.ok("CreateNetwork", createNetwork(netA, "10.40.0.0/16", "fd00::/64"))
	d.story("")
}
