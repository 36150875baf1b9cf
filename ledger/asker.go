package ledger

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Anybody can write any host's id into a request. So the leader takes a command, and the word that
// a host is about to leave, from the address only at which the ledger knows that host.

// requestStart asks which start of which host runs at an address: nothing -> present.
const requestStart = "ledger.start"

const (
	startWait   = time.Second     // for the answer, while a host waits for its admission
	offWait     = 2 * time.Second // while an operator waits: three ways there and back, with the handshake
	startAtOnce = 16              // hosts that are asked for at the same time
)

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
// answers at the old one, which is then the original or a copy. It returns what the ledger is to decide.
func (l *Ledger) checkAsker(ctx context.Context, k *keeper, cmd state.Command, from netip.Addr) (state.Command, *netmap.Refusal) {
	if cmd.Kind == state.KindFound {
		return cmd, netmap.Refuse(netmap.BadInput, "a cluster is founded by a host for itself, not from %s; see weft status there", from)
	}
	if a := cmd.Admit; a != nil && a.Addr.Addr().Unmap() != from {
		return cmd, netmap.Refuse(netmap.Busy, "host %s says that it is at %s and asks from %s; set WEFT_ADVERTISE there to the address that it sends from", cmd.Host.Short(), a.Addr.Addr(), from)
	}
	places, newest := k.machine.placesOf(cmd.Host, state.Incarnation{Start: cmd.Start, Nonce: cmd.Nonce})
	switch {
	case !newest && cmd.Kind != state.KindAdmit:
		return onlyRefused(cmd), nil
	case len(places) == 0 || includes(places, from):
		return cmd, nil
	case cmd.Kind != state.KindAdmit:
		return cmd, netmap.Refuse(netmap.Busy, "a request in the name of host %s comes from %s, and that host is at %s; if it moved, its agent is admitted again by itself, try again", cmd.Host.Short(), from, places[0])
	}
	asks := present{ID: cmd.Host, Start: state.Incarnation{Start: cmd.Start, Nonce: cmd.Nonce}, Addr: cmd.Admit.Addr}
	at, runs, busy := l.runs(ctx, asks, places, startWait)
	if runs {
		return cmd, netmap.Refuse(netmap.Fenced, "host %s shows start %d from %s, and runs at %s as well: one of the two machines is a copy of the other; make the copy a new host there (weft host new-identity)", cmd.Host.Short(), cmd.Start, from, at)
	}
	return cmd, busy
}

// checkOff refuses to remove a host on the word that its machine is off while the host answers: it hands out addresses,
// and whoever got its blocks would hand out the same ones. So one member's word takes nothing from a host that runs.
func (l *Ledger) checkOff(ctx context.Context, k *keeper, cmd state.Command) *netmap.Refusal {
	if cmd.Kind != state.KindRemove || cmd.Remove == nil || !cmd.Remove.IsOff {
		return nil
	}
	id := cmd.Remove.Target
	if removed, _ := k.machine.removed(id); removed {
		return nil
	}
	places := k.machine.addrsOf(id)
	if known := l.cfg.addrOf(id); known.IsValid() && !slices.Contains(places, known) {
		places = append(places, known)
	}
	at, runs, busy := l.runs(ctx, present{ID: id}, places, offWait)
	if runs {
		return netmap.Refuse(netmap.Held, "host %s is not off: it answers at %s, and hands out addresses of its blocks; turn that machine off or disable Weft there, then try again", id.Short(), at)
	}
	return busy
}

// onlyRefused is what the ledger decides in place of a command of a host, or of a start of a host, that it does not know:
// it is refused for the same reason. The command itself might come after the admission in the log, and anybody hears
// of a start before it is admitted.
func onlyRefused(cmd state.Command) state.Command {
	return state.Command{Kind: state.KindRenew, Host: cmd.Host, Start: cmd.Start, Nonce: cmd.Nonce, Cluster: cmd.Cluster}
}

// placesOf returns where the ledger knows a host to be, by what is decided and by the log on the disk, and whether the
// start shown is its newest one. There are no places if the ledger does not know the host, or refuses this start of it for ever.
func (m *machine) placesOf(id netmap.HostID, shown state.Incarnation) (out []netip.AddrPort, newest bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range []*state.State{m.state, m.pending} {
		if s == nil {
			continue
		}
		h, _ := s.Host(id)
		if !h.Addr.IsValid() || h.Removed {
			continue
		}
		newest = newest || shown == h.Incarnation
		if (shown.Start > h.Incarnation.Start || shown == h.Incarnation) && !slices.Contains(out, h.Addr) {
			out = append(out, h.Addr)
		}
	}
	return out, newest
}

// runs reports whether a host that the ledger does not refuse answers at one of some addresses, and is not the present
// one that asks: a host that moved may still have its old address. An earlier release cannot say, and does not count.
// Each is asked twice, since a packet may be lost. It is busy while too many hosts are asked for.
func (l *Ledger) runs(ctx context.Context, asks present, places []netip.AddrPort, wait time.Duration) (at netip.AddrPort, runs bool, busy *netmap.Refusal) {
	select {
	case l.elsewhere <- struct{}{}:
		defer func() { <-l.elsewhere }()
	default:
		return at, false, netmap.Refuse(netmap.Busy, "too many hosts are asked at this moment whether they run; try again")
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, place := range places {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		for _, after := range []time.Duration{0, wait / 2} {
			asking.Go(func() {
				if !turn.Sleep(ctx, after) {
					return
				}
				b, err := l.cfg.Underlay.Call(ctx, place, requestStart, nil)
				if err != nil {
					return
				}
				defer cancel() // one answer is enough
				if p, err := state.Decode[present](b, state.MaxCommand); err == nil && p.ID == asks.ID && p != asks && !p.Fenced {
					mu.Lock()
					defer mu.Unlock()
					at, runs = place, true
				}
			})
		}
	}
	asking.Wait()
	return at, runs, nil
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
