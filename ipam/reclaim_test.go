package ipam_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
)

// TestWhatARemovedHostHadComesLast: addresses that a removed host had are handed out after all that
// were never used, also after a restart. An address that is in use stays in use.
func TestWhatARemovedHostHadComesLast(t *testing.T) {
	synctest.Test(t, testWhatARemovedHostHadComesLast)
}

func testWhatARemovedHostHadComesLast(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "one")
	id := r.network("10.40.0.0/24", "")
	held := addrOf(r.hold(r.get(id, "")))
	block := r.Inventory()[0].Blocks[0].Prefix
	late := held.Next().Next()
	if !block.Contains(late) {
		t.Fatalf("%s is not in %s", late, block)
	}
	for range 2 { // the ledger may say it again
		if err := r.QueueLast([]netip.Addr{late, held, netip.MustParseAddr("192.0.2.1")}); err != nil {
			t.Fatal(err)
		}
	}
	r = r.restart()
	r.hold(netip.PrefixFrom(held, 24).String())
	if got := r.Inventory()[0].Held; len(got) != 1 || got[0] != held {
		t.Fatalf("held is %v, want %s alone", got, held)
	}
	for addrOf(r.get(id, "")) != late {
		synctest.Wait() // a further block is taken into use when one runs short
	}
	if free := r.Inventory()[0].Free; free != 0 {
		t.Errorf("%s was handed out before %d others", late, free)
	}
}

// TestResetIdentityKeepsWhatContainersHold: an identity reset keeps the addresses that containers
// hold and nothing else. It can be repeated.
func TestResetIdentityKeepsWhatContainersHold(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "one")
	id := r.network("10.40.0.0/24", "")
	held, gone := r.hold(r.get(id, "")), r.get(id, "")
	r.release(id, gone)
	r.Close()
	for range 2 {
		records, err := r.disk.Load()
		if err != nil {
			t.Fatal(err)
		}
		set, del, err := ipam.ResetIdentity(records)
		if err == nil {
			err = r.disk.Commit(set, del...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// The same disk under another identity. The addresses still belong to the old one.
	other := boot(t, &rig{t: t, host: l.Host("two"), disk: r.disk})
	other.hold(held)
	stock := other.Inventory()[0]
	if len(stock.Blocks) != 0 || len(stock.Held) != 1 || stock.Held[0] != addrOf(held) {
		t.Errorf("it has %+v", stock)
	}
	if got := other.Unconfirmed(); len(got) != 1 || got[0] != addrOf(held) || other.Confirmed(got[0]) {
		t.Errorf("unconfirmed is %v", got)
	}
	if got := other.Unregistered(); len(got) != 1 {
		t.Errorf("unregistered are %v", got)
	}
	// The container here loses the address that the other host holds. Docker releases it later.
	if err := other.Evict(addrOf(held)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ask(as("dockerd 2"), id, held); err == nil {
		t.Error("a lost address was given")
	}
	other = other.restart()
	other.hold(held)
	if len(other.Unconfirmed()) != 0 || other.Confirmed(addrOf(held)) {
		t.Errorf("after a restart unconfirmed is %v", other.Unconfirmed())
	}
	other.endpoints.Delete(addrOf(held))
	other.release(id, held)
	if got := other.Inventory()[0].Held; len(got) != 0 {
		t.Errorf("held is %v", got)
	}
}
