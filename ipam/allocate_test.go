package ipam_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

var shop = netip.MustParsePrefix("10.40.0.0/24")

// cni is a container of a runtime that is not Docker.
func cni(container string) ipam.Caller { return ipam.Caller{Owner: netmap.OwnerCNI, ID: container} }

// allocates asks for an address on behalf of such a container.
func (r *rig) allocates(container, want string) (netip.Addr, error) {
	ask := ipam.Ask{Subnet: shop, Caller: cni(container)}
	if want != "" {
		ask.Want = netip.MustParseAddr(want)
	}
	return r.Allocate(context.Background(), ask)
}

func (r *rig) allocated(container, want string) netip.Addr {
	r.t.Helper()
	a, err := r.allocates(container, want)
	if err != nil {
		r.t.Fatalf("%s: %v", container, err)
	}
	return a
}

// registered returns a host on which a runtime other than Docker has joined the network.
func registered(t *testing.T) *rig {
	t.Helper()
	r := start(t, ipamtest.NewLedger(), "host-a")
	for range 2 {
		if s, err := r.Register(t.Context(), ipam.SubnetRequest{Want: shop}, "cni/shop"); err != nil || s.Prefix != shop {
			t.Fatalf("register: %+v, %v", s, err)
		}
	}
	return r
}

// TestAnotherOwnerIsServedWithoutDocker: a repeated request gets the same address again, also after
// the agent was killed, and no other caller gets it.
func TestAnotherOwnerIsServedWithoutDocker(t *testing.T) {
	r := registered(t)
	web, chosen := r.allocated("web", ""), r.allocated("db", "10.40.0.99")
	for range 2 {
		for container, had := range map[string]netip.Addr{"web": web, "db": chosen} {
			if a := r.allocated(container, ""); a != had {
				t.Errorf("%s asked again and got %s, had %s", container, a, had)
			}
			if a := r.allocated(container, had.String()); a != had {
				t.Errorf("%s asked for %s and got %s", container, had, a)
			}
		}
		if other := r.allocated("other", ""); other == web || other == chosen {
			t.Errorf("%s was given to two", other)
		}
		_, err := r.allocates("thief", web.String())
		r.refuses(netmap.Held, err, web.String())
		r = r.restart()
	}
	if err := r.Release(t.Context(), shop, web, cni("thief")); err != nil {
		t.Error(err)
	}
	if a := r.allocated("web", ""); a != web {
		t.Errorf("after another container released it web got %s, had %s", a, web)
	}
	for range 2 {
		if err := r.Release(t.Context(), shop, web, cni("web")); err != nil {
			t.Error(err)
		}
	}
	if a := r.allocated("thief", web.String()); a != web {
		t.Errorf("got %s, want the released %s", a, web)
	}
}

// TestOwnersKeepTheirAddressesFromEachOther: Docker cannot get, release or attach an address of
// another owner, and the other way round.
func TestOwnersKeepTheirAddressesFromEachOther(t *testing.T) {
	r := registered(t)
	pool := r.network(shop.String(), "")
	web := r.allocated("web", "")
	mine := r.get(pool, "")
	if addrOf(mine) == web {
		t.Fatalf("%s was given to both", web)
	}
	for _, dockerd := range []context.Context{docker, as("dockerd 2")} {
		_, err := r.ask(dockerd, pool, web.String())
		r.refuses(netmap.Held, err, web.String())
	}
	_, err := r.allocates("web", addrOf(mine).String())
	r.refuses(netmap.Held, err, mine[:len(mine)-3])
	r.release(pool, web.String())
	if err := r.Release(t.Context(), shop, addrOf(mine), cni("web")); err != nil {
		t.Error(err)
	}
	for a, owner := range map[netip.Addr]netmap.Owner{web: netmap.OwnerCNI, addrOf(mine): netmap.OwnerDocker} {
		if err := r.Attach(a, owner); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		other := map[netmap.Owner]netmap.Owner{netmap.OwnerCNI: netmap.OwnerDocker, netmap.OwnerDocker: netmap.OwnerCNI}[owner]
		r.refuses(netmap.Held, r.Attach(a, other), a.String())
	}
	if err := r.NetworkDeleted(t.Context(), "net-10.40.0.0-24"); err != nil {
		t.Error(err)
	}
	if a := r.allocated("web", ""); a != web {
		t.Errorf("after Docker removed its network web got %s, had %s", a, web)
	}
}

// TestANetworkOfAnotherOwnerIsNoneOfDockers: only another owner has a network with the subnet.
// Docker gets no address of it: it would ask for a network of another driver, and no endpoint
// would follow.
func TestANetworkOfAnotherOwnerIsNoneOfDockers(t *testing.T) {
	r := registered(t)
	_, err := r.ask(docker, r.pool(shop.String(), ""), "")
	r.refuses(netmap.Unknown, err, "--ipam-driver")
	other := start(t, ipamtest.NewLedger(), "host-b")
	other.network(shop.String(), "")
	for _, want := range []string{"", "10.40.0.99"} {
		_, err = other.allocates("web", want)
		r.refuses(netmap.Unknown, err, "join the network first")
	}
}

// TestAnotherOwnerIsAnsweredAfterTheDisk: invariant 3 holds for every caller.
func TestAnotherOwnerIsAnsweredAfterTheDisk(t *testing.T) {
	r := registered(t)
	had := r.allocated("web", "")
	full := errors.New("no space left on device")
	r.disk.Fail(full)
	if a, err := r.allocates("db", ""); !errors.Is(err, full) {
		t.Errorf("got %s, %v", a, err)
	}
	if err := r.Release(t.Context(), shop, had, cni("web")); !errors.Is(err, full) {
		t.Errorf("release: %v", err)
	}
	r.disk.Fail(nil)
	if a := r.allocated("web", ""); a == had { // it is on its way back, which the sweep finishes
		t.Errorf("%s was given back and is handed out", a)
	}
}

// TestAnAddressWithoutAnEndpointIsTakenBackFromEveryOwner: a runtime may crash after it was given
// an address and before it creates the endpoint.
func TestAnAddressWithoutAnEndpointIsTakenBackFromEveryOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registered(t)
		left, kept := r.allocated("left", ""), r.allocated("kept", "")
		if err := r.Attach(kept, netmap.OwnerCNI); err != nil {
			t.Fatal(err)
		}
		r.endpoints.Store(kept, "container kept")
		time.Sleep(5 * time.Minute)
		r.refuses(netmap.Unknown, r.Attach(left, netmap.OwnerCNI), left.String())
		if a := r.allocated("kept", ""); a != kept {
			t.Errorf("kept got %s, had %s", a, kept)
		}
		r.Close()
	})
}

// TestAHostsOwnAddress is a single one from the top, the same when it is asked for again, and no
// container's while the host has it.
func TestAHostsOwnAddress(t *testing.T) {
	r := registered(t)
	if _, err := r.Register(t.Context(), ipam.SubnetRequest{Want: shop}, "host/shop"); err != nil {
		t.Fatal(err)
	}
	own := ipam.Caller{Owner: netmap.OwnerHost, ID: "1f"}
	for range 2 {
		if a, err := r.Allocate(t.Context(), ipam.Ask{Subnet: shop, Caller: own, Host: true}); err != nil || a.String() != "10.40.0.254" {
			t.Errorf("got %s, %v", a, err)
		}
	}
	if got, err := r.allocates("a", "10.40.0.254"); !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}) {
		t.Errorf("a container gets it: %s, %v", got, err)
	}
	if a := r.allocated("b", ""); a.String() == "10.40.0.254" {
		t.Errorf("a container got %s", a)
	}
	if err := r.Release(t.Context(), shop, netip.MustParseAddr("10.40.0.254"), own); err != nil {
		t.Error(err)
	}
	if a := r.allocated("c", "10.40.0.254"); a.String() != "10.40.0.254" {
		t.Errorf("after its release: %s", a)
	}
}
