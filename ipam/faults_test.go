package ipam_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

func TestReplayAfterDockerdRestartWithNobodyReachable(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	one, two := r.get(id, ""), r.get(id, "10.40.0.77")
	bare := func(s string) string { return strings.TrimSuffix(s, "/24") }
	r = r.restart()
	r.host.Cut()
	next := as("dockerd 2")
	for _, a := range []string{bare(two), bare(one)} { // any order, even before the pool
		if got, err := r.ask(next, id, a); err != nil || got != a+"/24" {
			t.Errorf("replay of %s: %s, %v", a, got, err)
		}
	}
	if p, err := r.RequestPool(next, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0/24"}); err != nil || p.PoolID != id {
		t.Errorf("replay of the pool: %+v, %v", p, err)
	}
	if gw, err := r.gateway(id, "10.40.0.1"); err != nil || gw != "10.40.0.1/24" {
		t.Errorf("replay of the gateway: %s, %v", gw, err)
	}
	_, err := r.ask(next, id, bare(one)) // not a replay any more: docker run --ip
	r.refuses(netmap.Held, err, "is held by")
	third, err := r.ask(next, id, "")
	if err != nil || third == one || third == two {
		t.Errorf("a new address: %s, %v", third, err)
	}
}

// Dockerd does not repeat a request that was refused, so the next request for the address comes from
// another container.
func TestAReplayThatIsRefusedIsUsedUp(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.network("10.40.0.0/24", "")
	addr := strings.TrimSuffix(r.get(id, ""), "/24")
	next := as("dockerd 2")
	r.disk.Fail(errors.New("no space left on device"))
	if a, err := r.ask(next, id, addr); err == nil {
		t.Errorf("replay on a full disk: %s", a)
	}
	r.disk.Fail(nil)
	_, err := r.ask(next, id, addr)
	r.refuses(netmap.Held, err, "is held by")
	if a, err := r.ask(as("dockerd 3"), id, addr); err != nil {
		t.Errorf("replay of the next dockerd: %s, %v", a, err)
	}
}

func TestNothingIsHeldWhenTheDiskFails(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	first := r.get(id, "")
	r.disk.Fail(errors.New("no space left on device"))
	for _, want := range []string{"", "10.40.0.9", "10.40.0.200"} {
		if a, err := r.ask(docker, id, want); err == nil || !strings.Contains(err.Error(), "was not handed out: no space left") {
			t.Errorf("%q: %s, %v", want, a, err)
		}
	}
	if _, err := r.ReleaseAddress(docker, ipam.AddressRelease{PoolID: id, Address: strings.TrimSuffix(first, "/24")}); err == nil {
		t.Error("a release that is not on disk succeeded")
	}
	if _, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.50.0.0/24"}); err == nil {
		t.Error("a pool that is not on disk was answered")
	}
	if held := r.Inventory()[0].Held; len(held) != 1 {
		t.Errorf("held: %v", held)
	}
	r.disk.Fail(nil)
	for _, want := range []string{"10.40.0.9", "10.40.0.200"} {
		r.get(id, want)
	}
	if second := r.get(id, ""); second != "10.40.0.3/24" {
		t.Errorf("next address %s", second)
	}
}

func TestAnAddressIsAnsweredOnlyAfterItIsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		id := r.network("10.40.0.0/24", "")
		r.get(id, "")
		release := r.disk.Stall()
		answered := make(chan string, 2)
		go func() { answered <- r.get(id, "") }()
		go func() { answered <- r.get(id, "") }()
		synctest.Wait()
		if len(answered) != 0 {
			t.Error("answered before the disk")
		}
		_, err := r.ask(docker, id, "10.40.0.4")
		r.refuses(netmap.Busy, err, "at this moment")
		if crash := r.restart(); len(crash.Inventory()[0].Held) != 1 {
			t.Errorf("held after a crash: %v", crash.Inventory()[0].Held)
		}
		release()
		if a, b := <-answered, <-answered; a == b {
			t.Errorf("both got %s", a)
		}
	})
}

func TestHangingLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		id := r.network("10.40.0.0/24", "")
		r.host.Cut()
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error { _, err := r.ask(ctx, id, ""); return err },
			func(ctx context.Context) error { _, err := r.ask(ctx, id, "10.40.0.99"); return err },
			func(ctx context.Context) error {
				_, err := r.RequestPool(ctx, ipam.PoolRequest{AddressSpace: "weft"})
				return err
			},
		} {
			ctx, cancel := context.WithTimeout(docker, rpc.DefaultDeadline)
			begin := time.Now()
			err := call(ctx)
			cancel()
			r.refuses(netmap.NoQuorum, err, "no majority of keepers answered: host-b, host-c are unreachable")
			if took := time.Since(begin); took > rpc.DefaultDeadline {
				t.Errorf("took %v", took)
			}
		}
		r.host.Heal()
		r.get(id, "")
		r.Close()
	})
}

func TestABlockWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	for range 14 {
		r.get(id, "")
	}
	r = r.restart()
	r.host.LoseAnswer()
	failed := 0
	for range 60 {
		if _, err := r.ask(docker, id, ""); err != nil {
			failed++ // the one that waited for the lost answer
		}
	}
	if failed > 1 {
		t.Errorf("%d requests failed for one lost answer", failed)
	}
	for i, b := range r.Inventory()[0].Blocks {
		if want := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40, 0, byte(16 * i)}), 28); b.Prefix != want {
			t.Errorf("block %d is %s, want %s: one was lost", i, b.Prefix, want)
		}
	}
}

func TestAnAddressInUseIsNotReleased(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	a := netip.MustParsePrefix(r.get(id, "")).Addr()
	r.endpoints.Store(a, "container web")
	r.release(id, a.String()) // of a second container that was refused it
	if held := r.Inventory()[0].Held; len(held) != 1 {
		t.Fatalf("held: %v", held)
	}
	_, err := r.ask(docker, id, a.String())
	r.refuses(netmap.Held, err, a.String()+" is held by container web", "within three minutes")
	r.endpoints.Delete(a)
	if err := r.EndpointGone(a); err != nil {
		t.Fatal(err)
	}
	if held := r.Inventory()[0].Held; len(held) != 0 {
		t.Errorf("held: %v", held)
	}
}

func TestWhatAFailureLeftBehindIsSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		id := r.network("10.40.0.0/24", "")
		a := netip.MustParsePrefix(r.get(id, "")).Addr()
		r.endpoints.Store(a, "container web")
		r.release(id, a.String())
		r.endpoints.Delete(a)          // and the agent was killed before EndpointGone
		r.pool("10.50.0.0/24", "")     // and dockerd before CreateNetwork
		lost := r.get(id, "10.40.0.9") // and the answer to this one never arrived
		r = r.restart()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if held := r.Inventory()[0].Held; len(held) != 1 {
			t.Errorf("held: %v", held)
		}
		if got := r.get(id, "10.40.0.9"); got != lost {
			t.Errorf("asked again: %s", got)
		}
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if inv := r.Inventory(); len(inv) != 1 {
			t.Errorf("pools: %+v", inv)
		}
		r.Close()
	})
}

// TestAReleaseThatTheDiskRefusedIsRepeated: Docker only logs that a release failed, so the sweep
// repeats it.
func TestAReleaseThatTheDiskRefusedIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		id := r.network("10.40.0.0/24", "")
		a := netip.MustParsePrefix(r.get(id, "")).Addr()
		r.endpoints.Store(a, "container web")
		time.Sleep(time.Hour)
		r.endpoints.Delete(a)
		r.disk.Fail(errors.New("no space left"))
		if _, err := r.ReleaseAddress(docker, ipam.AddressRelease{PoolID: id, Address: a.String()}); err == nil {
			t.Error("released without the disk")
		}
		r.refuses(netmap.Unknown, r.Attach(a, netmap.OwnerDocker), a.String())
		r.disk.Fail(nil)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if held := r.Inventory()[0].Held; len(held) != 0 {
			t.Errorf("held: %v", held)
		}
		r.Close()
	})
}

// TestAnAddressIsTakenBackOnlyFromWhoNeverCame: dockerd may take up to a minute from its request for
// an address to the endpoint. An endpoint that comes after 90 seconds is refused.
func TestAnAddressIsTakenBackOnlyFromWhoNeverCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, ipamtest.NewLedger(), "host-a")
		id := r.network("10.40.0.0/24", "")
		came := netip.MustParsePrefix(r.get(id, "")).Addr()
		late := netip.MustParsePrefix(r.get(id, "")).Addr()
		time.Sleep(80 * time.Second)
		if err := r.Attach(came, netmap.OwnerDocker); err != nil {
			t.Error(err)
		}
		time.Sleep(80 * time.Second) // a sweep takes back what was asked for 90 s ago
		synctest.Wait()
		r.endpoints.Store(came, "container web")
		if held := r.Inventory()[0].Held; !slices.Equal(held, []netip.Addr{came}) {
			t.Errorf("held: %v, want %s", held, came)
		}
		r.refuses(netmap.Unknown, r.Attach(late, netmap.OwnerDocker), late.String(), "start the container again")
		r.refuses(netmap.Unknown, r.Attach(netip.MustParseAddr("10.40.0.77"), netmap.OwnerDocker), "10.40.0.77")
		r.refuses(netmap.Unknown, r.Attach(netip.MustParseAddr("192.0.2.1"), netmap.OwnerDocker), "192.0.2.1")
		r.Close()
	})
}

// TestAPoolWithoutANetworkGivesNothing: Docker may use a pool of Weft's for a network of another
// driver, and after a lost disk it asks for addresses of a network that Weft does not know.
func TestAPoolWithoutANetworkGivesNothing(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.pool("10.40.0.0/24", "")
	if _, err := r.gateway(id, ""); err != nil {
		t.Fatal(err)
	}
	_, err := r.ask(docker, id, "")
	r.refuses(netmap.Unknown, err, "10.40.0.0/24", "--ipam-driver", "state directory was lost")
	r.network("10.40.0.0/24", "")
	r.get(id, "")
}

func TestALostDiskIsNoLostNetwork(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	one := r.get(id, "")
	fresh := boot(t, &rig{t: t, host: l.Host("host-b"), disk: ipamtest.NewDisk()}) // a new identity
	fresh.get(id, "10.40.0.99")                                                    // of a container that outlived dockerd
	if again := fresh.network("10.40.0.0/24", ""); again != id {
		t.Errorf("the pool is %s, was %s", again, id)
	}
	if two := fresh.get(id, ""); two == one {
		t.Errorf("%s twice", two)
	}
}

func TestRecordsThatCannotBeReadStopTheStart(t *testing.T) {
	for key, value := range map[string]string{"subnet/10.40.0.0/24": "{", "subnet/10.41.0.0/24": `{"subnet":{"prefix":"10.40.0.0/24"}}`, "addr/10.40.0.x": "{}", "block/10.40.0.0/28": "[]"} {
		d := ipamtest.NewDisk()
		if err := d.Commit(map[string][]byte{key: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		if _, err := ipam.New(ipam.Config{Disk: d}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
