package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// rig is one host's IPAM on a shared ledger.
type rig struct {
	*ipam.IPAM
	t         testing.TB
	host      *ipamtest.Host
	disk      *ipamtest.Disk
	endpoints sync.Map // address -> who
	problems  sync.Map
}

func start(t testing.TB, l *ipamtest.Ledger, name string) *rig {
	return boot(t, &rig{t: t, host: l.Host(name), disk: ipamtest.NewDisk()})
}

// boot starts an IPAM from what is on the rig's disk.
func boot(t testing.TB, r *rig, routes ...ipam.Route) *rig {
	t.Helper()
	i, err := ipam.New(ipam.Config{
		Decisions: r.host, Disk: r.disk,
		Routes: func() []ipam.Route { return routes },
		Holder: func(a netip.Addr) string {
			who, _ := r.endpoints.Load(a)
			s, _ := who.(string)
			return s
		},
		Problem: func(err error) { r.problems.Store(err.Error(), nil) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	r.IPAM = i
	r.host.IPAM = i
	return r
}

// restart is the agent killed and started again: only its disk survives.
func (r *rig) restart() *rig {
	r.Close()
	return boot(r.t, &rig{t: r.t, host: r.host, disk: r.disk.Copy()})
}

// as is a context of a call from this life of dockerd.
func as(dockerd string) context.Context {
	return rpc.WithPeer(context.Background(), rpc.Peer{Instance: dockerd})
}

var docker = as("dockerd 1")

func (r *rig) pool(subnet, area string) string {
	r.t.Helper()
	p, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: subnet, SubPool: area})
	if err != nil {
		r.t.Fatal(err)
	}
	return p.PoolID
}

// network is what docker network create does: pool, gateway, driver.
func (r *rig) network(subnet, area string) string {
	r.t.Helper()
	id := r.pool(subnet, area)
	r.gateway(id, "")
	if err := r.NetworkCreated(docker, "net-"+subnet, []netip.Prefix{netip.MustParsePrefix(subnet)}, ipam.BlockBits{}); err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *rig) gateway(id, want string) (string, error) {
	resp, err := r.RequestAddress(docker, ipam.AddressRequest{
		PoolID: id, Address: want, Options: map[string]string{"RequestAddressType": "com.docker.network.gateway"},
	})
	return resp.Address, err
}

func (r *rig) ask(ctx context.Context, id, want string) (string, error) {
	resp, err := r.RequestAddress(ctx, ipam.AddressRequest{PoolID: id, Address: want})
	return resp.Address, err
}

func (r *rig) get(id, want string) string {
	r.t.Helper()
	a, err := r.ask(docker, id, want)
	if err != nil {
		r.t.Fatalf("request %q: %v", want, err)
	}
	return a
}

func (r *rig) release(id, a string) {
	r.t.Helper()
	if _, err := r.ReleaseAddress(docker, ipam.AddressRelease{PoolID: id, Address: a}); err != nil {
		r.t.Fatalf("release %s: %v", a, err)
	}
}

func (r *rig) refuses(kind netmap.RefusalKind, err error, says ...string) {
	r.t.Helper()
	if !errors.Is(err, &netmap.Refusal{Kind: kind}) {
		r.t.Errorf("error %v, want a refusal of kind %s", err, kind)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			r.t.Errorf("error %q does not say %q", err, s)
		}
	}
}

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

func TestOneGatewayOnAllHosts(t *testing.T) {
	l := ipamtest.NewLedger()
	a, b := start(t, l, "host-a"), start(t, l, "host-b")
	id := a.pool("10.40.0.0/16", "")
	if gw, err := a.gateway(id, "10.40.255.254"); gw != "10.40.255.254/16" || err != nil {
		t.Errorf("--gateway: %s, %v", gw, err)
	}
	p, err := b.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0/16"})
	if err != nil || p.Data["com.docker.network.gateway"] != "10.40.255.254/16" {
		t.Errorf("second host: %+v, %v", p, err)
	}
	_, err = b.gateway(p.PoolID, "10.40.0.9")
	b.refuses(netmap.Conflict, err, "10.40.255.254")
	_, err = a.ask(docker, a.network("10.40.0.0/16", ""), "10.40.255.254")
	a.refuses(netmap.Held, err, "is the gateway")
}

func TestIPRange(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	id := r.network("10.40.0.0/24", "10.40.0.100/30")
	if id != "weft:10.40.0.0/24,10.40.0.100/30" {
		t.Errorf("pool id %s", id)
	}
	var got []string
	for range 4 {
		got = append(got, r.get(id, ""))
	}
	if want := "10.40.0.100/24 10.40.0.101/24 10.40.0.102/24 10.40.0.103/24"; strings.Join(got, " ") != want {
		t.Errorf("addresses %v", got)
	}
	_, err := r.ask(docker, id, "")
	r.refuses(netmap.Exhausted, err, "no address is free in 10.40.0.100/30")
	if a := r.get(id, "10.40.0.7"); a != "10.40.0.7/24" {
		t.Errorf("--ip outside the range: %s", a)
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
	a.endpoints.Store(netip.MustParseAddr("10.40.0.9"), "container web-2")
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
	b.release(id, "10.40.0.10")
	if got := a.get(id, "10.40.0.10"); got != "10.40.0.10/24" {
		t.Errorf("moved: %s", got)
	}
	_, err := b.ask(docker, id, "10.40.0.10")
	b.refuses(netmap.Held, err, "host-a")
}

func TestAuxAddressesAreReservedEverywhere(t *testing.T) {
	l := ipamtest.NewLedger()
	a, b := start(t, l, "host-a"), start(t, l, "host-b")
	id := a.pool("10.40.0.0/28", "")
	a.gateway(id, "")
	a.get(id, "10.40.0.2") // --aux-address router=10.40.0.2
	nets := []netip.Prefix{netip.MustParsePrefix("10.40.0.0/28")}
	if err := a.NetworkCreated(docker, "n", nets, ipam.BlockBits{}); err != nil {
		t.Fatal(err)
	}
	b.pool("10.40.0.0/28", "")
	b.get(id, "10.40.0.2") // the same create on another host
	if err := b.NetworkCreated(docker, "m", nets, ipam.BlockBits{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*rig{a, b} {
		_, err := r.ask(docker, id, "10.40.0.2")
		r.refuses(netmap.Held, err, "reserved", "--aux-address")
		for range 5 {
			if got := r.get(id, ""); got == "10.40.0.2/28" {
				t.Error("the aux address was handed out")
			}
		}
	}
	a = a.restart()
	a.host.Cut()
	a.pool("10.40.0.0/28", "") // dockerd's replay, nobody reachable
	a.get(id, "10.40.0.2")
	a.release(id, "10.40.0.2") // docker network rm
}

func TestAutoPoolsAreNeverTheSameTwice(t *testing.T) {
	l := ipamtest.NewLedger()
	r := boot(t, &rig{t: t, host: l.Host("host-a"), disk: ipamtest.NewDisk()},
		ipam.Route{Prefix: netip.MustParsePrefix("10.32.0.0/16"), Name: "route via eth0"}, ipam.Route{Name: "default", Prefix: netip.MustParsePrefix("0.0.0.0/0")})
	seen := map[string]bool{}
	for range 5 {
		p, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft"})
		if err != nil || seen[p.Pool] || netip.MustParsePrefix(p.Pool).Overlaps(netip.MustParsePrefix("10.32.0.0/17")) {
			t.Errorf("pool %+v, %v; before: %v", p, err, seen)
		}
		seen[p.Pool] = true
	}
	for pool := range seen { // dockerd gives the losers back
		if _, err := r.ReleasePool(docker, ipam.PoolRelease{PoolID: "weft:" + pool}); err != nil {
			t.Error(err)
		}
	}
	if got := r.Inventory(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
	_, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.32.5.0/24"})
	r.refuses(netmap.Overlaps, err, "10.32.5.0/24 overlaps 10.32.0.0/16 (route via eth0)")
}

func TestPoolRequestsThatMakeNoSense(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	for _, c := range []struct {
		req  ipam.PoolRequest
		says string
	}{
		{ipam.PoolRequest{}, "AddressSpace is missing"},
		{ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0"}, `subnet "10.40.0.0" is no prefix`},
		{ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0/16", SubPool: "10.41.0.0/24"}, "not inside subnet"},
		{ipam.PoolRequest{AddressSpace: "weft", SubPool: "10.41.0.0/24"}, "give a --subnet"},
		{ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0/16", V6: true}, "want IPv6"},
		{ipam.PoolRequest{AddressSpace: "weft", Options: map[string]string{"weft.blok": "/24"}}, "known: weft.block"},
		{ipam.PoolRequest{AddressSpace: "weft", Options: map[string]string{"weft.block": "24"}}, `weft.block is "24"; want a prefix length such as /24`},
	} {
		_, err := r.RequestPool(docker, c.req)
		var bad *rpc.BadRequest
		if !errors.As(err, &bad) || !strings.Contains(bad.Text, c.says) {
			t.Errorf("%+v: %v, want a text with %q", c.req, err, c.says)
		}
	}
	if len(r.disk.Keys("")) != 0 {
		t.Errorf("left on disk: %v", r.disk.Keys(""))
	}
}

func TestBlockSizes(t *testing.T) {
	r := start(t, ipamtest.NewLedger(), "host-a")
	opts := map[string]string{"weft.block": "/28,/120", "com.example": "x"}
	p, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0/16", Options: opts})
	if err != nil {
		t.Fatal(err)
	}
	r.get(r.network("10.40.0.0/16", ""), "")
	if b := r.Inventory()[0].Blocks; b[0].Prefix != netip.MustParsePrefix("10.40.0.0/28") || b[0].Used != 1 || b[0].Free != 13 {
		t.Errorf("block %+v of %s", b, p.PoolID)
	}
	_, err = r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.40.0.0/16", Options: map[string]string{"weft.block": "/24"}})
	r.refuses(netmap.Conflict, err, "blocks of /28, not of /24")
	// -o weft.block comes with CreateNetwork, while the subnet is unused still.
	id := r.pool("10.41.0.0/16", "")
	nets := []netip.Prefix{netip.MustParsePrefix("10.41.0.0/16")}
	if err := r.NetworkCreated(docker, "n", nets, ipam.BlockBits{V4: 30}); err != nil {
		t.Fatal(err)
	}
	r.get(id, "")
	if b := r.Inventory()[1].Blocks[0].Prefix; b != netip.MustParsePrefix("10.41.0.0/30") {
		t.Errorf("block %s", b)
	}
	r.refuses(netmap.Conflict, r.NetworkCreated(docker, "n", nets, ipam.BlockBits{V4: 24}), "/30")
	r.refuses(netmap.Unknown, r.NetworkCreated(docker, "x", []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}, ipam.BlockBits{}), "--ipam-driver")
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
	hosts[0].refuses(netmap.Exhausted, err, "no block is free")
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

func TestNetworkRemovalGivesEverythingBack(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	a := r.get(id, "")
	r.release(id, a)
	if _, err := r.ReleasePool(docker, ipam.PoolRelease{PoolID: id}); err != nil { // comes before DeleteNetwork
		t.Fatal(err)
	}
	if len(r.Inventory()) != 1 {
		t.Error("the pool went before its network")
	}
	if err := r.NetworkDeleted(docker, "net-10.40.0.0/24"); err != nil {
		t.Fatal(err)
	}
	if got := r.Inventory(); len(got) != 0 || !strings.Contains(l.Story(), "host-a releases subnet 10.40.0.0/24") {
		t.Errorf("left: %+v", got)
	}
	if keys := r.disk.Keys(""); len(keys) != 0 {
		t.Errorf("left on disk: %v", keys)
	}
	if err := r.NetworkDeleted(docker, "net-10.40.0.0/24"); err != nil {
		t.Error(err)
	}
}

func TestReleaseOfASubnetReachesTheLedgerLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r := start(t, l, "host-a")
		r.get(r.network("10.40.0.0/24", ""), "10.40.0.9")
		r.host.Cut()
		if err := r.NetworkDeleted(docker, "net-10.40.0.0/24"); err != nil {
			t.Fatal(err)
		}
		r = r.restart()
		if got := r.Inventory(); len(got) != 0 {
			t.Errorf("left: %+v", got)
		}
		l.Story()
		r.host.Heal()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := l.Story(); !strings.Contains(s, "releases subnet") || len(r.disk.Keys("")) != 0 {
			t.Errorf("the ledger heard %q; on disk %v", s, r.disk.Keys(""))
		}
		r.Close()
	})
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
		r.refuses(netmap.Held, err, "at this moment")
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

func TestCede(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	sub := netip.MustParsePrefix("10.40.0.0/24")
	held := netip.MustParsePrefix(r.get(id, "")).Addr()
	free, other := netip.MustParseAddr("10.40.0.9"), netmap.HostID{7}
	for range 2 {
		if err := r.Cede(sub, free, other); err != nil {
			t.Fatal(err)
		}
	}
	r = r.restart()
	for range 12 {
		if got := r.get(id, ""); got == "10.40.0.9/24" {
			t.Error("a ceded address was handed out")
		}
	}
	r.refuses(netmap.Held, r.Cede(sub, held, other), "10.40.0.2 is held by")
	r.refuses(netmap.Held, r.Cede(sub, netip.MustParseAddr("10.40.0.1"), other), "reserved")
	r.refuses(netmap.Unknown, r.Cede(sub, netip.MustParseAddr("10.40.0.222"), other), "not this host's")
	r.refuses(netmap.Unknown, r.Cede(netip.MustParsePrefix("10.9.0.0/24"), free, other), "does not use")
	r.disk.Fail(errors.New("disk is full"))
	if err := r.Cede(sub, free, other); err == nil || !strings.Contains(err.Error(), "was not ceded: disk is full") {
		t.Errorf("ceded without a disk: %v", err)
	}
}

func TestALostDiskIsNoLostNetwork(t *testing.T) {
	l := ipamtest.NewLedger()
	r := start(t, l, "host-a")
	id := r.network("10.40.0.0/24", "")
	one := r.get(id, "")
	fresh := boot(t, &rig{t: t, host: l.Host("host-b"), disk: ipamtest.NewDisk()}) // a new identity
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
