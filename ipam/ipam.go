package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/store/synced"
	"github.com/weftnet/weft/turn"
)

// Time limits. Docker is answered within 4.5 s in any case.
const (
	patience     = 4 * time.Second         // of a request that waits for a further block
	grantTimeout = 3500 * time.Millisecond // of one question to the ledger; its refusal arrives before patience ends
	minBackoff   = time.Second             // between attempts to prefetch
	maxBackoff   = time.Minute
	sweepEvery   = time.Minute
	orphanAfter  = 15 * time.Second // then an address without an endpoint may be asked for again
	auxWithin    = 30 * time.Second // dockerd asks for --aux-addresses right after their pool
	unusedAfter  = 10 * time.Minute // then a pool that became no network is released
	// abandonedAfter is when an address that became no endpoint is freed. Docker asks for an
	// IPv6 address in between, and repeats a call for some 30 s. Attach refuses a later one.
	abandonedAfter = 90 * time.Second
	mostAtOnce     = 64 // addresses that a host asks for at once…
	partAtOnce     = 16 // …and of a small subnet this part, in whole blocks
	fewAtOnce      = 16 // where a host asks for fewer at once, it asks for none ahead of need: others may need them
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
	Count  int          // how many blocks at most
	Ahead  bool         // no container waits for it
}

// GatewayName is the name under which Reserve sets a subnet's gateway; with a zero
// address it keeps the gateway that is set, or takes the first usable address.
const GatewayName = "gateway"

// Decisions are the questions to the ledger. Each ends with its context, and its error says
// why; the user sees the text of a *netmap.Refusal unchanged. A method that gives a right away
// takes a synced.Value, the proof that this host has given it up on its disk.
type Decisions interface {
	EnsureSubnet(ctx context.Context, r SubnetRequest) (netmap.Subnet, error)
	// UseSubnets says which subnets this host uses. The ledger takes back what the host has
	// of other subnets, and may give it to others.
	UseSubnets(ctx context.Context, subnets synced.Value[[]netip.Prefix]) error
	Reserve(ctx context.Context, subnet netip.Prefix, name string, addr netip.Addr) (netmap.Subnet, error)
	// GrantBlock also returns the claims of other hosts inside the blocks.
	GrantBlock(ctx context.Context, r BlockRequest) ([]netmap.Block, []netmap.Claim, error)
	// Claim asks the ledger for an address. If it belongs to another host, Claim asks that
	// host to cede it.
	Claim(ctx context.Context, subnet netip.Prefix, addr netip.Addr) (netmap.Claim, error)
	// ClaimForHost asks the ledger for an address for this host itself.
	ClaimForHost(ctx context.Context, subnet netip.Prefix) (netmap.Claim, error)
	// Cede gives an address, which this host has given up on disk, to another host.
	Cede(ctx context.Context, c synced.Value[Transfer]) (netmap.Claim, error)
	// ReturnBlock and Unclaim give back what this host has. They change nothing if it has it
	// under another epoch.
	ReturnBlock(ctx context.Context, b synced.Value[Returned]) error
	Unclaim(ctx context.Context, c synced.Value[netmap.Claim]) error
	// AskOthers asks for a single address where the ledger grants no block: first the ledger,
	// for one that lies in no host's block, then the hosts that own something of the area to
	// donate (IPAM.Donate), those with most free addresses first.
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
	Own    bool   // it leads to a network of Weft
}

// Collision returns a route of the hosts' own networks that a range overlaps. A default route, or one of the two halves
// by which a VPN takes its place, overlaps everything and does not count.
func Collision(routes []Route, p netip.Prefix) (Route, bool) {
	i := slices.IndexFunc(routes, func(r Route) bool { return !r.Own && r.Prefix.Bits() > 1 && r.Prefix.Overlaps(p) })
	if i < 0 {
		return Route{}, false
	}
	return routes[i], true
}

// Config says what an IPAM works with.
type Config struct {
	Decisions Decisions
	Disk      Disk
	// Holder names who has an address on this host ("endpoint 1f00…, web-2"); empty: no
	// endpoint has it. Nil: no holder is known. It must not call back.
	Holder func(netip.Addr) string
	// Released is called when Docker has released an address, before it is freed. The endpoint
	// may have gone without a call: then it calls EndpointGone. Nil: nothing is called.
	Released func(context.Context, netip.Addr) error
	// Allowed returns an error that says why no new address may be handed out. Last reports
	// whether addresses that were in use here when this host stopped may be handed out all the
	// same. It is called with every request and may wait a little. Nil: everything is allowed.
	// It must not call back.
	Allowed func(context.Context) (last bool, err error)
	// InUse says who uses an address although no endpoint has it ("container web on host b"); empty: nobody does. It takes
	// some milliseconds. Nil: nobody is asked. It must not call back.
	InUse func(ctx context.Context, subnet netip.Prefix, a netip.Addr) string
	// Yield has this host give up its own address on a network, which Ask.Host asked for under
	// this id: a container needs it more. Nil: it keeps it.
	Yield func(ctx context.Context, id string) error
	// Returning returns the names of containers that may be starting again, for a dockerd that
	// does not say for which container it asks. Nil: no name is known. It must not call back.
	Returning func() []string
	// Facts returns what the facts say about a subnet, and false while they are not known yet.
	// Nil: they never are. It must not call back.
	Facts func(subnet netip.Prefix) (SubnetFacts, bool)
	// Networks returns the networks that this host has made or is about to give up, by their
	// owners' ids. Nil: they are not known. It must not call back.
	Networks func() []string
	// Routes returns the routes of this host without those of Weft. Nil: there are none.
	Routes func() []Route
	// Problem is called with errors of work in the background. It must not block. Nil: they are
	// dropped.
	Problem func(error)
}

// IPAM hands out addresses to all owners, and answers Docker's IPAM protocol. All methods are
// safe for concurrent use.
type IPAM struct {
	*env

	// deciding is held while subnets are made, changed and released, so that a release never
	// overtakes a creation. It is taken with a context, and before mu.
	deciding turn.Turn
	// mustSendUsed is true while the ledger may count this host among the users of a subnet of which
	// it has no pool: after a release, after an answer that was lost, and at each start, since
	// the disk may be an older one. Only the holder of deciding changes it.
	mustSendUsed atomic.Bool

	// Guarded by mu.
	pools       map[netip.Prefix]*allocator
	absentSince map[string]time.Time // since when a network of a pool is missing
}

// New reads the state from disk and serves at once. It asks nobody.
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
	i.mustSendUsed.Store(true)
	i.life, i.stop = context.WithCancel(context.Background())
	i.work.Go(i.sweepForEver)
	return i, nil
}

// Close ends the work in the background.
func (i *IPAM) Close() {
	i.stop()
	i.work.Wait()
}

// Routes returns the methods of the protocol for an rpc.Server.
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

// lookup returns the allocator of a subnet, or nil.
func (i *IPAM) lookup(subnet netip.Prefix) *allocator {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p := i.pools[subnet]; p != nil && !p.releasing {
		return p
	}
	return nil
}

// decide waits until this caller may change subnets. The caller calls leave afterwards.
func (i *IPAM) decide(ctx context.Context) (leave func(), err error) {
	if leave, err = i.deciding.WaitWithin(ctx); err == nil {
		return leave, nil
	}
	return nil, fmt.Errorf("ipam: another network is being created or removed and waits for the ledger; try again, and look at weft status if this lasts: %w", err)
}
