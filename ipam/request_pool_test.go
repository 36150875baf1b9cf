package ipam_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

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
	_, err := a.ask(docker, id, "10.40.0.2") // the agent alone was restarted: a container's --ip
	a.refuses(netmap.Held, err, "reserved")
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
		{ipam.PoolRequest{}, `AddressSpace is "", want "weft"`},
		{ipam.PoolRequest{AddressSpace: "LocalDefault", Pool: "10.40.0.0/16"}, `AddressSpace is "LocalDefault", want "weft"`},
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
	var meaningless *rpc.BadRequest
	if err := r.NetworkCreated(docker, "n", nets, ipam.BlockBits{V6: 99}); !errors.As(err, &meaningless) || !strings.Contains(meaningless.Text, "weft.block=/99 is a size of IPv6 blocks") {
		t.Errorf("blocks of the other family: %v", err)
	}
	// --ipam-opt comes with each pool, before the families of the network are known.
	if _, err := r.RequestPool(docker, ipam.PoolRequest{AddressSpace: "weft", Pool: "10.42.0.0/16", Options: map[string]string{"weft.block": "/99"}}); err != nil {
		t.Fatal(err)
	}
	err = r.NetworkCreated(docker, "m", []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}, ipam.BlockBits{})
	if !errors.As(err, &meaningless) || !strings.Contains(meaningless.Text, "weft.block=/99 is a size of IPv6 blocks") {
		t.Errorf("--ipam-opt of the other family: %v", err)
	}
	r.refuses(netmap.Unknown, r.NetworkCreated(docker, "x", []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}, ipam.BlockBits{}), "--ipam-driver")
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
	if err := r.NetworkDeleted(docker, "net-10.40.0.0-24"); err != nil {
		t.Fatal(err)
	}
	if got := r.Inventory(); len(got) != 0 || !strings.Contains(l.Story(), "host-a releases subnet 10.40.0.0/24") {
		t.Errorf("left: %+v", got)
	}
	if keys := r.disk.Keys(""); len(keys) != 0 {
		t.Errorf("left on disk: %v", keys)
	}
	if err := r.NetworkDeleted(docker, "net-10.40.0.0-24"); err != nil {
		t.Error(err)
	}
}

func TestReleaseOfASubnetReachesTheLedgerLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		r := start(t, l, "host-a")
		r.get(r.network("10.40.0.0/24", ""), "10.40.0.9")
		r.host.Cut()
		if err := r.NetworkDeleted(docker, "net-10.40.0.0-24"); err != nil {
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
