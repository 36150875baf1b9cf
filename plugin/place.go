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

// place is where this host is on the underlay.
type place struct {
	Addr netip.Addr `json:"addr"`
	MTU  int        `json:"mtu"` // bytes
	// Wanted is what WEFT_ADVERTISE said then: an operator who changed it since
	// does not want the old place.
	Wanted string `json:"wanted,omitempty"`
}

const placeKey = "underlay"

// nowhere is the address of a host that never had one: others cannot reach it, and its
// own containers need none.
var nowhere = place{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), MTU: 1500}

// findPlace is this host's address and MTU at the start of its agent. Docker may start
// before the network has an address; containers that start then need the agent all the
// same, so the last known address counts, and checkUnderlay goes on looking.
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

// lastPlace is where this host was found last, by its disk; zero: nowhere, or where its
// operator does not want it any more.
func (a *Agent) lastPlace() (last place) {
	kept, err := a.store.Bucket("host").Load()
	if err != nil || json.Unmarshal(kept[placeKey], &last) != nil || last.Wanted != a.cfg.Settings.Advertise.String() {
		return place{}
	}
	return last
}

// keepPlace writes down where this host is, for a start without an address: no reason
// not to go on if that fails.
func (a *Agent) keepPlace(p place) {
	raw, err := json.Marshal(p)
	if err == nil {
		err = a.store.Bucket("host").Commit(map[string][]byte{placeKey: raw})
	}
	if err != nil {
		a.log.Warn("the underlay's address cannot be written down", "addr", p.Addr, "err", err)
	}
}

// lostPlace says why the others cannot reach this host.
func lostPlace(addr netip.Addr, err error) string {
	if addr == nowhere.Addr {
		return fmt.Sprintf("this host has no underlay address yet, other hosts cannot reach it; it goes on as soon as it has one: %v", err)
	}
	return fmt.Sprintf("this host has lost its underlay address %s, other hosts cannot reach it; it goes on as soon as it has that address or another one: %v", addr, err)
}

// watchUnderlay has reconcile look at the underlay when the kernel tells of a
// change there.
func (a *Agent) watchUnderlay(ctx context.Context) {
	a.cfg.Kernel.WatchUnderlay(ctx, func() {
		a.moved.Store(true)
		a.wake()
	})
}

// checkUnderlay looks where this host is on the underlay now. With another address
// the agent starts again: memberlist takes no other address from a member that lives, and
// a start tells everybody everything. Another MTU needs only to be told.
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
		a.changeFact(func(f *netmap.HostFact) { f.MTU = mtu })
		a.wake()
	}
}

// place is where this host says that it is.
func (a *Agent) place() place {
	a.mu.Lock()
	defer a.mu.Unlock()
	return place{a.fact.Underlay.Addr(), a.fact.MTU, a.cfg.Settings.Advertise.String()}
}
