package ipam_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam/ipamtest"
)

// TestWhatAStoppedContainerAskedForIsHandedOutLast: an address of this host's block that a stopped
// container had by --ip is handed out only if no other address is left, on this host or another.
func TestWhatAStoppedContainerAskedForIsHandedOutLast(t *testing.T) {
	l := ipamtest.NewLedger()
	a, b := start(t, l, "host-a"), start(t, l, "host-b")
	const subnet = "10.40.0.0/28" // 13 addresses for containers, in blocks of four
	id := a.network(subnet, "")
	b.network(subnet, "")
	kept := map[string]bool{}
	for _, want := range []string{a.get(id, ""), b.get(id, "")} { // each lies in an own block
		owner := a
		if len(kept) > 0 {
			owner = b
		}
		owner.release(id, want)
		if got := owner.get(id, addrOf(want).String()); got != want {
			t.Fatalf("asked for %s, got %s", want, got)
		}
		owner.release(id, want)
		kept[want] = true
	}
	for n := range 11 {
		if got := a.get(id, ""); kept[got] {
			t.Fatalf("container %d of 11 got %s, whose container may start again", n+1, got)
		}
	}
	for range 2 {
		got := a.get(id, "")
		if !kept[got] {
			t.Errorf("got %s, want one of the last two, %v", got, kept)
		}
		delete(kept, got)
	}
	if _, err := a.ask(docker, id, ""); err == nil {
		t.Error("a fourteenth address was handed out")
	}
}

// TestABlockWithWhatAStoppedContainerAskedForIsNotDonated: the host that took the block would not
// know that the address is to be handed out last.
func TestABlockWithWhatAStoppedContainerAskedForIsNotDonated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		a, b := start(t, l, "host-a"), start(t, l, "host-b")
		defer a.Close()
		defer b.Close()
		id := a.network("10.40.0.0/28", "")
		a.release(id, a.get(id, "10.40.0.2"))
		block := a.get(id, "") // the block of the first four
		a.release(id, block)
		if block != "10.40.0.3/28" {
			t.Fatalf("got %s", block)
		}
		a.release(id, a.get(id, "10.40.0.2"))
		time.Sleep(time.Minute)
		sub := netip.MustParsePrefix("10.40.0.0/28")
		var donated []string
		for range 2 {
			r, err := a.Donate(docker, sub, sub, b.host.ID())
			if err != nil {
				t.Fatal(err)
			}
			donated = append(donated, r.Claim.Addr.String())
		}
		if want := "[10.40.0.3 10.40.0.2]"; fmt.Sprint(donated) != want {
			t.Errorf("donated %v, want %s", donated, want)
		}
	})
}

// TestAReserveIsOfWhatMayBeHandedOut: free addresses that stopped containers had by --ip do not
// count as a reserve, so the host asks for another block in time.
func TestAReserveIsOfWhatMayBeHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, ipamtest.NewLedger(), "host-a")
		defer a.Close()
		id := a.network("10.40.0.0/24", "") // blocks of sixteen; the first holds 14 for containers
		for n := range 12 {
			if got := a.get(id, ""); n > 0 {
				a.release(id, got)
				a.release(id, a.get(id, addrOf(got).String()))
			}
		}
		synctest.Wait()
		if keys := a.disk.Keys("block/"); len(keys) != 2 {
			t.Errorf("less than a quarter of the block may be handed out to anybody; blocks on disk: %q, want two", keys)
		}
	})
}

// TestRestartedContainersKeepWhatTheyAskedFor: all containers of a host start again in any order.
// Those with --ip find their address free.
func TestRestartedContainersKeepWhatTheyAskedFor(t *testing.T) {
	a := start(t, ipamtest.NewLedger(), "host-a")
	id := a.network("10.40.0.0/24", "")
	held := map[string]bool{} // by --ip or not
	for n := range 10 {
		if got := a.get(id, ""); n%2 == 0 {
			a.release(id, got)
			held[a.get(id, addrOf(got).String())] = true
		} else {
			held[got] = false
		}
	}
	for range 3 {
		for got := range held {
			a.release(id, got)
		}
		again := map[string]bool{}
		for _, asked := range held {
			if !asked {
				again[a.get(id, "")] = false
			}
		}
		for got, asked := range held {
			if asked {
				again[a.get(id, addrOf(got).String())] = true
			}
		}
		held = again
	}
}
