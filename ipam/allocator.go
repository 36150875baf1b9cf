package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
)

// env is what IPAM and all its allocators share.
type env struct {
	cfg  Config
	stop context.CancelFunc
	life context.Context // of the work in the background
	work sync.WaitGroup
	mu   sync.Mutex
}

// allocator hands out the addresses of one subnet: its Pool, and what is under way. All fields
// are guarded by env.mu.
type allocator struct {
	*pool.Pool
	*env
	prefix        netip.Prefix        // of the subnet; never changes
	releasing     bool                // the subnet is being released: nothing may begin
	requestedBits BlockBits           // --ipam-opt of the last RequestPool
	unregistered  bool                // the ledger does not know this host as a holder: see Reregister
	networks      map[string]struct{} // by their owners' ids
	opened        time.Time           // time of the last RequestPool, while requests for reservations may follow
	asked         map[netip.Addr]bool // reservations that were requested since then
	since         map[netip.Addr]time.Time
	made          time.Time
	last          map[netip.Addr]lastUse // in use when this host stopped
	request       *grantRequest
	inFlight      inFlight                     // while blocks are in flight, nothing outside own blocks is ceded
	cededOutside  map[netip.Addr]netmap.HostID // ceded outside own blocks since before the request began: they may lie in the block that it brings
	leaving       map[netip.Prefix]departure   // blocks that are being returned
	returns       map[netip.Prefix]Returned    // blocks returned on disk, of which the ledger has not heard yet
	unclaims      map[netip.Addr]netmap.Claim  // the same for claims
	givenUp       map[netip.Prefix]givenUp     // what was given up and must not be taken again under the same epoch
	adopted       map[netip.Prefix]time.Time   // when a block came that a container waited for
	idle          map[netip.Prefix]time.Time   // since when a block is empty
	unused        map[netip.Addr]time.Time     // since when a claim is free
	missing       map[netip.Prefix]time.Time   // since when something that the ledger granted is not known here
	waits         map[netip.Addr]chan struct{} // closed when a locked address is unlocked; made by the first that waits
	unsure        bool                         // the outcome of a grant is unknown: ask for the blocks that this host has first
	backoff       time.Duration
	retryAt       time.Time
}

func newAllocator(e *env, r subnetRecord) *allocator {
	p := &allocator{
		Pool: pool.New(r.Subnet), env: e, prefix: r.Subnet.Prefix, networks: map[string]struct{}{}, asked: map[netip.Addr]bool{},
		since: map[netip.Addr]time.Time{}, made: time.Now(), unsure: true, unregistered: r.Unregistered,
		leaving: map[netip.Prefix]departure{}, returns: map[netip.Prefix]Returned{}, unclaims: map[netip.Addr]netmap.Claim{},
		givenUp: map[netip.Prefix]givenUp{}, adopted: map[netip.Prefix]time.Time{}, idle: map[netip.Prefix]time.Time{},
		last: map[netip.Addr]lastUse{}, unused: map[netip.Addr]time.Time{}, missing: map[netip.Prefix]time.Time{},
		inFlight:     inFlight{map[netip.Prefix]netmap.Block{}, map[netip.Addr]netmap.Claim{}},
		cededOutside: map[netip.Addr]netmap.HostID{}, waits: map[netip.Addr]chan struct{}{},
	}
	for _, id := range r.Networks {
		p.networks[id] = struct{}{}
	}
	return p
}

func (e *env) holder(a netip.Addr) string {
	if e.cfg.Holder == nil {
		return ""
	}
	return e.cfg.Holder(a)
}

// allowed is called before a new address is picked, so that no address is locked in vain.
func (e *env) allowed(ctx context.Context) (last bool, err error) {
	if e.cfg.Allowed == nil {
		return false, nil
	}
	if last, err = e.cfg.Allowed(ctx); err != nil {
		err = fmt.Errorf("ipam: no new address is handed out: %w", err)
	}
	return last, err
}

func (e *env) problem(err error) {
	if err != nil && e.cfg.Problem != nil {
		e.cfg.Problem(err)
	}
}
