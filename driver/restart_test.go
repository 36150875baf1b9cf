package driver_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/attach/attachtest"
	"github.com/weftnet/weft/netmap"
)

func TestARestartRemembersWhatDockerDoesNotRepeat(t *testing.T) {
	d := overSocket(t, attachtest.New())
	body := withOptions(object{"weft.network": "shop", "weft.mtu": "1400", "weft.multicast": "false"}, "10.32.0.0/20", "fd00::/64")
	d.ok("CreateNetwork", body)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.ok("Join", about(netA, end1))
	d.ok("CreateEndpoint", createEndpoint(netA, end2, "10.32.0.3/20"))
	networks, endpoints := d.attach.Networks(), d.attach.Endpoints()

	again := overSocket(t, d.host)
	if diff := cmp.Diff(networks, again.attach.Networks(), cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("networks (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(endpoints, again.attach.Endpoints(), cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("endpoints (-before +after):\n%s", diff)
	}
	_ = again.host.Story()
	again.ok("CreateNetwork", body)
	again.ok("EndpointOperInfo", about(netA, end1))
	again.story("")
	again.ok("Leave", about(netA, end1))
	again.ok("DeleteEndpoint", about(netA, end1))
	again.ok("DeleteEndpoint", about(netA, end2))
	again.ok("DeleteNetwork", object{"NetworkID": netA})
	again.holds("")
}

// TestAHostThatRebooted: after a reboot dockerd sends Leave and DeleteEndpoint for the containers
// that it had. Their ports do not exist any more.
func TestAHostThatRebooted(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.ok("Join", about(netA, end1))
	d.host.Reboot()
	d = overSocket(t, d.host)
	d.ok("Leave", about(netA, end1))
	d.ok("DeleteEndpoint", about(netA, end1))
	d.ok("CreateEndpoint", createEndpoint(netA, end2, "10.32.0.2/20"))
	d.ok("Join", about(netA, end2))
	d.holds(`ledger: network 1 10.32.0.0/20
		fact: endpoint 222222222222 at 10.32.0.2 02:57:0a:20:00:02 in network 1
		port: endpoint 222222222222 at 10.32.0.2 02:57:0a:20:00:02 in network 1
		disk: endpoint 222222222222
		disk: network aaaaaaaaaaaa`)
}

// TestWhatDockerDeletedWhileNobodyAnswered: the agent compares its records with Docker's list and
// removes what Docker does not have.
func TestWhatDockerDeletedWhileNobodyAnswered(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.ok("Join", about(netA, end1))
	_ = d.host.Story()
	d = overSocket(t, d.host)
	for range 2 {
		if err := d.attach.Of(netmap.OwnerDocker).ForgetEndpoint(t.Context(), netmap.EndpointID(end1)); err != nil {
			t.Error(err)
		}
	}
	d.story(gone)
	for range 2 {
		if err := d.attach.Of(netmap.OwnerDocker).ForgetNetwork(t.Context(), netA); err != nil {
			t.Error(err)
		}
	}
	d.story("ledger: docker aaaaaaaaaaaa leaves network 1")
	d.holds("")
}

func TestADamagedDiskIsNamed(t *testing.T) {
	for key, value := range map[string]string{
		"network/n1":  `{"id":`,
		"network/n2":  `{"owner":"docker","id":"n3"}`,
		"network/n4":  `null`,
		"endpoint/e1": `{"endpoint":{"mac":"x"}}`,
		"endpoint/e2": `{}`,
		"other/o1":    `{}`,
	} {
		host := attachtest.New()
		if err := host.Commit(map[string][]byte{key: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		_, err := attach.New(host.Config())
		if err == nil || !strings.Contains(err.Error(), "the record "+key+" on disk is damaged") || !strings.Contains(err.Error(), "weft cleanup") {
			t.Errorf("%s: %v", key, err)
		}
	}
	host := attachtest.New()
	unreadable := errors.New("input/output error")
	host.Before("Load", failing(unreadable))
	if _, err := attach.New(host.Config()); !errors.Is(err, unreadable) {
		t.Errorf("unreadable: %v", err)
	}
}

func samePrefix(a, b netip.Prefix) bool { return a == b }
func sameAddr(a, b netip.Addr) bool     { return a == b }
