package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/datapath/linux"
	"github.com/weftnet/weft/netmap"
)

// place is this host's address on the underlay.
type place struct {
	Addr netip.Addr `json:"addr"`
	MTU  int        `json:"mtu"` // bytes
	// Wanted was WEFT_ADVERTISE at that time. If it has changed since, the old place does not
	// count.
	Wanted string `json:"wanted,omitempty"`
}

const placeKey = "underlay"

// nowhere is the place of a host that never had an address. Others cannot reach it, and its own
// containers do not need one.
var nowhere = place{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), MTU: 1500}

// findPlace returns this host's address and MTU when its agent starts. Docker may start before
// the network has an address, and the containers that start then need the agent. So findPlace
// falls back to the last known address, and checkUnderlay corrects it later.
func (a *Agent) findPlace() (place, error) {
	last := a.lastPlace()
	addr, mtu, err := a.cfg.Kernel.Underlay(last.Addr)
	switch {
	case err == nil:
		found := place{addr, mtu, a.cfg.Settings.Advertise.String()}
		if found != last {
			a.keepPlace(found)
		}
		return found, nil
	case last.Addr.IsValid():
	case errors.Is(err, linux.ErrNoAddress):
		last = nowhere
	default:
		return place{}, err
	}
	a.problem("underlay", lostPlace(last.Addr, err))
	return last, nil
}

// lastPlace returns the place that is on disk, or zero if there is none or WEFT_ADVERTISE has
// changed.
func (a *Agent) lastPlace() (last place) {
	kept, err := a.store.Bucket("host").Load()
	if err != nil || json.Unmarshal(kept[placeKey], &last) != nil || last.Wanted != a.cfg.Settings.Advertise.String() {
		return place{}
	}
	return last
}

// keepPlace writes the place of this host to disk, for a start without an address. A failure is
// logged only.
func (a *Agent) keepPlace(p place) {
	raw, err := json.Marshal(p)
	if err == nil {
		err = a.store.Bucket("host").Commit(map[string][]byte{placeKey: raw})
	}
	if err != nil {
		a.log.Warn("the underlay's address cannot be written to disk", "addr", p.Addr, "err", err)
	}
}

// lostPlace says why the other hosts cannot reach this one.
func lostPlace(addr netip.Addr, err error) string {
	if addr == nowhere.Addr {
		return fmt.Sprintf("this host has no underlay address yet, other hosts cannot reach it; it goes on as soon as it has one: %v", err)
	}
	return fmt.Sprintf("this host has lost its underlay address %s, other hosts cannot reach it; it goes on as soon as it has that address or another one: %v", addr, err)
}

// watchUnderlay wakes reconcile when the kernel reports a change of the underlay.
func (a *Agent) watchUnderlay(ctx context.Context) {
	a.cfg.Kernel.WatchUnderlay(ctx, func() {
		a.moved.Store(true)
		a.wake()
	})
}

// checkUnderlay compares this host's place with the kernel. After a change of the address the
// agent starts again, because memberlist accepts no other address of a live member, and a start
// announces everything anyway. A new MTU is only announced.
func (a *Agent) checkUnderlay() {
	was := a.place()
	current := was.Addr
	if current == nowhere.Addr {
		current = netip.Addr{}
	}
	addr, mtu, err := a.cfg.Kernel.Underlay(current)
	if err != nil {
		a.problem("underlay", lostPlace(was.Addr, err))
		return
	}
	a.problem("underlay", "")
	now := place{addr, mtu, was.Wanted}
	switch {
	case addr != was.Addr:
		a.log.Warn("this host has another underlay address: its agent starts again with it", "was", was.Addr, "addr", addr)
		a.keepPlace(now)
		a.end()
	case mtu != was.MTU:
		a.log.Info("the underlay has another MTU: containers that start from now on get what it carries", "was", was.MTU, "mtu", mtu)
		a.keepPlace(now)
		setMTU(a, func() { a.mtu = mtu })
	}
}

// setMTU changes what this host can send to all others at once, and announces it if it differs.
func setMTU(a *Agent, change func()) {
	a.mu.Lock()
	change()
	mtu, was := a.mtu, a.fact.MTU
	if a.carries > 0 {
		mtu = min(mtu, a.carries)
	}
	a.mu.Unlock()
	if mtu != was {
		a.changeFact(func(f *netmap.HostFact) { f.MTU = mtu })
		a.wake()
	}
}

// place returns the place that this host announces.
func (a *Agent) place() place {
	a.mu.Lock()
	defer a.mu.Unlock()
	return place{a.fact.Underlay.Addr(), a.mtu, a.cfg.Settings.Advertise.String()}
}
