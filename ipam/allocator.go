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

// env is what the IPAM and all its allocators work with.
type env struct {
	cfg  Config
	stop context.CancelFunc
	life context.Context // of what runs behind the scenes
	work sync.WaitGroup
	mu   sync.Mutex
}

// allocator hands out the addresses of one subnet: its Pool, and what is under way. Guarded
// by env.mu.
type allocator struct {
	*pool.Pool
	*env
	prefix       netip.Prefix        // of the subnet; never changes
	gone         bool                // is being released: nothing may begin
	said         BlockBits           // --ipam-opt of the last RequestPool
	unregistered bool                // the ledger does not know this host as a holder: see Reregister
	networks     map[string]struct{} // by their owners' ids
	opened       time.Time           // of the last RequestPool, while it may be followed by requests for reservations
	asked        map[netip.Addr]bool // reservations that were asked for since then
	since        map[netip.Addr]time.Time
	made         time.Time
	last         map[netip.Addr]lastUse // in use when this host stopped
	request      *grantRequest
	inFlight     inFlight                     // while it has blocks nothing outside of others is ceded
	cededOutside map[netip.Addr]netmap.HostID // ceded outside own blocks, since before the request began: they may lie in what it brings
	leaving      map[netip.Prefix]departure   // blocks on their way back
	returns      map[netip.Prefix]Returned    // given back on disk, of which the ledger is to hear
	unclaims     map[netip.Addr]netmap.Claim  // the same for single addresses
	given        map[netip.Prefix]givenUp     // what of all that must not be taken again
	adopted      map[netip.Prefix]time.Time   // when a block came that was waited for
	idle         map[netip.Prefix]time.Time   // since when a block was seen to be empty
	unused       map[netip.Addr]time.Time     // since when a claim was seen to be free
	missing      map[netip.Prefix]time.Time   // since when something granted is not known here
	waits        map[netip.Addr]chan struct{} // closed when a locked address is unlocked; made by who waits
	unsure       bool                         // the outcome of a grant is unknown: ask what is ours first
	backoff      time.Duration
	retryAt      time.Time
}

func newAllocator(e *env, r subnetRecord) *allocator {
	p := &allocator{
		Pool: pool.New(r.Subnet), env: e, prefix: r.Subnet.Prefix, networks: map[string]struct{}{}, asked: map[netip.Addr]bool{},
		since: map[netip.Addr]time.Time{}, made: time.Now(), unsure: true, unregistered: r.Unregistered,
		leaving: map[netip.Prefix]departure{}, returns: map[netip.Prefix]Returned{}, unclaims: map[netip.Addr]netmap.Claim{},
		given: map[netip.Prefix]givenUp{}, adopted: map[netip.Prefix]time.Time{}, idle: map[netip.Prefix]time.Time{},
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

// allowed is asked before a new address is picked, so that nothing is locked in vain.
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
