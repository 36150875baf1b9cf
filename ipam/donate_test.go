package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// three returns three hosts on one small subnet with 13 addresses for containers.
func three(t testing.TB) (hosts []*rig, id string) {
	t.Helper()
	l := ipamtest.NewLedger()
	for _, name := range []string{"host-a", "host-b", "host-c"} {
		r := start(t, l, name)
		id = r.network("10.40.0.0/28", "")
		hosts = append(hosts, r)
	}
	return hosts, id
}

const inThree = 13

// TestASmallSubnetIsUsableFromAnyHost: wherever the free addresses are, a container is refused only
// if all addresses of the subnet are held. Addresses that a container once had by --ip count as
// free.
func TestASmallSubnetIsUsableFromAnyHost(t *testing.T) {
	for seed := range uint64(20) {
		hosts, id := three(t)
		chance := rand.New(rand.NewPCG(seed, 1))
		held := map[string]*rig{}
		var order []string
		for range 300 {
			r := hosts[chance.IntN(len(hosts))]
			if len(order) > 0 && chance.IntN(5) < 2 {
				n := chance.IntN(len(order))
				a := order[n]
				order = append(order[:n], order[n+1:]...)
				held[a].release(id, a)
				delete(held, a)
				continue
			}
			want := ""
			if one := fmt.Sprintf("10.40.0.%d", 2+chance.IntN(inThree)); chance.IntN(4) == 0 && held[one+"/28"] == nil {
				want = one
			}
			a, err := r.ask(docker, id, want)
			switch {
			case err != nil && len(held) < inThree:
				t.Fatalf("seed %d: refused with %d of %d in use: %v", seed, len(held), inThree, err)
			case err != nil:
				r.refuses(netmap.Exhausted, err, "no address is free in 10.40.0.0/28")
			case held[a] != nil:
				t.Fatalf("seed %d: %s is held twice", seed, a)
			default:
				held[a] = r
				order = append(order, a)
			}
		}
	}
}

// TestHostsInNeedAtOnce: many callers on all hosts ask for few addresses at the same time. None is
// held twice, and in the end all of them can be held.
func TestHostsInNeedAtOnce(t *testing.T) {
	hosts, id := three(t)
	var holders sync.Map
	var all sync.WaitGroup
	for n := range 12 {
		r := hosts[n%len(hosts)]
		all.Go(func() {
			for range 40 {
				a, err := r.ask(docker, id, "")
				if err != nil { // 12 callers, 13 addresses
					t.Errorf("refused: %v", err)
					return
				}
				if other, taken := holders.LoadOrStore(a, n); taken {
					t.Errorf("%s is held by %v and %d", a, other, n)
				}
				holders.Delete(a)
				r.release(id, a)
			}
		})
	}
	all.Wait()
	for n := range inThree {
		if a, err := hosts[n%len(hosts)].ask(docker, id, ""); err != nil {
			t.Errorf("address %d: %v", n, err)
		} else if _, twice := holders.LoadOrStore(a, "end"); twice {
			t.Errorf("%s twice", a)
		}
	}
}

// TestCededAddressesReturnToTheBlock: an address that was ceded returns to the owner of its block
// when it was not used for a while, on the disks of both hosts.
func TestCededAddressesReturnToTheBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts, id := three(t)
		a, b := hosts[0], hosts[1]
		var held []string
		for range inThree {
			held = append(held, a.hold(a.get(id, "")))
		}
		a.endpoints.Delete(addrOf(held[5]))
		a.release(id, held[5])
		if got := b.get(id, ""); got != held[5] {
			t.Fatalf("host-b got %s, free is %s", got, held[5])
		}
		b.hold(held[5])
		time.Sleep(time.Hour) // it is used: it stays
		if _, err := a.ask(docker, id, ""); err == nil {
			t.Error("a thirteenth address is free")
		}
		b.endpoints.Clear()
		b.release(id, held[5])
		b = b.restart()
		hosts[1] = b
		time.Sleep(15 * time.Minute)
		for _, r := range hosts {
			if keys := append(r.disk.Keys("foreign/"), r.disk.Keys("claim/")...); len(keys) > 0 {
				t.Errorf("left on disk: %q", keys)
			}
		}
		a = a.restart()
		if got := a.get(id, ""); got != held[5] {
			t.Errorf("host-a got %s, free is %s", got, held[5])
		}
		a.Close()
		b.Close()
		hosts[2].Close()
	})
}

// TestABlockThatIsInFlightIsDonated: the ledger has granted the last block to a host, which is still
// writing it to disk when another host asks it for addresses of the block.
func TestABlockThatIsInFlightIsDonated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		a, b := start(t, l, "host-a"), start(t, l, "host-b")
		const subnet = "10.40.0.0/29"
		one, err := ipam.ParseBlockBits("/29")
		if err != nil {
			t.Fatal(err)
		}
		var id string
		for _, r := range []*rig{a, b} {
			id = r.pool(subnet, "")
			r.gateway(id, "")
			if err := r.NetworkCreated(docker, "net", []netip.Prefix{netip.MustParsePrefix(subnet)}, one); err != nil {
				t.Fatal(err)
			}
		}
		release := a.disk.Stall()
		got := make(chan string, 2)
		want := func(r *rig) {
			a, err := r.ask(docker, id, "")
			if err != nil {
				t.Error(err)
			}
			got <- a
		}
		go want(a)
		synctest.Wait() // its block is granted
		go want(b)
		time.Sleep(500 * time.Millisecond)
		release()
		if x, y := <-got, <-got; x == y {
			t.Errorf("the two hosts have %q and %q", x, y)
		}
		a.Close()
		b.Close()
	})
}

// TestABlockThatWasWaitedForIsNotTakenWhole: two hosts without free addresses do not take the last
// block from each other in turns before either has used it.
func TestABlockThatWasWaitedForIsNotTakenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		a, b := start(t, l, "host-a"), start(t, l, "host-b")
		id := a.network("10.40.0.0/27", "") // blocks of four
		b.network("10.40.0.0/27", "")
		got := a.get(id, "")
		a.release(id, got)
		sub := netip.MustParsePrefix("10.40.0.0/27")
		r, err := a.Donate(docker, sub, sub, b.host.ID())
		if err != nil || !r.Claim.Addr.IsValid() || r.Claim.Owner != b.host.ID() {
			t.Errorf("a block that came just now: %+v, %v, want one address", r, err)
		}
		time.Sleep(6 * time.Second)
		if r, err = a.Donate(docker, sub, sub, b.host.ID()); err != nil || r.Block != netip.MustParsePrefix("10.40.0.0/30") {
			t.Errorf("an empty block: %+v, %v, want the block", r, err)
		}
		_, err = a.Donate(docker, sub, sub, b.host.ID())
		a.refuses(netmap.Exhausted, err, "on this host either")
		_, err = a.Donate(docker, netip.MustParsePrefix("10.9.0.0/24"), sub, b.host.ID())
		a.refuses(netmap.Unknown, err, "does not use 10.9.0.0/24")
		a.Close()
		b.Close()
	})
}

// TestNothingIsDonatedWithoutADisk: a host whose disk fails donates nothing.
func TestNothingIsDonatedWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		a, b := start(t, l, "host-a"), start(t, l, "host-b")
		id := a.network("10.40.0.0/28", "")
		a.release(id, a.get(id, ""))
		time.Sleep(time.Minute)
		sub := netip.MustParsePrefix("10.40.0.0/28")
		a.disk.Fail(errors.New("disk is full"))
		if _, err := a.Donate(docker, sub, sub, b.host.ID()); err == nil {
			t.Error("a block was donated without a disk")
		}
		held := a.disk.Keys("block/")
		a.disk.Fail(nil)
		if fmt.Sprint(held) != "[block/10.40.0.0/30]" {
			t.Errorf("on disk: %q", held)
		}
		if got := a.get(id, ""); got != "10.40.0.3/28" {
			t.Errorf("got %s, want the other address of the block", got)
		}
		a.Close()
		b.Close()
	})
}

// mortal carries out nothing for who does not wait any more.
type mortal struct{ *ipamtest.Host }

func (m mortal) Cede(ctx context.Context, c synced.Value[ipam.Transfer]) (netmap.Claim, error) {
	if err := ctx.Err(); err != nil {
		return netmap.Claim{}, err
	}
	return m.Host.Cede(ctx, c)
}

// TestWhatWasGivenUpIsDecided: the host that asks for an address does not wait any more when this one has given it up.
// Else it would be nobody's until the ledger is compared with the disk.
func TestWhatWasGivenUpIsDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		a, b := start(t, l, "host-a"), start(t, l, "host-b")
		a.through(mortal{a.host})
		id := a.network("10.40.0.0/28", "")
		a.get(id, "") // one of its block, which is not empty then
		gone, cancel := context.WithCancel(docker)
		cancel()
		sub := netip.MustParsePrefix("10.40.0.0/28")
		got, err := a.Donate(gone, sub, sub, b.host.ID())
		if err != nil || got.Claim.Owner != b.host.ID() {
			t.Errorf("donated %+v (%v), want an address that is host-b's", got, err)
		}
		a.Close()
		b.Close()
	})
}

// TestPrefetchingTakesNothingFromOthers: a host that only wants a reserve does not ask other hosts
// to donate.
func TestPrefetchingTakesNothingFromOthers(t *testing.T) {
	l := ipamtest.NewLedger()
	a, b := start(t, l, "host-a"), start(t, l, "host-b")
	id := a.network("10.40.0.0/25", "") // eight blocks of sixteen
	b.network("10.40.0.0/25", "")
	for range 7*16 - 2 {
		a.get(id, "")
	}
	b.get(id, "")
	_ = l.Story()
	for range 12 {
		b.get(id, "") // below a quarter free, nothing left to grant
	}
	for _, r := range []*rig{a, b} {
		if keys := r.disk.Keys("claim/"); len(keys) > 0 {
			t.Errorf("%q were ceded for a reserve", keys)
		}
	}
}
