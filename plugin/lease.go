package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// Pace of the lease. Timers stand still while the machine is suspended, so the
// boot clock is looked at every leasePoll.
const (
	renewEvery = time.Hour
	leasePoll  = 30 * time.Second
	leaseWait  = 2 * time.Second // a request waits so long for a renewal that would allow it
)

const (
	leaseKey  = "sent"
	fenceKey  = "fence"
	formerKey = "former" // the fence of the identity before this one
	// leavingKey is on disk from before the ledger is told that this host leaves: after a
	// crash in between, that it is a member no more is no removal. The next renewal that
	// is sent after that and accepted drops it.
	leavingKey = "leaving"
)

// fence says that this identity may hand out nothing any more.
type fence struct {
	Host   netmap.HostID `json:"host"`
	Why    string        `json:"why"`
	Learnt ledger.Moment `json:"learnt"`
	// Renounced says that the identity is given up: the next start of the agent begins
	// with another one (becomeNew). Nothing lifts that.
	Renounced bool `json:"renounced,omitempty"`
	// Left says that the host left the cluster by an operator's word. Only another such
	// word brings it back, as a new host.
	Left bool `json:"left,omitempty"`
}

// lease is this host's right to hand out addresses: until when, by its own clocks,
// and whether the ledger took it back. It is on disk before it counts. All methods
// are safe for concurrent use.
type lease struct {
	clock func() (ledger.Moment, error)
	disk  ipam.Disk

	// writing is held while the disk is written, so that it ends up with what counts
	// last. Before mu, which is never held that long.
	writing chan struct{}

	mu        sync.Mutex
	sent      ledger.Moment // the last renewal that the ledger accepted was sent then
	fence     *fence
	kept      fence // as it is on disk
	former    *fence
	leaving   *ledger.Moment // the ledger was told then that this host leaves, and may decide it yet
	confirmed bool           // the ledger has answered this start of the agent
	changed   chan struct{}  // closed and replaced at each change
	wanted    chan struct{}  // somebody waits for a renewal
}

// openLease reads back what an earlier start of the agent knew.
func openLease(disk ipam.Disk, clock func() (ledger.Moment, error)) (*lease, error) {
	if clock == nil {
		clock = readClocks
	}
	l := &lease{clock: clock, disk: disk, writing: make(chan struct{}, 1), changed: make(chan struct{}), wanted: make(chan struct{}, 1)}
	kept, err := disk.Load()
	if err != nil {
		return nil, err
	}
	for key, into := range map[string]any{leaseKey: &l.sent, fenceKey: &l.fence, formerKey: &l.former} {
		if raw, ok := kept[key]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, fmt.Errorf("plugin: the record %q of the lease cannot be read; was it written by a newer release? %w", key, err)
			}
		}
	}
	if l.fence != nil {
		l.kept = *l.fence
	}
	if len(kept[leavingKey]) > 0 {
		l.leaving = new(ledger.Moment) // before this start
	}
	return l, nil
}

// grant takes in that the ledger accepted a renewal sent at this moment. It lifts a
// fence that was learnt before, unless the identity is renounced.
func (l *lease) grant(sent ledger.Moment) error {
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	l.mu.Lock()
	before := l.fence
	late := l.sent.Boot == sent.Boot && sent.Up < l.sent.Up
	fenced := before != nil && (before.Renounced || before.Left || !after(sent, before.Learnt))
	left := l.leaving != nil && !after(sent, *l.leaving)
	l.mu.Unlock()
	if late || fenced || left {
		return nil
	}
	raw, err := json.Marshal(sent)
	if err == nil {
		err = l.disk.Commit(map[string][]byte{leaseKey: raw}, fenceKey, leavingKey)
	}
	if err != nil {
		return fmt.Errorf("plugin: a renewal of the lease was not written down: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept, l.leaving = fence{}, nil
	if l.sent = sent; l.fence == before { // else it was learnt meanwhile, and stays
		l.fence, l.confirmed = nil, true
	}
	l.tell()
	return nil
}

// after reports whether a renewal was sent after something that happened on this host.
func after(sent, what ledger.Moment) bool { return sent.Boot != what.Boot || sent.Up > what.Up }

// revoke takes in that this identity may hand out nothing any more. It counts at
// once, on disk or not. A renounced identity stays renounced.
func (l *lease) revoke(f fence) error {
	now, err := l.clock()
	f.Learnt = now
	if !l.take(f) {
		return nil
	}
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	l.mu.Lock()
	f = *l.fence // the newest, which no earlier one may replace on disk
	l.mu.Unlock()
	raw, encErr := json.Marshal(f)
	if err := errors.Join(err, encErr, l.disk.Commit(map[string][]byte{fenceKey: raw})); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = f
	return nil
}

// take makes a fence count in memory; it reports whether there is something to be
// written.
func (l *lease) take(f fence) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.fence; old == nil || !old.Renounced && (old.Why != f.Why || f.Renounced) {
		l.fence = &f
		l.tell()
	}
	l.confirmed = true
	return l.kept != *l.fence
}

// renounce ends what becomeNew did: the identity that was renounced is the former
// one, and the present one has no lease yet.
func (l *lease) renounce() error {
	f, _ := l.renounced()
	raw, err := json.Marshal(f)
	if err == nil {
		err = l.disk.Commit(map[string][]byte{formerKey: raw}, fenceKey, leaseKey, leavingKey)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.former, l.fence, l.kept, l.sent, l.leaving = &f, nil, fence{}, ledger.Moment{}, nil
	}
	return err
}

// formerly is the fence of the identity before this one, if there was one.
func (l *lease) formerly() (fence, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.former == nil {
		return fence{}, false
	}
	return *l.former, true
}

// renounced is the fence of an identity that is given up, on disk; false if it is not.
func (l *lease) renounced() (fence, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept, l.kept.Renounced
}

// tell wakes whoever waits for a change. The caller holds mu.
func (l *lease) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// distrust forgets, for this start, until when the lease lasts: only the ledger's word
// counts.
func (l *lease) distrust() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = ledger.Moment{}
}

// left is how long the lease lasts; not above zero: no more.
func (l *lease) left() (time.Duration, error) {
	now, err := l.clock()
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent.Left(now), nil
}

// fenced reports whether the ledger refuses this identity.
func (l *lease) fenced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fence != nil
}

// due reports whether it is time for a renewal.
func (l *lease) due() bool {
	left, err := l.left()
	l.mu.Lock()
	defer l.mu.Unlock()
	return err == nil && (!l.confirmed || left <= ledger.Lease-renewEvery)
}

// standing is why nothing new may be handed out now, or nil. Doubt means that the
// ledger has not been heard since the machine was started: the lease may count, but
// who can ask should ask first.
func (l *lease) standing() (doubt bool, err error) {
	now, err := l.clock()
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.sent.Left(now)
	switch {
	case l.fence != nil && l.fence.Renounced:
		return false, netmap.Refuse(netmap.Removed, "%s", l.fence.Why)
	case l.fence != nil:
		return false, netmap.Refuse(netmap.Fenced, "%s", l.fence.Why)
	case l.leaving != nil:
		return true, netmap.Refuse(netmap.NoQuorum, "this host is leaving the cluster (weft host leave), and no keeper has said yet whether it has left; it hands out nothing new until one answers (weft status)")
	case l.sent.Boot == "":
		return true, netmap.Refuse(netmap.NoQuorum, "this host has no lease of its membership yet; it gets one as soon as it reaches the keepers of the ledger (weft status)")
	case left <= 0 && l.sent.Boot != now.Boot:
		return true, netmap.Refuse(netmap.NoQuorum, "this host was started since it last reached the keepers of the ledger, and by its wall clock that may be a day ago; running containers are not affected; repair the network to the keepers (weft status), and the host goes on by itself")
	case left <= 0:
		return true, netmap.Refuse(netmap.NoQuorum, "this host has not reached the keepers of the ledger for a day, and its lease ran out %v ago; running containers are not affected; repair the network to the keepers (weft status), and the host goes on by itself", (-left).Round(time.Second))
	}
	return !l.confirmed && l.sent.Boot != now.Boot, nil
}

// question makes a renewal due at once.
func (l *lease) question() {
	l.mu.Lock()
	l.confirmed = false
	l.mu.Unlock()
	l.want()
}

func (l *lease) want() {
	select {
	case l.wanted <- struct{}{}:
	default: // it is known
	}
}

// allowed says why nothing new may be handed out. Where a renewal would change the
// answer it asks for one and waits a little.
func (l *lease) allowed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		doubt, err := l.standing()
		if !doubt {
			return err
		}
		l.want()
		select {
		case <-changed:
		case <-ctx.Done():
			_, err := l.standing() // time has passed, perhaps days
			return err
		}
	}
}
