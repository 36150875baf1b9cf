package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/store/synced"
	"github.com/weftnet/weft/turn"
)

// How long things may take. Docker is answered within 4.5 s in any case.
const (
	patience     = 4 * time.Second         // a request waits for a further block
	grantTimeout = 3500 * time.Millisecond // one question to the ledger; its refusal is to arrive before patience ends
	minBackoff   = time.Second             // between attempts to prefetch
	maxBackoff   = time.Minute
	sweepEvery   = time.Minute
	orphanAfter  = 15 * time.Second // an address with no endpoint may be asked for again
	auxWithin    = 30 * time.Second // dockerd asks for --aux-addresses right after their pool
	unusedAfter  = 10 * time.Minute // a pool that became no network is released
	// An address that became no endpoint is freed. Docker asks for an IPv6 address in
	// between, and repeats a call for some 30 s; one that is even later is refused by Attach.
	abandonedAfter = 90 * time.Second
	smallBlock     = 16 // smaller blocks are not prefetched: others may need them
)

// SubnetRequest asks for a subnet.
type SubnetRequest struct {
	Want      netip.Prefix   // zero: any from the cluster's ranges
	V6        bool           // with a zero Want: the family
	BlockBits int            // prefix length of its blocks; 0 = from its size
	Range     netip.Prefix   // --ip-range, for the replicas of whoever makes the subnet; zero: none
	Avoid     []netip.Prefix // with a zero Want: must not overlap these
}

// BlockRequest asks for a block.
type BlockRequest struct {
	Subnet netip.Prefix
	Within netip.Prefix // the block must reach into this
	Have   bool         // answer all blocks that this host owns there, if there are any, before a new one
}

// GatewayName is the name under which Reserve sets a subnet's gateway; with a zero
// address it keeps the gateway that is set, or takes the first usable address.
const GatewayName = "gateway"

// Decisions are the questions that the ledger answers. Each ends with its context,
// with an error that says why; a *netmap.Refusal is told to the user as it stands.
// What gives a right away takes a synced.Value: the proof that on this host's disk it is
// given up already.
type Decisions interface {
	EnsureSubnet(ctx context.Context, r SubnetRequest) (netmap.Subnet, error)
	// UseSubnets says which subnets this host uses: the ledger takes from it what it has
	// of others, and others may get that.
	UseSubnets(ctx context.Context, subnets synced.Value[[]netip.Prefix]) error
	Reserve(ctx context.Context, subnet netip.Prefix, name string, addr netip.Addr) (netmap.Subnet, error)
	// GrantBlock also answers the claims inside the blocks that other hosts hold.
	GrantBlock(ctx context.Context, r BlockRequest) ([]netmap.Block, []netmap.Claim, error)
	// Claim asks the ledger, and where the address lies in another host's block or
	// is another host's claim, that host to cede it.
	Claim(ctx context.Context, subnet netip.Prefix, addr netip.Addr) (netmap.Claim, error)
	// Cede writes an address over to another host that this one has given up on disk.
	Cede(ctx context.Context, c synced.Value[Transfer]) (netmap.Claim, error)
	// ReturnBlock and Unclaim give back what this host has; under another epoch
	// nothing happens.
	ReturnBlock(ctx context.Context, b synced.Value[Returned]) error
	Unclaim(ctx context.Context, c synced.Value[netmap.Claim]) error
	// AskOthers asks the hosts that own something of the area, those with most free
	// first, to give up what IPAM.Donate does.
	AskOthers(ctx context.Context, r BlockRequest) (Donation, error)
}

// Disk keeps records. Commit returns when they are synced; a failed one has changed
// nothing. It is safe for concurrent use.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Route is address space that this host uses already.
type Route struct {
	Prefix netip.Prefix
	Name   string // for people, such as "the route via eth0"
}

// Config says what an IPAM works with.
type Config struct {
	Decisions Decisions
	Disk      Disk
	// Holder says who has an address on this host, in words ("endpoint 1f00…, web-2"),
	// empty if no endpoint has it. Nil: nobody is known. It must not call back.
	Holder func(netip.Addr) string
	// Released hears that Docker released an address, before that is looked into: its
	// endpoint may be gone unheard. Nil: nobody. It may call EndpointGone.
	Released func(context.Context, netip.Addr) error
	// Allowed says why no new address may be handed out, or nil. Last: what was in use
	// here when this host stopped may all the same, as the facts know nothing against
	// it. It is asked with every request and may wait a little. Nil: always. It must not
	// call back.
	Allowed func(context.Context) (last bool, err error)
	// Returning are names of containers of which one may be starting again, for a
	// dockerd that does not say on whose behalf it asks. Nil: nobody knows. It must
	// not call back.
	Returning func() []string
	// Facts are what the facts tell of a subnet; false: they are not known yet. Nil:
	// they never are. It must not call back.
	Facts func(subnet netip.Prefix) (Word, bool)
	// Networks are those that this host has made or is about to give up, by their
	// owners' ids. Nil: nobody knows. It must not call back.
	Networks func() []string
	// Routes are this host's own, without Weft's. Nil: none.
	Routes func() []Route
	// Problem hears of failures behind the scenes. It must not block. Nil: nobody.
	Problem func(error)
}

// IPAM hands out addresses to all owners, and answers Docker's IPAM protocol. All methods are safe for concurrent use.
type IPAM struct {
	*env

	// deciding is held while subnets are made, changed and released, so that a
	// release never overtakes a creation. Taken with ctx; before mu.
	deciding turn.Turn
	// untold says that the ledger may count this host among those that use a subnet of
	// which it has no pool: after a release, after an answer that was lost, and at each
	// start, as the disk may be an older one. Only who is deciding changes it.
	untold atomic.Bool

	// Guarded by mu.
	pools       map[netip.Prefix]*allocator
	absentSince map[string]time.Time // since when a network of a pool is seen not to be
}

// New reads everything back from disk and serves at once; it asks nobody.
func New(cfg Config) (*IPAM, error) {
	e := &env{cfg: cfg}
	raw, err := cfg.Disk.Load()
	if err != nil {
		return nil, fmt.Errorf("ipam: %w", err)
	}
	r, err := restore(e, raw)
	if err != nil {
		return nil, err
	}
	if len(r.leftovers) > 0 {
		if err := cfg.Disk.Commit(nil, r.leftovers...); err != nil {
			return nil, fmt.Errorf("ipam: forget addresses of released subnets: %w", err)
		}
	}
	i := &IPAM{env: e, deciding: turn.New(), pools: r.pools, absentSince: map[string]time.Time{}}
	i.untold.Store(true)
	i.life, i.stop = context.WithCancel(context.Background())
	i.work.Go(i.sweepForEver)
	return i, nil
}

// Close ends what runs behind the scenes.
func (i *IPAM) Close() {
	i.stop()
	i.work.Wait()
}

// Routes are the methods of the protocol for an rpc.Server.
func (i *IPAM) Routes() map[string]rpc.Handler {
	return map[string]rpc.Handler{
		"IpamDriver.GetCapabilities":         rpc.Ask(i.GetCapabilities),
		"IpamDriver.GetDefaultAddressSpaces": rpc.Ask(i.GetDefaultAddressSpaces),
		"IpamDriver.RequestPool":             rpc.Call(i.RequestPool),
		"IpamDriver.ReleasePool":             rpc.Call(i.ReleasePool),
		"IpamDriver.RequestAddress":          rpc.Call(i.RequestAddress),
		"IpamDriver.ReleaseAddress":          rpc.Call(i.ReleaseAddress),
	}
}

// lookup finds the pool of a subnet, or nil.
func (i *IPAM) lookup(subnet netip.Prefix) *allocator {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p := i.pools[subnet]; p != nil && !p.gone {
		return p
	}
	return nil
}

// decide enters the section in which subnets change; the caller leaves it by
// calling the returned function.
func (i *IPAM) decide(ctx context.Context) (leave func(), err error) {
	if leave, err = i.deciding.WaitWithin(ctx); err == nil {
		return leave, nil
	}
	return nil, fmt.Errorf("ipam: another network is being created or removed and waits for the ledger; try again, and look at weft status if this lasts: %w", err)
}
