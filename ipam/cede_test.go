package ipam_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
)

// late is a ledger that delays its answer to a request for a block.
type late struct {
	ipam.Decisions
	decided, answer chan struct{}
}

func (l late) GrantBlock(ctx context.Context, r ipam.BlockRequest) ([]netmap.Block, []netmap.Claim, error) {
	blocks, claims, err := l.Decisions.GrantBlock(ctx, r)
	l.decided <- struct{}{}
	<-l.answer
	return blocks, claims, err
}

// granted returns two hosts on a network with blocks of four addresses. The first host has a claim
// to 10.40.0.3, which is free, and gets the ledger's answers to its grants late.
func granted(t *testing.T) (r, other *rig, id string, slow late) {
	t.Helper()
	l := ipamtest.NewLedger()
	r, other = start(t, l, "one"), start(t, l, "two")
	id = r.network("10.40.0.0/28", "")
	other.network("10.40.0.0/28", "")
	r.release(id, bare(r.get(id, "10.40.0.3")))
	slow = late{r.host, make(chan struct{}), make(chan struct{})}
	r.through(slow)
	return r, other, id, slow
}

// TestWhatWasCededMeanwhileIsNotGranted: the ledger grants a block that contains an address which
// this host had claimed, so the grant does not list it as another host's. Before the answer
// arrives the host cedes that address.
func TestWhatWasCededMeanwhileIsNotGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, other, id, slow := granted(t)
		first := make(chan string)
		go func() { first <- r.get(id, "") }()
		<-slow.decided
		if got := other.get(id, "10.40.0.3"); bare(got) != "10.40.0.3" {
			t.Fatalf("ceded %s", got)
		}
		close(slow.answer)
		go func() {
			for range slow.decided { // further blocks come at once
			}
		}()
		mine := map[string]bool{<-first: true}
		for range 6 {
			mine[r.get(id, "")] = true
		}
		close(slow.decided)
		if mine["10.40.0.3/28"] {
			t.Errorf("10.40.0.3 was ceded, and handed out all the same: %v", mine)
		}
	})
}

// TestWhatIsBeingCededIsNotGranted: a grant arrives for a block with an address that this host is
// ceding, while the cession is not on disk yet.
func TestWhatIsBeingCededIsNotGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, other, id, slow := granted(t)
		mine := make(chan string)
		go func() { mine <- r.get(id, "") }()
		<-slow.decided
		resume := r.disk.Stall()
		theirs := make(chan string)
		go func() { theirs <- other.get(id, "10.40.0.3") }()
		synctest.Wait() // the cession is being written
		close(slow.answer)
		synctest.Wait() // so is the block
		resume()
		if a := <-theirs; bare(a) != "10.40.0.3" {
			t.Errorf("ceded %s", a)
		}
		if a := <-mine; bare(a) == "10.40.0.3" {
			t.Error("10.40.0.3 was handed out, and is ceded")
		}
		if keys := r.disk.Keys("foreign/"); len(keys) != 1 || keys[0] != "foreign/10.40.0.3" {
			t.Errorf("another host's by the disk: %q", keys)
		}
	})
}

// TestWhatWasClaimedAfterAGrantStays: the ledger grants a block in which one address belongs to
// another host. Before the answer arrives this host claims that address.
func TestWhatWasClaimedAfterAGrantStays(t *testing.T) {
	for name, stall := range map[string]bool{"before the block is written down": false, "while it is": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ipamtest.NewLedger()
				r, other := start(t, l, "one"), start(t, l, "two")
				id := r.network("10.40.0.0/28", "") // blocks of four
				other.network("10.40.0.0/28", "")
				other.release(id, bare(other.get(id, "10.40.0.3")))
				slow := late{r.host, make(chan struct{}), make(chan struct{})}
				r.through(slow)
				first, claimed := make(chan string), make(chan string)
				go func() { first <- r.get(id, "") }()
				<-slow.decided
				resume := func() {}
				if stall {
					resume = r.disk.Stall()
					close(slow.answer)
					synctest.Wait()
				}
				go func() { claimed <- r.get(id, "10.40.0.3") }()
				synctest.Wait()
				resume()
				if a := <-claimed; bare(a) != "10.40.0.3" {
					t.Fatalf("claimed %s", a)
				}
				if !stall {
					close(slow.answer)
				}
				<-first
				if keys := r.disk.Keys("claim/"); len(keys) != 1 {
					t.Errorf("claims on disk: %q", keys)
				}
				for range 2 {
					if s := r.Inventory()[0]; len(s.Claims) != 1 || len(s.Held) != 2 {
						t.Errorf("has %+v", s)
					}
					r = r.restart()
				}
			})
		})
	}
}

// TestAClaimThatWasNotCededAfterAllStays: the block that contains a claim is written to disk while
// the claim is being ceded, and then the write of the cession fails.
func TestAClaimThatWasNotCededAfterAllStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "one")
		id := r.network("10.40.0.0/28", "")
		r.get(id, "10.40.0.3")
		r.get(id, "") // brings its block
		if err := r.disk.Commit(map[string][]byte{"foreign/10.40.0.3": []byte(`"000000000000000000000000000000bb"`)}); err != nil {
			t.Fatal(err)
		}
		if s := r.restart().Inventory()[0]; len(s.Claims) != 1 {
			t.Errorf("claims %v", s.Claims)
		}
	})
}

// TestNothingStaysOfAClaimThatWasOvertaken: a grant lists an address as another host's, which this
// host has claimed meanwhile. When the host returns the claim, the address belongs to the block, as
// in the ledger, also after a restart.
func TestNothingStaysOfAClaimThatWasOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "one")
		id := r.network("10.40.0.0/28", "")
		a := r.hold(r.get(id, "10.40.0.3"))
		r.get(id, "") // brings its block
		if err := r.disk.Commit(map[string][]byte{"foreign/10.40.0.3": []byte(`"000000000000000000000000000000bb"`)}); err != nil {
			t.Fatal(err)
		}
		r.endpoints.Clear()
		r.release(id, bare(a))
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if keys := append(r.disk.Keys("claim/"), r.disk.Keys("foreign/")...); len(keys) != 0 {
			t.Errorf("on disk %q", keys)
		}
	})
}

// lateDonation delays the first answer of a host that donates.
type lateDonation struct {
	*ipamtest.Host
	first           *sync.Once
	decided, answer chan struct{}
}

func (l lateDonation) AskOthers(ctx context.Context, r ipam.BlockRequest) (ipam.Donation, error) {
	got, err := l.Host.AskOthers(ctx, r)
	l.first.Do(func() {
		close(l.decided)
		<-l.answer
	})
	return got, err
}

// TestWhatWasDonatedAndCededBackIsNotHandedOut: a host without free addresses gets an address of its
// own block back from another host. Before the answer arrives the other host asks for that address
// again, and gets it.
func TestWhatWasDonatedAndCededBackIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r, other := start(t, l, "one"), start(t, l, "two")
		slow := lateDonation{r.host, new(sync.Once), make(chan struct{}), make(chan struct{})}
		r.through(slow)
		id := r.network("10.40.0.0/28", "") // blocks of four
		other.network("10.40.0.0/28", "")
		r.get(id, "")
		other.release(id, bare(other.get(id, "10.40.0.3")))
		for range inThree - 2 {
			r.get(id, "")
		}
		var mine string
		asked := make(chan error)
		go func() {
			got, err := r.ask(docker, id, "")
			mine = got
			asked <- err
		}()
		<-slow.decided
		if a := other.get(id, "10.40.0.3"); bare(a) != "10.40.0.3" {
			t.Errorf("ceded back %s", a)
		}
		close(slow.answer)
		if err := <-asked; err == nil {
			t.Errorf("%s was handed out, and nothing is free", mine)
		}
		if keys := r.disk.Keys("claim/"); len(keys) > 0 {
			t.Errorf("this host's by the disk: %q", keys)
		}
	})
}
