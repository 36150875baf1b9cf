package ipam_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

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
	used      sync.Map // address -> who uses it without an endpoint
	problems  sync.Map
	barred    atomic.Pointer[error] // why nothing may be handed out…
	last      atomic.Bool           // …but what was here before
	networks  []string              // that its Docker has; nil: nobody knows
}

func start(t testing.TB, l *ipamtest.Ledger, name string) *rig {
	return boot(t, &rig{t: t, host: l.Host(name), disk: ipamtest.NewDisk()})
}

// boot starts an IPAM from what is on the rig's disk.
func boot(t testing.TB, r *rig, routes ...ipam.Route) *rig {
	t.Helper()
	var networks func() []string
	if r.networks != nil {
		networks = func() []string { return r.networks }
	}
	i, err := ipam.New(ipam.Config{
		Networks:  networks,
		Decisions: r.host, Disk: r.disk,
		Routes: func() []ipam.Route { return routes },
		Holder: func(a netip.Addr) string {
			who, _ := r.endpoints.Load(a)
			s, _ := who.(string)
			return s
		},
		Allowed: func(context.Context) (bool, error) {
			if err := r.barred.Load(); err != nil {
				return r.last.Load(), *err
			}
			return false, nil
		},
		InUse: func(_ context.Context, _ netip.Prefix, a netip.Addr) string {
			who, _ := r.used.Load(a)
			s, _ := who.(string)
			return s
		},
		Facts:   r.host.SubnetFacts,
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

// through has the host go on with what its disk holds, asking in another way.
func (r *rig) through(d ipam.Decisions) {
	r.t.Helper()
	i, err := ipam.New(ipam.Config{Decisions: d, Disk: r.disk})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(i.Close)
	r.host.IPAM, r.IPAM = i, i
}

// restart is the agent killed and started again: only its disk survives.
func (r *rig) restart() *rig {
	r.Close()
	return boot(r.t, &rig{t: r.t, host: r.host, disk: r.disk.Copy()})
}

// hold is an endpoint that has an address.
func (r *rig) hold(a string) string {
	r.endpoints.Store(addrOf(a), "endpoint of "+a)
	return a
}

// addrOf is an address without its prefix length.
func addrOf(a string) netip.Addr { return netip.MustParsePrefix(a).Addr() }

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
	if err := r.NetworkCreated(docker, "net-"+strings.ReplaceAll(subnet, "/", "-"), []netip.Prefix{netip.MustParsePrefix(subnet)}, ipam.BlockBits{}); err != nil {
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
