package ipam_test

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

// isUsing has somebody use addresses that no endpoint has; an empty who ends that.
func (r *rig) isUsing(who string, addrs ...string) {
	for _, a := range addrs {
		r.used.Store(netip.MustParseAddr(a), who)
	}
}

// TestAnAddressInUseIsPassedOver as long as it is in use.
func TestAnAddressInUseIsPassedOver(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.network("10.40.0.0/24", "")
	r.isUsing("container vip on host host-b", "10.40.0.2", "10.40.0.3", "10.40.0.6")
	for _, want := range []string{"10.40.0.4/24", "10.40.0.5/24", "10.40.0.7/24"} {
		if got := r.hold(r.get(id, "")); got != want {
			t.Errorf("handed out %s, want %s", got, want)
		}
	}
	r.isUsing("", "10.40.0.3")
	if got := r.get(id, ""); got != "10.40.0.3/24" {
		t.Errorf("handed out %s, want the address that is in use no longer", got)
	}
}

// TestAnAddressInUseIsRefused by --ip, with who has it; the container that holds it may use it.
func TestAnAddressInUseIsRefused(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.network("10.40.0.0/24", "")
	own := r.hold(r.get(id, ""))
	r.isUsing("container vip on host host-b", "10.40.0.9", addrOf(own).String())
	_, err := r.ask(docker, id, "10.40.0.9")
	r.refuses(netmap.Held, err, "10.40.0.9", "container vip on host host-b", "choose another --ip")
	if got, err := r.ask(as("dockerd 2"), id, addrOf(own).String()); err != nil || got != own {
		t.Errorf("a container that dockerd has kept: %s, %v", got, err)
	}
	r.isUsing("", "10.40.0.9")
	r.get(id, "10.40.0.9")
}

// TestWhoAnswersForAllAddressesKeepsFewBack: a quarter of a small subnet, and the error says which.
func TestWhoAnswersForAllAddressesKeepsFewBack(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.network("10.40.0.0/28", "")
	for a := netip.MustParseAddr("10.40.0.2"); a != netip.MustParseAddr("10.40.0.15"); a = a.Next() {
		r.isUsing("a hostile container", a.String())
	}
	for n := range 9 {
		if _, err := r.ask(docker, id, ""); err != nil {
			t.Fatalf("address %d: %v", n+1, err)
		}
	}
	_, err := r.ask(docker, id, "")
	r.refuses(netmap.Exhausted, err, "10.40.0.0/28", "in use by", "a hostile container")

	large := r.network("10.41.0.0/16", "")
	for a := netip.MustParseAddr("10.41.0.2"); a != netip.MustParseAddr("10.41.0.60"); a = a.Next() {
		r.isUsing("a hostile container", a.String())
	}
	if got := r.get(large, ""); got != "10.41.0.18/16" {
		t.Errorf("handed out %s, want that after 16 others", got)
	}
}
