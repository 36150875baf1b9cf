package ipam_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

// grown returns a host that held n addresses of a /24 in blocks of sixteen, and released all of them
// but those in keep.
func grown(t *testing.T, n int, keep ...int) (r *rig, l *ipamtest.Ledger, id string) {
	t.Helper()
	l = ipamtest.NewLedger()
	r = start(t, l, "host-a")
	id = r.network("10.40.0.0/24", "")
	var held []string
	for range n {
		held = append(held, r.get(id, ""))
	}
	for i, a := range held {
		if len(keep) > 0 && keep[0] == i {
			r.hold(a)
			continue
		}
		r.release(id, a)
	}
	_ = l.Story()
	return r, l, id
}

// TestEmptyBlocksGoBackAfterAWhile: the host returns empty blocks and keeps a reserve.
func TestEmptyBlocksGoBackAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l, id := grown(t, 40)
		time.Sleep(10 * time.Minute)
		if diff := cmp.Diff("", l.Story()); diff != "" {
			t.Errorf("at once (-want +got):\n%s", diff)
		}
		time.Sleep(2 * time.Minute)
		want := "host-a returns block 10.40.0.32/28\nhost-a returns block 10.40.0.16/28"
		if diff := cmp.Diff(want, l.Story()); diff != "" {
			t.Errorf("after a while (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"block/10.40.0.0/28"}, r.disk.Keys("block/")); diff != "" {
			t.Errorf("blocks on disk (-want +got):\n%s", diff)
		}
		if keys := r.disk.Keys("return/"); len(keys) > 0 {
			t.Errorf("left on disk: %q", keys)
		}
		time.Sleep(24 * time.Hour)
		if got := l.Story(); got != "" {
			t.Errorf("the reserve went: %s", got)
		}
		if got := r.get(id, ""); got != "10.40.0.2/24" {
			t.Errorf("got %s, want the one released longest ago", got)
		}
		r.Close()
	})
}

// TestABlockInUseStays: the host keeps a block in which one address is in use, and an empty block
// if it would have to ask for another one without it.
func TestABlockInUseStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l, id := grown(t, 40, 20)
		time.Sleep(time.Hour)
		want := "host-a returns block 10.40.0.32/28\nhost-a returns block 10.40.0.0/28"
		if diff := cmp.Diff(want, l.Story()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for range 13 { // leaves 2 of 16, so it has asked for another block
			r.hold(r.get(id, ""))
		}
		synctest.Wait()
		if diff := cmp.Diff("host-a wants a block within 10.40.0.0/24", l.Story()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		time.Sleep(24 * time.Hour)
		if got := l.Story(); got != "" {
			t.Errorf("the block that it asked for: %s", got)
		}
		r.Close()
	})
}

// TestAReturnSurvivesWhateverHappens: while a block is being returned the disk fails, the ledger
// cannot be reached, the answer is lost or the agent is killed. The block is never used again under
// the old grant, and in the end the ledger has it.
func TestAReturnSurvivesWhateverHappens(t *testing.T) {
	for name, fault := range map[string]func(*rig) *rig{
		"the disk fails": func(r *rig) *rig {
			r.disk.Fail(errors.New("disk is full"))
			time.Sleep(12 * time.Minute)
			if got := len(r.disk.Keys("block/")); got != 3 {
				t.Errorf("%d blocks on disk", got)
			}
			r.disk.Fail(nil)
			return r
		},
		"the ledger is away": func(r *rig) *rig {
			r.host.Cut()
			time.Sleep(30 * time.Minute)
			if got := len(r.disk.Keys("return/")); got != 1 {
				t.Errorf("%d returns wait, want one: nothing goes while the ledger does not hear", got)
			}
			r.host.Heal()
			return r
		},
		"the answer is lost": func(r *rig) *rig {
			time.Sleep(9 * time.Minute)
			r.host.LoseAnswer()
			time.Sleep(3 * time.Minute)
			return r
		},
		"killed before the ledger heard": func(r *rig) *rig {
			r.host.Cut()
			time.Sleep(12 * time.Minute)
			next := r.restart()
			r.host.Heal()
			return next
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l, id := grown(t, 40)
				other := start(t, l, "host-b")
				other.network("10.40.0.0/24", "")
				r = fault(r)
				time.Sleep(20 * time.Minute)
				if keys := r.disk.Keys("block/"); len(keys) != 1 {
					t.Errorf("blocks on disk: %q, want one", keys)
				}
				if keys := r.disk.Keys("return/"); len(keys) > 0 {
					t.Errorf("left on disk: %q", keys)
				}
				takeApart(t, id, r, other)
				r.Close()
				other.Close()
			})
		})
	}
}

// takeApart lets each host take a hundred addresses of a pool and checks that no two are the same.
func takeApart(t *testing.T, pool string, hosts ...*rig) {
	t.Helper()
	seen := map[string]int{}
	for range 100 {
		for n, h := range hosts {
			a := h.get(pool, "")
			if by, twice := seen[a]; twice {
				t.Fatalf("%s is held on hosts %d and %d", a, by, n)
			}
			seen[a] = n
		}
	}
}

// TestAGrantOfBeforeIsNotTakenAfterAReturn: the host asks the ledger for its blocks while a return
// is on disk of which the ledger was not told yet.
func TestAGrantOfBeforeIsNotTakenAfterAReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l, id := grown(t, 40)
		time.Sleep(9 * time.Minute)
		r.host.Cut()
		time.Sleep(4 * time.Minute) // one return is on disk
		r = r.restart()             // a new start asks what is its own
		r.host.Heal()
		_ = l.Story()
		for range 40 {
			r.get(id, "")
		}
		if diff := cmp.Diff([]string{"block/10.40.0.0/28", "block/10.40.0.16/28", "block/10.40.0.48/28"}, r.disk.Keys("block/")); diff != "" {
			t.Errorf("blocks on disk (-want +got):\n%s\n%s", diff, l.Story())
		}
		r.Close()
	})
}

// TestAStaticAddressGoesBackAfterAWhile: the host returns a claim outside of its own blocks, also
// if a container asked for the address again before the ledger was told.
func TestAStaticAddressGoesBackAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r, other := start(t, l, "host-a"), start(t, l, "host-b")
		id := r.network("10.40.0.0/24", "")
		other.network("10.40.0.0/24", "")
		r.hold(r.get(id, "10.40.0.99"))
		time.Sleep(time.Hour)
		r.endpoints.Clear()
		r.release(id, "10.40.0.99")
		time.Sleep(9 * time.Minute)
		r.get(id, "10.40.0.99") // it is kept for a while
		r.release(id, "10.40.0.99")
		time.Sleep(9 * time.Minute)
		r.host.Cut()
		time.Sleep(3 * time.Minute)
		if keys := r.disk.Keys("claim/"); len(keys) > 0 {
			t.Errorf("left on disk: %q", keys)
		}
		begin := time.Now()
		if _, err := r.ask(docker, id, "10.40.0.99"); err == nil || time.Since(begin) > 5*time.Second {
			t.Errorf("handed out without an answer of the ledger, or too late: %v, %v", err, time.Since(begin))
		}
		r.host.Heal()
		r.hold(r.get(id, "10.40.0.99"))
		time.Sleep(5 * time.Minute)
		if _, err := other.ask(docker, id, "10.40.0.99"); err == nil || !strings.Contains(err.Error(), "held by") {
			t.Errorf("host-b got what host-a holds: %v", err)
		}
		r.endpoints.Clear()
		r.release(id, "10.40.0.99")
		time.Sleep(15 * time.Minute)
		r.host.Cut() // the holder of before need not answer
		other.get(id, "10.40.0.99")
		r.host.Heal()
		r.Close()
		other.Close()
	})
}

// TestWhatWasGrantedUnheardGoesBack: the answers to a claim and to a prefetch are lost, and no
// container asks again.
func TestWhatWasGrantedUnheardGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r := start(t, l, "host-a")
		id := r.network("10.40.0.0/24", "")
		r.host.LoseAnswer()
		if _, err := r.ask(docker, id, "10.40.0.99"); err == nil {
			t.Fatal("the answer was not lost")
		}
		r.host.LoseAnswer()
		if _, err := r.ask(docker, id, ""); err == nil {
			t.Fatal("the answer was not lost")
		}
		_ = l.Story()
		time.Sleep(5 * time.Minute)
		want := "host-a returns block 10.40.0.0/28\nhost-a returns 10.40.0.99"
		if diff := cmp.Diff(want, l.Story()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		r.hold(r.get(id, "10.40.0.99"))
		r.hold(r.get(id, ""))
		time.Sleep(time.Hour)
		if facts, _ := r.host.SubnetFacts(netip.MustParsePrefix("10.40.0.0/24")); len(facts.Blocks) != 1 || len(facts.Claims) != 1 {
			t.Errorf("the ledger says %+v", facts)
		}
		r.Close()
	})
}

// TestAReleaseOfTheSubnetWaitsForAReturn that is being written.
func TestAReleaseOfTheSubnetWaitsForAReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := grown(t, 40)
		time.Sleep(9*time.Minute + 30*time.Second)
		resume := r.disk.Stall()
		time.Sleep(2 * time.Minute)
		gone := make(chan error, 1)
		go func() { gone <- r.NetworkDeleted(docker, "net-10.40.0.0-24") }()
		synctest.Wait()
		resume()
		if err := <-gone; err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Minute)
		r = r.restart()
		if keys := r.disk.Keys(""); len(keys) > 0 {
			t.Errorf("left on disk: %q", keys)
		}
		r.Close()
	})
}

// TestAStaticAddressOfALeavingBlockWaits until the block has left.
func TestAStaticAddressOfALeavingBlockWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, id := grown(t, 40)
		time.Sleep(9*time.Minute + 30*time.Second)
		resume := r.disk.Stall()
		time.Sleep(2 * time.Minute)
		got := make(chan error, 1)
		go func() {
			_, err := r.ask(docker, id, "10.40.0.40")
			got <- err
		}()
		synctest.Wait()
		resume()
		if err := <-got; err != nil {
			t.Error(err)
		}
		r = r.restart()
		if _, err := r.ask(docker, id, "10.40.0.40"); !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}) {
			t.Errorf("asked twice: %v", err)
		}
		if diff := cmp.Diff([]string{"claim/10.40.0.40"}, r.disk.Keys("claim/")); diff != "" {
			t.Errorf("claims on disk (-want +got):\n%s", diff)
		}
		r.Close()
	})
}

// TestABlockGoesBackWithWhatWasInUse: a returned block has the order in which its addresses were
// released, also after a restart.
func TestABlockGoesBackWithWhatWasInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r := start(t, l, "host-a")
		id := r.network("10.40.0.0/28", "") // blocks of four
		two := r.get(id, "")
		three := r.get(id, "")
		r.release(id, three)
		r.release(id, two)
		time.Sleep(time.Minute)
		r.host.Cut()
		sub := netip.MustParsePrefix("10.40.0.0/28")
		if _, err := r.Donate(docker, sub, sub, l.Host("host-b").ID()); err == nil {
			t.Error("donated, and the ledger has not heard")
		}
		r = r.restart()
		r.host.Heal()
		time.Sleep(2 * time.Minute)
		if diff := cmp.Diff([]string{"10.40.0.3", "10.40.0.2"}, l.Late("10.40.0.0/30")); diff != "" {
			t.Errorf("late (-want +got):\n%s", diff)
		}
		r.Close()
	})
}

// TestALeavingBlockIsShown: a block that is being returned belongs to this host until the return is
// on disk, so a ledger that is recovered from the hosts' disks must be told of it.
func TestALeavingBlockIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := grown(t, 40)
		time.Sleep(9*time.Minute + 30*time.Second)
		resume := r.disk.Stall()
		time.Sleep(2 * time.Minute)
		if got := r.Inventory()[0].Blocks; len(got) != 3 || got[2].Prefix.String() != "10.40.0.32/28" {
			t.Errorf("while it leaves: %+v", got)
		}
		resume()
		time.Sleep(time.Minute)
		if got := r.Inventory()[0].Blocks; len(got) != 1 {
			t.Errorf("after it left: %+v", got)
		}
		r.Close()
	})
}
