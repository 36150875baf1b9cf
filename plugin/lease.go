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
	"github.com/weftnet/weft/turn"
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
	// Outdated says that this disk is proven to be an older copy, whatever the ledger
	// thinks of the start that it shows. Only another identity ends that.
	Outdated bool `json:"outdated,omitempty"`
}

// lasts reports whether no renewal lifts the fence.
func (f *fence) lasts() bool { return f.Renounced || f.Left || f.Outdated }

// lease is this host's right to hand out addresses: until when, by its own clocks,
// and whether the ledger took it back. It is on disk before it counts. All methods
// are safe for concurrent use.
type lease struct {
	clocks *clocks
	disk   ipam.Disk

	// writing is held while the disk is written, so that it ends up with what counts
	// last. Before mu, which is never held that long.
	writing turn.Turn

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
func openLease(disk ipam.Disk, c *clocks) (*lease, error) {
	l := &lease{clocks: c, disk: disk, writing: turn.New(), changed: make(chan struct{}), wanted: make(chan struct{}, 1)}
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
// fence that was learnt before, unless that lasts.
func (l *lease) grant(sent ledger.Moment) error {
	defer l.writing.Wait()()
	l.mu.Lock()
	before := l.fence
	late := l.sent.Boot == sent.Boot && sent.Up < l.sent.Up
	fenced := before != nil && (before.lasts() || !after(sent, before.Learnt))
	left := l.leaving != nil && !after(sent, *l.leaving)
	l.mu.Unlock()
	if late || fenced || left {
		return nil
	}
	if err := l.stamp(sent, fenceKey, leavingKey); err != nil {
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

// stamp writes down when the last renewal was sent, and forgets some keys.
func (l *lease) stamp(sent ledger.Moment, del ...string) error {
	raw, err := json.Marshal(sent)
	if err != nil {
		return err
	}
	return l.disk.Commit(map[string][]byte{leaseKey: raw}, del...)
}

// restamp writes the last renewal down as sent earlier if the wall clock was set back
// since: after a reboot that clock alone says how old the lease is.
func (l *lease) restamp() error {
	now, err := l.clocks.sending()
	if err != nil {
		return err
	}
	defer l.writing.Wait()()
	l.mu.Lock()
	sent := l.sent
	l.mu.Unlock()
	earlier := now.Wall.Add(sent.Up - now.Up)
	if sent.Boot != now.Boot || sent.Wall.Sub(earlier) < clockStep {
		return nil
	}
	sent.Wall = earlier
	if err := l.stamp(sent); err != nil {
		return fmt.Errorf("plugin: that the wall clock was set back was not written down: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = sent
	return nil
}

// revoke takes in that this identity may hand out nothing any more. It counts at
// once, on disk or not. A renounced identity stays renounced.
func (l *lease) revoke(f fence) error {
	now, err := l.clocks.now()
	f.Learnt = now
	if !l.take(f) {
		return nil
	}
	defer l.writing.Wait()()
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
	if old := l.fence; old == nil || f.Renounced && !old.Renounced || !old.lasts() && old.Why != f.Why {
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

// proven is the refusal of a disk that is proven to be an older copy, or nil.
func (l *lease) proven() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fence == nil || !l.fence.Outdated {
		return nil
	}
	return netmap.Refuse(netmap.Fenced, "%s", l.fence.Why)
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
	l.sent = ledger.Moment{}
	l.mu.Unlock()
	l.question()
}

// left is how long the lease lasts; not above zero: no more.
func (l *lease) left() (time.Duration, error) {
	now, err := l.clocks.now()
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

// right is what this host may hand out.
type right int

const (
	nothing right = iota
	// whatWasHere are the addresses that containers had when the machine stopped, by its
	// disk. That may be an older copy than the one it stopped with, until the ledger has
	// accepted what it shows.
	whatWasHere
	anything
)

// standing is what may be handed out now, and why not more. Pending means that a
// renewal would change that.
func (l *lease) standing() (may right, pending bool, err error) {
	now, err := l.clocks.now()
	if err != nil {
		return nothing, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.sent.Left(now)
	switch {
	case l.fence != nil && l.fence.Renounced:
		return nothing, false, netmap.Refuse(netmap.Removed, "%s", l.fence.Why)
	case l.fence != nil:
		return nothing, false, netmap.Refuse(netmap.Fenced, "%s", l.fence.Why)
	case l.leaving != nil:
		return nothing, true, netmap.Refuse(netmap.NoQuorum, "this host is leaving the cluster (weft host leave), and no keeper has said yet whether it has left; it hands out nothing new until one answers (weft status)")
	case l.sent.Boot == "":
		return nothing, true, netmap.Refuse(netmap.NoQuorum, "this host has no lease of its membership yet; it gets one as soon as it reaches the keepers of the ledger (weft status)")
	case left <= 0 && l.sent.Boot != now.Boot:
		return nothing, true, netmap.Refuse(netmap.NoQuorum, "this host was started since it last reached the keepers of the ledger, and by its wall clock that may be a day ago; running containers are not affected; repair the network to the keepers (weft status), and the host goes on by itself")
	case left <= 0:
		return nothing, true, netmap.Refuse(netmap.NoQuorum, "this host has not reached the keepers of the ledger for a day, and its lease ran out %v ago; running containers are not affected; repair the network to the keepers (weft status), and the host goes on by itself", (-left).Round(time.Second))
	case l.sent.Boot != now.Boot:
		return whatWasHere, true, netmap.Refuse(netmap.NoQuorum, "this host was started since it last reached the keepers of the ledger, who alone can tell whether its disk is the newest one: until then it hands out only the addresses that its containers had when it stopped; start the keepers or repair the network to them (weft status), and the host goes on by itself")
	}
	return anything, false, nil
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

// allowed says what may be handed out, and why not more. Where a renewal would change
// the answer it asks for one and waits a little.
func (l *lease) allowed(ctx context.Context) (right, error) {
	if may, pending, err := l.standing(); !pending {
		return may, err
	}
	ctx, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		may, pending, err := l.standing()
		if !pending {
			return may, err
		}
		l.want()
		select {
		case <-changed:
		case <-ctx.Done():
			may, _, err := l.standing() // time has passed, perhaps days
			return may, err
		}
	}
}
