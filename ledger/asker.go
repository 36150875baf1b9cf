package ledger

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// Anybody can write any host's id into a request. So the leader takes a command, and the word that
// a host is about to leave, from the address only at which the ledger knows that host.

// requestStart asks which start of which host runs at an address: nothing -> present.
const requestStart = "ledger.start"

// startWait bounds that question, which is asked while a host waits for its admission.
const startWait = 500 * time.Millisecond

// present is the start of a host that runs now.
type present struct {
	ID    netmap.HostID     `json:"id"`
	Start state.Incarnation `json:"start"`
	Addr  netip.AddrPort    `json:"addr"`
	// Fenced: the ledger refuses this host.
	Fenced bool `json:"fenced,omitempty"`
}

func (l *Ledger) handleStart(context.Context, netip.AddrPort, []byte) ([]byte, error) {
	return state.Encode(present{l.cfg.Self, state.Incarnation{Start: l.cfg.Start, Nonce: l.cfg.Nonce}, l.cfg.Addr, l.cfg.Fenced != nil && l.cfg.Fenced()})
}

// checkAsker refuses a command that does not come from the host that it names. A host that is not at the
// address any more where the ledger knows it is admitted at another one; until another start of it
// answers at the old one, which is then the original or a copy.
func (l *Ledger) checkAsker(ctx context.Context, k *keeper, cmd state.Command, from netip.Addr) *netmap.Refusal {
	if cmd.Kind == state.KindFound {
		return netmap.Refuse(netmap.BadInput, "a cluster is founded by a host for itself, not from %s; see weft status there", from)
	}
	if a := cmd.Admit; a != nil && a.Addr.Addr().Unmap() != from {
		return netmap.Refuse(netmap.Busy, "host %s says that it is at %s and asks from %s; set WEFT_ADVERTISE there to the address that it sends from", cmd.Host.Short(), a.Addr.Addr(), from)
	}
	shown := state.Incarnation{Start: cmd.Start, Nonce: cmd.Nonce}
	places := k.machine.placesOf(cmd.Host, shown, cmd.Kind == state.KindAdmit)
	if len(places) == 0 || includes(places, from) {
		return nil
	}
	if cmd.Kind != state.KindAdmit {
		return netmap.Refuse(netmap.Busy, "a request in the name of host %s comes from %s, and that host is at %s; if it moved, its agent is admitted again by itself, try again", cmd.Host.Short(), from, places[0])
	}
	if at, runs := l.runsElsewhere(ctx, cmd, places); runs {
		return netmap.Refuse(netmap.Fenced, "host %s shows start %d from %s, and runs at %s as well: one of the two machines is a copy of the other; make the copy a new host there (weft host new-identity)", cmd.Host.Short(), cmd.Start, from, at)
	}
	return nil
}

// placesOf returns where the ledger knows a host to be, by what is decided and by the log on the disk. It
// is empty if the ledger refuses or does not know the host, so that nothing follows from its command.
func (m *machine) placesOf(id netmap.HostID, shown state.Incarnation, admit bool) (out []netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range []*state.State{m.state, m.pending} {
		if s == nil {
			continue
		}
		h, _ := s.Host(id)
		newer := admit && shown.Start > h.Incarnation.Start
		if h.Addr.IsValid() && !h.Removed && (newer || shown == h.Incarnation) {
			out = append(out, h.Addr)
		}
	}
	return out
}

// runsElsewhere reports whether a host that the ledger does not refuse answers at one of some addresses, and
// not as the one that is to be admitted: a host that moved may still have its old address. An earlier release
// cannot say, and does not count.
func (l *Ledger) runsElsewhere(ctx context.Context, cmd state.Command, places []netip.AddrPort) (netip.AddrPort, bool) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	asks := present{ID: cmd.Host, Start: state.Incarnation{Start: cmd.Start, Nonce: cmd.Nonce}, Addr: cmd.Admit.Addr}
	for _, at := range places {
		b, err := l.cfg.Underlay.Call(ctx, at, requestStart, nil)
		if err != nil {
			continue
		}
		if p, err := state.Decode[present](b, state.MaxCommand); err == nil && p.ID == cmd.Host && p != asks && !p.Fenced {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

// isMember reports whether the ledger admitted a host and did not remove it, by this keeper's state or
// by the facts: either may be behind.
func (l *Ledger) isMember(id netmap.HostID) bool {
	if k := l.kept(); k != nil {
		if _, admitted := k.machine.facts().admitted[id]; admitted {
			return true
		}
	}
	return slices.ContainsFunc(l.cfg.Facts().Changes, func(c netmap.Change) bool {
		h, is := c.Value.(netmap.HostEntry)
		return is && h.ID == id && !h.Removed
	})
}

// isAt reports whether a host is known to be at an address: by the ledger, or by the gossip, as a host may
// have moved while nothing is decided.
func (l *Ledger) isAt(id netmap.HostID, from netip.Addr) bool {
	places := []netip.AddrPort{l.cfg.addrOf(id)}
	if k := l.kept(); k != nil {
		places = append(places, k.machine.addrsOf(id)...)
	}
	return includes(places, from)
}

func includes(places []netip.AddrPort, addr netip.Addr) bool {
	return slices.ContainsFunc(places, func(p netip.AddrPort) bool { return p.Addr().Unmap() == addr })
}
