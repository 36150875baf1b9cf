package ipam_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

// uses waits until the sweep has told the ledger, and compares the subnets that the ledger knows
// this host to use.
func (r *rig) uses(want ...string) {
	r.t.Helper()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	if diff := cmp.Diff(want, r.host.Uses()); diff != "" {
		r.t.Errorf("subnets that the host uses according to the ledger (-want +got):\n%s", diff)
	}
}

// TestWhatAnOlderDiskDoesNotKnowGoesBack: the ledger lists blocks and claims of this host in a
// subnet of which the disk, an older copy, has no record. The host returns them.
func TestWhatAnOlderDiskDoesNotKnowGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r := start(t, l, "host-a")
		web := r.network("10.40.0.0/24", "")
		r.get(web, "")
		old := r.disk.Copy()
		db := r.network("10.41.0.0/24", "")
		r.get(db, "")
		r.get(db, "10.41.0.200")
		r.uses("10.40.0.0/24", "10.41.0.0/24")
		r.Close()
		r = boot(t, &rig{t: t, host: r.host, disk: old})
		r.uses("10.40.0.0/24")
		if w, _ := r.host.SubnetFacts(netip.MustParsePrefix("10.41.0.0/24")); len(w.Blocks)+len(w.Claims) > 0 {
			t.Errorf("left in the ledger: %+v", w)
		}
		if w, _ := r.host.SubnetFacts(netip.MustParsePrefix("10.40.0.0/24")); len(w.Blocks) != 1 {
			t.Errorf("in use, and in the ledger is %+v", w)
		}
	})
}

// TestASubnetWhoseAnswerWasLostGoes: the host that asked for a subnet never learns which one the
// ledger chose.
func TestASubnetWhoseAnswerWasLostGoes(t *testing.T) {
	for name, lose := range map[string]func(*rig) (mend func()){
		"on its way": func(r *rig) func() { r.host.LoseAnswer(); return func() {} },
		"on a disk that is full": func(r *rig) func() {
			r.disk.Fail(errors.New("no space left on device"))
			return func() { r.disk.Fail(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, ipamtest.NewLedger(), "host-a")
				r.network("10.40.0.0/24", "")
				r.uses("10.40.0.0/24") // what a start tells is told
				mend := lose(r)
				if _, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft"}); err == nil {
					t.Fatal("a pool was answered")
				}
				if got := r.host.Uses(); len(got) != 2 {
					t.Fatalf("the ledger knows of %q, and was to decide", got)
				}
				mend()
				r.uses("10.40.0.0/24")
			})
		})
	}
}

// TestASubnetOnItsWayIsNotReleased: it is asked for while the ledger is about to be told
// which ones are used.
func TestASubnetOnItsWayIsNotReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		time.Sleep(time.Minute - time.Millisecond) // the first sweep is next
		r.host.Cut()
		made := make(chan error)
		go func() {
			_, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0/24"})
			made <- err
		}()
		time.Sleep(time.Second)
		r.host.Heal()
		if err := <-made; err != nil {
			t.Fatal(err)
		}
		r.uses("10.40.0.0/24")
	})
}

// TestNobodySpeaksForTheNewestDisk: one that may hand out nothing new may be an older
// one, and what it does not know of may be in use.
func TestNobodySpeaksForTheNewestDisk(t *testing.T) {
	for name, last := range map[string]bool{"fenced": false, "booted, and with nobody to ask": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, ipamtest.NewLedger(), "host-a")
				old := r.disk.Copy()
				r.network("10.40.0.0/24", "")
				r.Close()
				r = &rig{t: t, host: r.host, disk: old}
				bar := error(netmap.Refuse(netmap.Fenced, "an older disk"))
				r.barred.Store(&bar)
				r.last.Store(last)
				boot(t, r)
				r.uses("10.40.0.0/24")
				r.barred.Store(nil)
				r.uses()
			})
		})
	}
}

// TestAReleaseIsToldUntilItIsHeard, over a restart, too.
func TestAReleaseIsToldUntilItIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		r.network("10.40.0.0/24", "")
		r.network("10.41.0.0/24", "")
		r.uses("10.40.0.0/24", "10.41.0.0/24")
		r.host.Cut()
		if err := r.NetworkDeleted(docker, "net-10.40.0.0-24"); err != nil {
			t.Fatal(err)
		}
		r.uses("10.40.0.0/24", "10.41.0.0/24")
		r = r.restart()
		r.host.Heal()
		r.uses("10.41.0.0/24")
	})
}

// TestANetworkThatNeverCameToBeKeepsNoPool: the agent ended between the pool and the
// network.
func TestANetworkThatNeverCameToBeKeepsNoPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		r.network("10.40.0.0/24", "")
		r.network("10.41.0.0/24", "")
		r.uses("10.40.0.0/24", "10.41.0.0/24")
		r.Close()
		r = &rig{t: t, host: r.host, disk: r.disk.Copy(), networks: []string{"net-10.41.0.0-24"}}
		boot(t, r)
		time.Sleep(90 * time.Second) // it may be on its way as long as this
		if got := r.host.Uses(); len(got) != 2 {
			t.Errorf("at once only %q", got)
		}
		r.uses("10.41.0.0/24")
		if keys := r.disk.Keys("subnet/"); !slices.Equal(keys, []string{"subnet/10.41.0.0/24"}) {
			t.Errorf("on disk: %q", keys)
		}
		if _, err := r.ReleasePool(context.Background(), ipam.PoolRelease{PoolID: "weft:10.41.0.0/24"}); err != nil {
			t.Error(err)
		}
		r.uses("10.41.0.0/24")
	})
}
