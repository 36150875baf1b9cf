package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

func TestAddressesComeFromOwnBlocksOfEachHost(t *testing.T) {
	l := ipamtest.NewLedger()
	a, b := start(t, l, "host-a"), start(t, l, "host-b")
	ida, idb := a.network("10.40.0.0/16", ""), b.network("10.40.0.0/16", "")
	if ida != "weft:10.40.0.0/16" || ida != idb {
		t.Errorf("pool ids %s and %s", ida, idb)
	}
	got := []string{a.get(ida, ""), b.get(idb, ""), a.get(ida, ""), b.get(idb, "")}
	want := []string{"10.40.0.2/16", "10.40.1.0/16", "10.40.0.3/16", "10.40.1.1/16"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s\n%s", diff, l.Story())
	}
}

func TestStaticAddresses(t *testing.T) {
	l := ipamtest.NewLedger()
	a, b := start(t, l, "host-a"), start(t, l, "host-b")
	id := a.network("10.40.0.0/24", "")
	b.network("10.40.0.0/24", "")
	first := a.get(id, "") // host-a now owns 10.40.0.0/28
	l.Story()
	if got := a.get(id, "10.40.0.9"); got != "10.40.0.9/24" || l.Story() != "" {
		t.Errorf("in the own block: %s, or the ledger was asked", got)
	}
	if got := a.get(id, "10.40.0.200"); got != "10.40.0.200/24" || !strings.Contains(l.Story(), "claims 10.40.0.200") {
		t.Errorf("in a free block: %s", got)
	}
	if got := b.get(id, "10.40.0.10"); got != "10.40.0.10/24" {
		t.Errorf("in another host's block: %s", got)
	}
	_, err := b.ask(docker, id, "10.40.0.9")
	b.refuses(netmap.Busy, err, "host-a: 10.40.0.9 is being handed out") // no endpoint has it
	a.endpoints.Store(netip.MustParseAddr("10.40.0.9"), "container web-2")
	a.hold("10.40.0.200/24")
	b.hold("10.40.0.10/24")
	for _, c := range []struct {
		r    *rig
		want string
		kind netmap.RefusalKind
		says string
	}{
		{b, "10.40.0.9", netmap.Held, "host-a: 10.40.0.9 is held by container web-2"},
		{b, "10.40.0.200", netmap.Held, "host-a: 10.40.0.200 is held by"},
		{a, "10.40.0.9", netmap.Held, "held by container web-2 on this host"},
		{a, "10.40.0.10", netmap.Held, "host-b: 10.40.0.10 is held by"},
		{a, "10.41.0.1", netmap.Outside, "not inside subnet 10.40.0.0/24"},
		{a, "fd00::1", netmap.Outside, "not inside"},
		{a, "10.40.0.0", netmap.BadInput, "network or broadcast"},
		{a, "10.40.0.255", netmap.BadInput, "network or broadcast"},
		{a, "10.40.0.1", netmap.Held, "is the gateway"},
	} {
		_, err := c.r.ask(docker, id, c.want)
		c.r.refuses(c.kind, err, c.says)
	}
	seen := map[string]bool{first: true, "10.40.0.9/24": true, "10.40.0.10/24": true, "10.40.0.200/24": true}
	for range 11 { // the rest of the block
		got := a.get(id, "")
		if seen[got] {
			t.Errorf("%s was handed out twice", got)
		}
		seen[got] = true
	}
	// It moves: stopped on host-b, started on host-a, and back.
	b.endpoints.Delete(netip.MustParseAddr("10.40.0.10"))
	b.release(id, "10.40.0.10")
	if got := a.hold(a.get(id, "10.40.0.10")); got != "10.40.0.10/24" {
		t.Errorf("moved: %s", got)
	}
	_, err = b.ask(docker, id, "10.40.0.10")
	b.refuses(netmap.Held, err, "host-a")
}

func TestASmallSubnetIsUsableToItsLastAddress(t *testing.T) {
	l := ipamtest.NewLedger()
	hosts := []*rig{start(t, l, "host-a"), start(t, l, "host-b"), start(t, l, "host-c")}
	id := ""
	for _, r := range hosts {
		id = r.network("10.40.0.0/28", "")
	}
	seen := map[string]bool{}
	var last error
	for len(seen) < 13 && last == nil {
		for _, r := range hosts {
			got, err := r.ask(docker, id, "")
			if err != nil {
				last = err
				continue
			}
			if seen[got] {
				t.Fatalf("%s twice", got)
			}
			last, seen[got] = nil, true
		}
	}
	for i := 2; i < 15; i++ {
		if a := fmt.Sprintf("10.40.0.%d/28", i); !seen[a] {
			t.Errorf("%s was never handed out", a)
		}
	}
	_, err := hosts[0].ask(docker, id, "")
	hosts[0].refuses(netmap.Exhausted, err, "no address is free in 10.40.0.0/28")
}

func TestIPv6(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	p, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", V6: true})
	if err != nil || !strings.HasSuffix(p.Pool, "/64") {
		t.Fatalf("pool %+v, %v", p, err)
	}
	gw, err := r.gateway(p.PoolID, "")
	if err != nil || !strings.HasSuffix(gw, "::1/64") {
		t.Errorf("gateway %s, %v", gw, err)
	}
	if err := r.NetworkCreated(docker, "n", []netip.Prefix{netip.MustParsePrefix(p.Pool)}, ipam.BlockBits{}); err != nil {
		t.Fatal(err)
	}
	if got := r.get(p.PoolID, ""); !strings.HasSuffix(got, "::2/64") {
		t.Errorf("address %s", got)
	}
	if got := r.get(p.PoolID, "fd00:57::beef"); got != "fd00:57::beef/64" {
		t.Errorf("address %s", got)
	}
}

func TestReleasesOfAnythingSucceed(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.network("10.40.0.0/24", "")
	a := r.get(id, "")
	r.release(id, a)
	r.release(id, a)
	r.release(id, "10.40.0.1")
	r.release(id, "10.40.0.99")
	r.release(id, "10.99.0.1")
	r.release("weft:10.77.0.0/24", "10.77.0.3")
	for _, req := range []ipam.AddressRelease{{PoolID: id}, {PoolID: "x", Address: "10.0.0.1"}, {PoolID: id, Address: "lots"}} {
		var bad *rpc.BadRequest
		if _, err := r.ReleaseAddress(docker, req); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	if _, err := r.ReleasePool(docker, ipam.PoolRelease{PoolID: "weft:10.77.0.0/24"}); err != nil {
		t.Error(err)
	}
}

func TestPrefetchBelowAQuarter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r := start(t, l, "host-a")
		id := r.network("10.40.0.0/24", "") // blocks of 16, the first with 14 free
		for range 11 {
			r.get(id, "")
		}
		synctest.Wait()
		if n := len(r.Inventory()[0].Blocks); n != 1 {
			t.Errorf("%d blocks with 3 of 16 addresses free, before the next is picked", n)
		}
		r.get(id, "")
		synctest.Wait()
		if n := len(r.Inventory()[0].Blocks); n != 2 {
			t.Errorf("%d blocks after that", n)
		}
		r.host.Cut()
		for range 18 {
			r.get(id, "") // all of them without the ledger
		}
		r.host.Heal()
		r.Close()
	})
}

func TestConcurrentRequestsNeverShareAnAddress(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/16", "")
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for c := range 50 {
		wg.Go(func() {
			for n := range 20 {
				a, err := r.ask(docker, id, "")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[a]++
				if seen[a] > 1 {
					t.Errorf("%s is held twice", a)
				}
				mu.Unlock()
				if (c+n)%3 == 0 {
					mu.Lock()
					seen[a]--
					mu.Unlock()
					r.release(id, a)
				}
			}
		})
	}
	wg.Wait()
	held := 0
	for _, n := range seen {
		held += n
	}
	before := r.Inventory()[0].Held
	if len(before) != held {
		t.Errorf("%d held, want %d", len(before), held)
	}
	if diff := cmp.Diff(before, r.restart().Inventory()[0].Held, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
}

func TestOfTwoRequestsForOneStaticAddressOneWins(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	var wg sync.WaitGroup
	var won sync.Map
	for c := range 8 {
		wg.Go(func() {
			if _, err := r.ask(docker, id, "10.40.0.50"); err == nil {
				won.Store(c, true)
			}
		})
	}
	wg.Wait()
	n := 0
	won.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d containers hold 10.40.0.50", n)
	}
}

func TestCede(t *testing.T) { synctest.Test(t, testCede) }

func testCede(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	sub := netip.MustParsePrefix("10.40.0.0/24")
	first := r.get(id, "")
	held := addrOf(first)
	free, other := netip.MustParseAddr("10.40.0.9"), l.Host("host-b").ID()
	for range 2 {
		if c, err := r.Cede(docker, sub, free, other); err != nil || c.Owner != other {
			t.Fatal(c, err)
		}
	}
	r = r.restart()
	r.hold(first)
	for range 12 {
		if got := r.get(id, ""); got == "10.40.0.9/24" {
			t.Error("a ceded address was handed out")
		}
	}
	synctest.Wait() // the next block is here: while it comes, what lies outside may lie in it
	for _, c := range []struct {
		kind   netmap.RefusalKind
		subnet netip.Prefix
		addr   netip.Addr
		says   string
	}{
		{netmap.Held, sub, held, "10.40.0.2 is held by"},
		{netmap.Held, sub, netip.MustParseAddr("10.40.0.1"), "reserved"},
		{netmap.Busy, sub, netip.MustParseAddr("10.40.0.222"), "not this host's"}, // not Unknown: see noteUnregistered
		{netmap.Busy, netip.MustParsePrefix("10.9.0.0/24"), free, "does not use"},
	} {
		_, err := r.Cede(docker, c.subnet, c.addr, other)
		r.refuses(c.kind, err, c.says)
	}
	r.disk.Fail(errors.New("disk is full"))
	if _, err := r.Cede(docker, sub, free, other); err == nil || !strings.Contains(err.Error(), "was not ceded: disk is full") {
		t.Errorf("ceded without a disk: %v", err)
	}
}
