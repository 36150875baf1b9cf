package cni

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

// TestWhatAContainerAsksFor: addresses and names come by every way that runtimes have for them.
func TestWhatAContainerAsksFor(t *testing.T) {
	for _, c := range []struct {
		what, conf, args string
		addrs, name      string
		wrong            string
	}{
		{what: "nothing", conf: `{}`, name: "0c9c5da7-1106.x-y"},
		{what: "by the capability", conf: `{"runtimeConfig": {"ips": ["10.1.2.3/16", "fd00::1"]}}`, addrs: "10.1.2.3 fd00::1", name: "0c9c5da7-1106.x-y"},
		{what: "by the conventions", conf: `{"args": {"cni": {"ips": ["10.1.2.3"], "labels": [{"key": "tier", "value": "x"}, {"key": "name", "value": "web"}]}}}`, addrs: "10.1.2.3", name: "web"},
		{what: "as Mesos", conf: `{"args": {"org.apache.mesos": {"network_info": {"name": "n", "ip_addresses": [{"protocol": "IPv4"}, {"ip_address": "10.1.2.3"}], "labels": {"labels": [{"key": "name", "value": "a b/c"}]}}}}}`, addrs: "10.1.2.3", name: "a-b-c"},
		{what: "by CNI_ARGS", conf: `{}`, args: "IP=10.1.2.3;K8S_POD_NAME=redis-0;K8S_POD_UID=7", addrs: "10.1.2.3", name: "redis-0"},
		{what: "no address", conf: `{"runtimeConfig": {"ips": ["10.1.2"]}}`, wrong: `"10.1.2"`, name: "0c9c5da7-1106.x-y"},
		{what: "no CNI_ARGS", conf: `{}`, args: "IP", wrong: "CNI_ARGS", name: "0c9c5da7-1106.x-y"},
	} {
		conf, err := parse([]byte(c.conf))
		if err != nil {
			t.Fatal(err)
		}
		args := &skel.CmdArgs{ContainerID: "0c9c5da7-1106.x:y", Args: c.args}
		addrs, err := conf.wanted(args)
		if got := strings.Trim(fmt.Sprint(addrs), "[]"); got != c.addrs || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: wants %q, %v; want %q, an error with %q", c.what, got, err, c.addrs, c.wrong)
		}
		if got := conf.containerName(args); got != c.name {
			t.Errorf("%s: is called %q, want %q", c.what, got, c.name)
		}
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	for conf, code := range map[string]uint{
		`{"name": `:        types.ErrDecodingFailure,
		`{"network": 7}`:   types.ErrDecodingFailure,
		`{"args": "none"}`: types.ErrDecodingFailure,
		`{"name": "n", "ipam": {"type": "host-local"}}`: types.ErrInvalidNetworkConfig,
	} {
		_, err := parse([]byte(conf))
		if e, ok := errors.AsType[*types.Error](err); !ok || e.Code != code {
			t.Errorf("%s: %v, want an error of code %d", conf, err, code)
		}
	}
	if _, err := parse([]byte(`{"name": "n", "ipam": {"type": "weft-cni"}}`)); err != nil {
		t.Errorf("its own name as ipam.type: %v", err)
	}
}

// TestEndpointIDs: the agent takes them, they differ by container, interface and configuration, and those of a
// configuration are found.
func TestEndpointIDs(t *testing.T) {
	form, seen := regexp.MustCompile(`^[0-9a-f]{64}$`), map[netmap.EndpointID]bool{}
	for _, conf := range []string{"a", "b"} {
		for _, container := range []string{"x", "x/eth0", ""} {
			for _, ifname := range []string{"eth0", "eth1"} {
				id := endpointID(conf, container, ifname)
				if !form.MatchString(string(id)) || seen[id] || !strings.HasSuffix(string(id), ofConfiguration(conf)) {
					t.Errorf("%s of %s by %s is called %s", ifname, container, conf, id)
				}
				seen[id] = true
			}
		}
	}
}

// TestCodes: a runtime tries again what may succeed later, and nothing else.
func TestCodes(t *testing.T) {
	got := map[string]uint{}
	for what, err := range map[string]error{
		"no agent": fmt.Errorf("dial: %w", api.ErrNoAgent), "busy": netmap.Refuse(netmap.Busy, "x"), "no majority": netmap.Refuse(netmap.NoQuorum, "x"),
		"held": fmt.Errorf("ipam: %w", netmap.Refuse(netmap.Held, "x")), "outside": netmap.Refuse(netmap.Outside, "x"), "another": errors.New("x"),
		"one of CNI's": types.NewError(types.ErrInvalidNetNS, "x", ""),
	} {
		if e, ok := errors.AsType[*types.Error](coded(err)); ok {
			got[what] = e.Code
		}
	}
	want := map[string]uint{
		"no agent": 11, "busy": 11, "no majority": 11, "held": 101, "outside": types.ErrInvalidNetworkConfig, "another": types.ErrInternal,
		"one of CNI's": types.ErrInvalidNetNS,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if coded(nil) != nil {
		t.Error("success has a code")
	}
}

func TestPrevResultThatCannotBeRead(t *testing.T) {
	conf, err := parse([]byte(`{"cniVersion": "1.0.0", "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.1"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resultBefore(conf); err == nil {
		t.Error("it is accepted")
	}
}
