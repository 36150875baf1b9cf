package ledger

import (
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// hearing says which renewal of a host this keeper applied last, and when. It is not on disk: a
// keeper that starts again counts from then on, which only removes the host later.
type hearing struct {
	index uint64
	at    time.Time // with the monotonic clock, which nobody sets and which stands still while the machine sleeps
}

// listen records that a host may have renewed its lease. The caller holds mu.
func (m *machine) listen(id netmap.HostID) {
	h, known := m.state.Host(id)
	if !known || h.Heard == m.heard[id].index {
		return
	}
	if m.heard == nil {
		m.heard = map[netmap.HostID]hearing{}
	}
	m.heard[id] = hearing{h.Heard, time.Now()}
}

// mostHeld bounds the addresses that a removal carries.
const mostHeld = 1024

// witness fills in what this keeper observed of the host that is to be removed.
func (m *machine) witness(r *state.Remove) *state.Remove {
	if r == nil {
		return nil
	}
	seen := *r
	seen.Since, seen.Unheard, seen.Held = 0, 0, nil
	if m.held != nil {
		held := slices.SortedFunc(slices.Values(m.held(r.Target)), netip.Addr.Compare)
		seen.Held = held[:min(len(held), mostHeld)]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, ok := m.heard[r.Target]; ok {
		seen.Since, seen.Unheard = h.index, time.Since(h.at).Milliseconds()
	}
	return &seen
}

// overdue returns the hosts that were not heard of for longer than this. The state decides
// whether a removal may go ahead.
func (m *machine) overdue(after time.Duration) []netmap.HostID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netmap.HostID
	for _, h := range m.state.Hosts() {
		if seen, ok := m.heard[h.ID]; ok && !h.Removed && seen.index == h.Heard && time.Since(seen.at) >= after {
			out = append(out, h.ID)
		}
	}
	return out
}
