package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// maxPassed is how many addresses one request passes over since they are in use, and a subnet's passedShare the most of it: a container that
// answers for all addresses keeps so many back, and no more.
const (
	maxPassed   = 16
	passedShare = 4
)

// secondLook is the pause before an address that was asked for is refused: hosts may not have heard yet that an endpoint is gone.
const secondLook = 300 * time.Millisecond

// passed are addresses that a request found in use by whoever was not given them. They stay locked until it ends, so
// that it finds others. Nothing of them is remembered: the next request asks again.
type passed struct {
	*allocator
	addrs []netip.Addr
	who   []string
}

// over reports whether to pass over a locked address, which it then keeps locked.
func (p *passed) over(ctx context.Context, a netip.Addr) bool {
	if p.cfg.InUse == nil || uint64(len(p.addrs)) >= min(maxPassed, netmap.Size(p.prefix)/passedShare) {
		return false
	}
	who := p.cfg.InUse(ctx, p.prefix, a)
	if who == "" {
		return false
	}
	p.addrs, p.who = append(p.addrs, a), append(p.who, fmt.Sprintf("%s by %s", a, who))
	return true
}

// end unlocks them.
func (p *passed) end() {
	for _, a := range p.addrs {
		p.endChange(a)
	}
}

// explain adds to an error that no address is free which ones are in use.
func (p *passed) explain(err error) error {
	if len(p.addrs) == 0 {
		return err
	}
	return fmt.Errorf("%w; in use by containers that have them from elsewhere: %s", err, strings.Join(p.who, ", "))
}

// refuseInUse returns why an address that was asked for cannot be handed out if somebody uses it, or nil.
func (p *allocator) refuseInUse(ctx context.Context, a netip.Addr) error {
	p.mu.Lock()
	held := p.IsHeld(a) // a repeated request: its container may use it
	p.mu.Unlock()
	if held || p.cfg.InUse == nil || p.cfg.InUse(ctx, p.prefix, a) == "" || !turn.Sleep(ctx, secondLook) {
		return nil
	}
	if who := p.cfg.InUse(ctx, p.prefix, a); who != "" {
		return netmap.Refuse(netmap.Held, "ipam: %s is in use by %s, though Docker has not given it that (a secondary or virtual address); choose another --ip, or remove the address there first", a, who)
	}
	return nil
}
