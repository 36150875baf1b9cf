package state

import (
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// What happened, in an Event. The words are for ever.
const (
	EventFounded     = "founded"
	EventJoined      = "joined"       // a host
	EventRemoved     = "removed"      // a host, by another one
	EventLeft        = "left"         // a host, by itself
	EventRecovered   = "recovered"    // the ledger, after its majority was lost
	EventRange       = "range"        // address space was added
	EventSubnet      = "subnet"       // was made
	EventSubnetGone  = "subnet-gone"  // nobody uses it any more
	EventReserved    = "reserved"     // an address of a subnet, for nobody
	EventNetwork     = "network"      // was made
	EventNamed       = "named"        // a network
	EventRetired     = "retired"      // a network was removed by a user
	EventNetworkGone = "network-gone" // with its last member
	EventNameAdded   = "name"         // was added by hand for an address
	EventNameGone    = "name-gone"    // was removed by a user, or with its network
	EventGranted     = "granted"      // a block, or an address by itself
	EventCeded       = "ceded"        // an address, by the host whose block it is in
	EventReturned    = "returned"     // a block or an address, by its holder
	EventTaken       = "taken"        // a block or an address, from a host that was removed
)

// Event is one line of the ledger's history.
type Event struct {
	Index uint64        `json:"i"`
	At    int64         `json:"t,omitempty"` // leader's clock, Unix milliseconds; 0: not known
	What  string        `json:"w"`
	Host  netmap.HostID `json:"h"`           // that it is about: who got or lost something
	Name  string        `json:"n,omitempty"` // of that host, at that time
	By    netmap.HostID `json:"b"`           // who asked, where that is another host
	Space netip.Prefix  `json:"s"`           // the block, subnet or range; an address as a prefix of its full length
	Label string        `json:"l,omitempty"` // the network's name or id
}

// How much of the past is kept: what is younger than a week by the leaders' clocks, and
// of that the newest 65,536 events; and the newest 4,096 in any case. An event has some
// 200 bytes in a snapshot.
const (
	historyFor   = 7 * 24 * time.Hour
	leastHistory = 1 << 12
	mostHistory  = 1 << 16
	historySlop  = 1 << 9 // dropped together
)

// note adds an event to the history.
func (t *step) note(e Event) {
	e.Index, e.At = t.index, t.cmd.At
	if h := t.hosts[e.Host]; h != nil {
		e.Name = clipped(h.Name)
	}
	if t.cmd.Host != e.Host {
		e.By = t.cmd.Host
	}
	t.history = append(t.history, e)
	t.forget()
}

// forget drops events that are old, or too many.
func (t *step) forget() {
	n := len(t.history)
	if n < leastHistory+historySlop {
		return
	}
	old := slices.IndexFunc(t.history, func(e Event) bool { return e.At > t.cmd.At-historyFor.Milliseconds() })
	if old < 0 {
		old = n
	}
	drop := min(n-leastHistory, max(old, n-mostHistory))
	if drop < historySlop {
		return
	}
	for _, e := range t.history[:drop] {
		t.forgot = max(t.forgot, e.At)
	}
	t.history = slices.Clone(t.history[drop:])
}

// clipped bounds a name in the history.
func clipped(name string) string {
	const most = 64
	if len(name) <= most {
		return name
	}
	return name[:most]
}

// noteSet records what became of a noun that is new or has changed.
func (t *step) noteSet(noun any) {
	switch n := noun.(type) {
	case netmap.HostEntry:
		t.noteHost(n)
	case netmap.Range:
		t.note(Event{What: EventRange, Host: t.cmd.Host, Space: n.Prefix})
	case netmap.Subnet:
		what := EventSubnet
		if t.cmd.Kind == KindReserve {
			what = EventReserved
		}
		t.note(Event{What: what, Host: t.cmd.Host, Space: n.Prefix, Label: t.labelOf(n.Prefix)})
	case netmap.Network:
		what := EventNetwork
		switch {
		case n.Retired:
			what = EventRetired
		case t.cmd.Kind == KindNameNetwork:
			what = EventNamed
		}
		t.note(Event{What: what, Host: t.cmd.Host, Space: firstOf(n.Subnets), Label: clipped(networkName(&network{Network: n}))})
	case netmap.StaticName:
		t.note(Event{What: EventNameAdded, Host: t.cmd.Host, Space: netmap.Single(n.Addr), Label: t.nameLabel(n)})
	case netmap.Block:
		t.note(Event{What: EventGranted, Host: n.Owner, Space: n.Prefix, Label: t.labelOf(n.Subnet)})
	case netmap.Claim:
		what := EventGranted
		if n.Owner != t.cmd.Host {
			what = EventCeded
		}
		t.note(Event{What: what, Host: n.Owner, Space: netmap.Single(n.Addr), Label: t.labelOf(n.Subnet)})
	}
}

func (t *step) noteHost(n netmap.HostEntry) {
	switch {
	case n.Removed && n.ID == t.cmd.Host && t.cmd.Kind == KindLeave:
		t.note(Event{What: EventLeft, Host: n.ID})
	case n.Removed:
		t.note(Event{What: EventRemoved, Host: n.ID})
	case t.self == nil:
		t.note(Event{What: EventJoined, Host: n.ID})
	}
}

// noteGone records who lost what.
func (t *step) noteGone(noun any) {
	ended := func(owner netmap.HostID) string {
		if h := t.hosts[owner]; h != nil && h.Removed && t.cmd.Kind != KindLeave {
			return EventTaken
		}
		return EventReturned
	}
	switch n := noun.(type) {
	case netmap.StaticName:
		t.note(Event{What: EventNameGone, Host: t.cmd.Host, Space: netmap.Single(n.Addr), Label: t.nameLabel(n)})
	case netmap.Block:
		t.note(Event{What: ended(n.Owner), Host: n.Owner, Space: n.Prefix, Label: t.labelOf(n.Subnet)})
	case netmap.Claim:
		t.note(Event{What: ended(n.Owner), Host: n.Owner, Space: netmap.Single(n.Addr), Label: t.labelOf(n.Subnet)})
	case netmap.Subnet:
		t.note(Event{What: EventSubnetGone, Host: t.cmd.Host, Space: n.Prefix})
	case netmap.Network:
		t.note(Event{What: EventNetworkGone, Host: t.cmd.Host, Space: firstOf(n.Subnets), Label: clipped(networkName(&network{Network: n}))})
	}
}

func (t *step) labelOf(p netip.Prefix) string {
	if n := t.networkOf(p); n != nil {
		return clipped(networkName(n))
	}
	return ""
}

func firstOf(ps []netip.Prefix) netip.Prefix {
	if len(ps) == 0 {
		return netip.Prefix{}
	}
	return ps[0]
}

// Query says which events are wanted. Zero fields want all.
type Query struct {
	Space netip.Prefix  `json:"space"` // overlaps it
	Host  netmap.HostID `json:"host"`  // got, lost or asked
	Since int64         `json:"since,omitempty"`
	Until int64         `json:"until,omitempty"` // Unix milliseconds
	Limit int           `json:"limit,omitempty"` // the newest so many; 0 and more than MaxEvents: MaxEvents
}

// MaxEvents bounds an answer.
const MaxEvents = 1000

// Wants reports whether a query is about a space at a time. A space or a time that is
// not known is wanted by no query that asks for one.
func (q Query) Wants(space netip.Prefix, from, to int64) bool {
	switch {
	case q.Space.IsValid() && (!space.IsValid() || !q.Space.Overlaps(space)):
		return false
	case q.Since > 0 && to < q.Since, q.Until > 0 && (from == 0 || from > q.Until):
		return false
	}
	return true
}

// Past is an answer to a Query.
type Past struct {
	Events []Event `json:"events,omitempty"` // the oldest first
	// Forgot is until when events were dropped that might have been wanted, Unix
	// milliseconds; 0: none were.
	Forgot int64 `json:"forgot,omitempty"`
}

// Past is what a query wants.
func (s *State) Past(q Query) Past { return Past{Events: s.events(q), Forgot: s.forgot} }

func (s *State) events(q Query) []Event {
	limit := q.Limit
	if limit <= 0 || limit > MaxEvents {
		limit = MaxEvents
	}
	var out []Event
	for _, e := range slices.Backward(s.history) {
		if q.Wants(e.Space, e.At, e.At) && (q.Host.IsZero() || e.Host == q.Host || e.By == q.Host) {
			out = append(out, e)
		}
		if len(out) == limit {
			break
		}
	}
	slices.Reverse(out)
	return out
}
