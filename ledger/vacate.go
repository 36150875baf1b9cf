package ledger

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

const requestVacate = "ledger.vacate" // id of a host -> nothing: it is about to leave

// Pace of a keeper that hands its place over.
const (
	vacateEvery = time.Second
	vacateFor   = 10 * time.Second // the leader remembers a wish so long
)

// Vacate hands over this host's place among the keepers, if it has one, after another host has
// taken it. It ends when this host keeps nothing, or with ctx.
func (l *Ledger) Vacate(ctx context.Context) error {
	led := time.Now() // when there was a leader last
	for {
		k := l.kept()
		if k == nil || len(k.machine.facts().admitted) <= 1 { // alone it cannot leave either
			return nil
		}
		leader := k.leaderPeer()
		if !leader.ID.IsZero() {
			led = time.Now()
		}
		if time.Since(led) > doLimit {
			return l.noQuorum(map[netmap.HostID]string{})
		}
		switch {
		case k.leads():
			l.leaving.add(l.cfg.Self)
		case leader.ID.IsZero():
		default:
			l.askVacate(ctx, l.cfg.current(leader))
		}
		if turn.Sleep(ctx, vacateEvery) {
			continue
		}
		return netmap.Refuse(netmap.NoQuorum, "this host keeps the ledger, and no other host has taken its place in time; see weft status, and try again when the others are up")
	}
}

func (l *Ledger) askVacate(ctx context.Context, at netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, vacateEvery)
	defer cancel()
	if _, err := l.cfg.Underlay.Call(ctx, at, requestVacate, l.cfg.Self[:]); err != nil {
		l.log.Debug("ledger: the leader was not told that this host leaves", "addr", at.String(), "err", err)
	}
}

func (l *Ledger) handleVacate(_ context.Context, from netip.AddrPort, body []byte) ([]byte, error) {
	if len(body) != len(netmap.HostID{}) {
		return nil, netmap.Refuse(netmap.BadInput, "a wish to leave does not say which host; give one")
	}
	id := netmap.HostID(body)
	k := l.kept()
	if k == nil || !k.leads() {
		return nil, netmap.Refuse(netmap.Busy, "host %s does not lead the ledger's keepers; ask the one that does", l.cfg.Self.Short())
	}
	if _, admitted := k.machine.facts().admitted[id]; !admitted {
		return nil, netmap.Refuse(netmap.Unknown, "host %s is no member of this cluster; see weft status", id.Short())
	}
	if !includes(k.machine.addrsOf(id), from.Addr().Unmap()) {
		return nil, netmap.Refuse(netmap.Busy, "host %s is not at %s, and nobody else says that it leaves; run weft host leave there", id.Short(), from.Addr())
	}
	l.leaving.add(id)
	return nil, nil
}

// leavers are the hosts that are about to leave, and when they said so last.
type leavers struct {
	mu sync.Mutex
	at map[netmap.HostID]time.Time
}

// add records that a host is about to leave. It is forgotten soon unless the host says so
// again.
func (s *leavers) add(id netmap.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[netmap.HostID]time.Time{}
	}
	s.at[id] = time.Now()
}

func (s *leavers) list() map[netmap.HostID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[netmap.HostID]bool{}
	for id, at := range s.at {
		if time.Since(at) > vacateFor {
			delete(s.at, id)
			continue
		}
		out[id] = true
	}
	return out
}
