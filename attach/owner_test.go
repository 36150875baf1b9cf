package attach_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/attach/attachtest"
	"github.com/weftnet/weft/netmap"
)

var subnet = netip.MustParsePrefix("10.32.0.0/20")

// network is the id of Docker's network in these tests.
const network = "aaaaaaaaaaaaaaaa"

// open opens the attachments that are on a host's disk.
func open(t *testing.T, host *attachtest.Host) *attach.Attachments {
	t.Helper()
	a, err := attach.New(host.Config())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// attached makes an endpoint in the owner's network and plugs its port.
func attached(t *testing.T, p attach.Part, network, id, addr string) {
	t.Helper()
	ctx := t.Context()
	if err := p.JoinNetwork(ctx, attach.NetworkRequest{ID: network, Subnets: []netip.Prefix{subnet}, Multicast: true}); err != nil {
		t.Fatal(err)
	}
	n, err := p.Network(ctx, network)
	if err != nil {
		t.Fatal(err)
	}
	e := netmap.Endpoint{ID: netmap.EndpointID(id), Network: n.ID, V4: netip.MustParseAddr(addr), MAC: netmap.MACOf(netip.MustParseAddr(addr))}
	for range 2 {
		if err := p.Attach(ctx, network, e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Plug(ctx, e.ID, ""); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, host *attachtest.Host, want string) {
	t.Helper()
	if got := host.String(); got != want {
		t.Errorf("the host holds\n%s\nwant\n%s", got, want)
	}
}

// TestOwnersShareANetwork: when one owner removes its network, the other's stays, also over a
// restart. The host leaves the cluster's network when the last owner has removed its own.
func TestOwnersShareANetwork(t *testing.T) {
	host := attachtest.New()
	a := open(t, host)
	docker, cni := a.Of(netmap.OwnerDocker), a.Of(netmap.OwnerCNI)
	attached(t, docker, network, "111111111111", "10.32.0.2")
	attached(t, cni, "cni/overlay", "222222222222", "10.32.0.3")
	if n := a.Networks(); len(n) != 2 || n[0].Network.ID != n[1].Network.ID {
		t.Errorf("networks %+v, want one network twice", n)
	}
	if err := docker.ForgetNetwork(t.Context(), network); err != nil {
		t.Error(err)
	}
	const left = `ledger: network 1 10.32.0.0/20 without hosts
fact: endpoint 222222222222 at 10.32.0.3 02:57:0a:20:00:03 in network 1
port: endpoint 222222222222 at 10.32.0.3 02:57:0a:20:00:03 in network 1
disk: endpoint 222222222222
disk: network cni/overlay`
	holds(t, host, left)

	a = open(t, host)
	cni = a.Of(netmap.OwnerCNI)
	if r, ok := a.Holder(netip.MustParseAddr("10.32.0.3")); !ok || r.Owner != netmap.OwnerCNI || !r.Joined {
		t.Errorf("after a restart the address is held by %+v, %v", r, ok)
	}
	if err := cni.ForgetEndpoint(t.Context(), "222222222222"); err != nil {
		t.Error(err)
	}
	if err := cni.ForgetNetwork(t.Context(), "cni/overlay"); err != nil {
		t.Error(err)
	}
	holds(t, host, "")
}

// TestAnOwnerReachesOnlyItsPart: networks and endpoints of another owner are unknown to an owner,
// and no call of its changes them.
func TestAnOwnerReachesOnlyItsPart(t *testing.T) {
	host := attachtest.New()
	a := open(t, host)
	docker, cni := a.Of(netmap.OwnerDocker), a.Of(netmap.OwnerCNI)
	attached(t, cni, "cni/overlay", "222222222222", "10.32.0.3")
	before := host.String()
	ctx, addr := t.Context(), netip.MustParseAddr("10.32.0.3")
	for what, err := range map[string]error{
		"forget the endpoint": docker.ForgetEndpoint(ctx, "222222222222"),
		"forget the network":  docker.ForgetNetwork(ctx, "cni/overlay"),
		"detach":              docker.Detach(ctx, "222222222222"),
		"release":             docker.Released(ctx, addr),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(docker.Networks())+len(docker.Endpoints()) > 0 {
		t.Errorf("Docker is shown networks %+v and endpoints %+v", docker.Networks(), docker.Endpoints())
	}
	if _, known := docker.Endpoint("222222222222"); known {
		t.Error("Docker knows the endpoint")
	}
	if _, err := docker.Plug(ctx, "222222222222", ""); !errors.Is(err, &netmap.Refusal{Kind: netmap.Unknown}) {
		t.Errorf("plug: %v", err)
	}
	if _, err := docker.Network(ctx, "cni/overlay"); !errors.Is(err, &netmap.Refusal{Kind: netmap.Unknown}) {
		t.Errorf("network: %v", err)
	}
	again := netmap.Endpoint{ID: "222222222222", Network: 1, V4: addr, MAC: netmap.MACOf(addr)}
	if err := docker.Attach(ctx, network, again); !errors.Is(err, &netmap.Refusal{Kind: netmap.Conflict}) {
		t.Errorf("attach the same endpoint: %v", err)
	}
	again.ID = "111111111111"
	if err := docker.Attach(ctx, network, again); err == nil || !strings.Contains(err.Error(), "10.32.0.3 is held by endpoint 222222222222") {
		t.Errorf("attach the same address: %v", err)
	}
	holds(t, host, before)
}

// TestIDsOfOwnersNeverMeet: the id of a network names its owner.
func TestIDsOfOwnersNeverMeet(t *testing.T) {
	a := open(t, attachtest.New())
	for owner, id := range map[netmap.Owner]string{netmap.OwnerDocker: "cni/overlay", netmap.OwnerCNI: network, netmap.OwnerHost: "cni/overlay"} {
		err := a.Of(owner).JoinNetwork(t.Context(), attach.NetworkRequest{ID: id, Subnets: []netip.Prefix{subnet}})
		if !errors.Is(err, &netmap.Refusal{Kind: netmap.BadInput}) {
			t.Errorf("%s %s: %v", owner, id, err)
		}
	}
}
