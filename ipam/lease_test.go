package ipam_test

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

func bare(a string) string { return netip.MustParsePrefix(a).Addr().String() }

// TestNothingNewWithoutALease: without a lease the host hands out no new address of any kind. All
// other calls still work.
func TestNothingNewWithoutALease(t *testing.T) {
	l := ipamtest.NewLedger()
	r, other := start(t, l, "one"), start(t, l, "two")
	id := r.network("10.40.0.0/24", "")
	other.network("10.40.0.0/24", "")
	runs, stale := r.get(id, ""), r.get(id, "")
	theirs := other.get(id, "")
	r.endpoints.Store(netip.MustParsePrefix(runs).Addr(), "web")

	var ranOut error = netmap.Refuse(netmap.Fenced, "the lease ran out")
	r.barred.Store(&ranOut)
	before := len(r.disk.Keys(""))
	for what, want := range map[string]string{
		"the next one": "", "one of its own": "10.40.0.9", "one of a free block": "10.40.0.200",
		"one of another host": bare(theirs), "one that no endpoint has": bare(stale),
	} {
		if a, err := r.ask(as("dockerd 2"), id, want); !errors.Is(err, ranOut) {
			t.Errorf("%s: %q, %v; want the lease's refusal", what, a, err)
		}
	}
	if after := len(r.disk.Keys("")); after != before {
		t.Errorf("%d records on disk became %d", before, after)
	}
	if got, err := r.ask(as("dockerd 2"), id, bare(runs)); err != nil || got != runs {
		t.Errorf("the address of a running container was repeated as %q, %v", got, err)
	}
	if _, err := r.gateway(id, ""); err != nil {
		t.Errorf("the gateway: %v", err)
	}
	r.release(id, bare(stale))

	r.barred.Store(nil)
	r.get(id, "10.40.0.9") // it was not left busy
	r.get(id, "10.40.0.200")
	r.get(id, "")
}

// TestASleepInTheMiddleIsNoticed: the lease is checked before a write, and the machine may be
// suspended for days during that write. It is checked again before the answer.
func TestASleepInTheMiddleIsNoticed(t *testing.T) {
	for _, want := range []string{"", "10.40.0.9", "10.40.0.200"} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, ipamtest.NewLedger(), "one")
			id := r.network("10.40.0.0/24", "")
			r.get(id, "")
			wake := r.disk.Stall()
			answered := make(chan error, 1)
			go func() {
				_, err := r.ask(docker, id, want)
				answered <- err
			}()
			synctest.Wait()
			var ranOut error = netmap.Refuse(netmap.NoQuorum, "the lease ran out")
			r.barred.Store(&ranOut)
			wake()
			if err := <-answered; !errors.Is(err, ranOut) {
				t.Errorf("--ip %q: %v; want the lease's refusal", want, err)
			}
			if held := r.Inventory()[0].Held; len(held) != 1 {
				t.Errorf("--ip %q: held are %v, want only what was there before", want, held)
			}
		})
	}
}
