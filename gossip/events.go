package gossip

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/turn"
)

// event is what memberlist reported. Of several with one key the last one counts.
type event struct {
	kind eventKind
	name string // of the node, in memberlist's words
	meta []byte
	addr netip.AddrPort
	why  error // of a refusal
}

type eventKind byte

const (
	eventAlive eventKind = iota
	eventDead
	eventRefused  // another cluster or protocol
	eventConflict // another address under the name of a live node
)

// eventQueueLimit bounds the events that wait. Events about hosts that come alive or die are
// never dropped, as there are no more of them than nodes.
const eventQueueLimit = 1 << 14

// eventQueue accepts events under memberlist's locks and returns them in the order of
// their first arrival.
type eventQueue struct {
	wake chan struct{} // holds at most one

	mu     sync.Mutex
	order  []string
	latest map[string]event
}

func newEventQueue() *eventQueue {
	return &eventQueue{wake: make(chan struct{}, 1), latest: map[string]event{}}
}

func (q *eventQueue) put(e event) {
	key := e.name
	if e.kind == eventRefused || e.kind == eventConflict {
		key = string([]byte{byte(e.kind)}) + e.name + e.addr.String()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, waits := q.latest[key]; !waits {
		if len(q.order) >= eventQueueLimit && e.kind >= eventRefused {
			return
		}
		q.order = append(q.order, key)
	}
	q.latest[key] = e
	turn.Poke(q.wake)
}

func (q *eventQueue) take() []event {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]event, 0, len(q.order))
	for _, key := range q.order {
		out = append(out, q.latest[key])
	}
	q.order = nil
	clear(q.latest)
	return out
}

func eventOf(kind eventKind, n *memberlist.Node, why error) event {
	addr, _ := netip.AddrFromSlice(n.Addr)
	return event{
		kind: kind, name: n.Name, meta: append([]byte(nil), n.Meta...),
		addr: netip.AddrPortFrom(addr.Unmap(), n.Port), why: why,
	}
}

// delegate implements everything that memberlist calls. NotifyAlive, NotifyJoin,
// NotifyLeave and NotifyUpdate run under its locks.
type delegate struct{ g *Gossip }

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte { return d.g.own().encode() }

// NotifyMsg implements memberlist.Delegate: no agent sends user messages.
func (d delegate) NotifyMsg([]byte) { d.g.stats.malformed.Add(1) }

// GetBroadcasts implements memberlist.Delegate: facts take another way.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d delegate) LocalState(bool) []byte { return d.g.localState() }

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState(buf []byte, _ bool) { d.g.mergeRemoteState(buf) }

// NotifyAlive implements memberlist.AliveDelegate: an error keeps the host out.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	err := speaks(n)
	if err == nil {
		err = d.g.own().accepts(n.Meta)
	}
	if err == nil {
		err = d.g.admits(n)
	}
	if err != nil {
		d.g.events.put(eventOf(eventRefused, n, err))
	}
	return err
}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.g.events.put(eventOf(eventAlive, n, nil)) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.g.events.put(eventOf(eventAlive, n, nil)) }

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.g.events.put(eventOf(eventDead, n, nil)) }

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(_, other *memberlist.Node) {
	d.g.events.put(eventOf(eventConflict, other, nil))
}

// speaks returns an error if memberlist would find that hosts cannot speak with a node. One such
// node would fail every join.
func speaks(n *memberlist.Node) error {
	v := uint8(memberlist.ProtocolVersion2Compatible)
	if n.DMin > protocol.Written || n.DMax < protocol.Written || !protocol.Reads(n.DCur) || n.PMin > v || n.PMax < v || n.PCur != v {
		return &protocolError{theirs: n.DCur}
	}
	return nil
}

var errForeign = errors.New("belongs to another cluster")

// accepts returns an error if a host may not be a member next to this one. A host without
// a cluster accepts every host, and every host accepts it.
func (m meta) accepts(theirs []byte) error {
	other, err := decodeMeta(theirs)
	if err != nil {
		return err
	}
	if !m.Cluster.IsZero() && !other.Cluster.IsZero() && m.Cluster != other.Cluster {
		return errForeign
	}
	return nil
}
