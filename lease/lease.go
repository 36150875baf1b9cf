package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

const (
	renewEvery = time.Hour
	leaseWait  = 2 * time.Second // how long a request waits for a renewal that would allow it
)

const (
	leaseKey  = "sent"
	fenceKey  = "fence"
	formerKey = "former" // the fence of the identity before this one
	// leavingKey is on disk before the ledger is asked to let this host leave. After a crash
	// in between, the host thus knows that it left and was not removed. The next accepted
	// renewal that was sent later deletes it.
	leavingKey = "leaving"
)

// Disk keeps records. Commit returns when they are synced. A Commit that fails changes nothing.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Fence says that this identity may hand out no more addresses, and why.
type Fence struct {
	Host   netmap.HostID `json:"host"`
	Why    string        `json:"why"`
	Learnt Moment        `json:"learnt"`
	// IdentityReset says that the identity is given up: the next start of the agent takes
	// another one. No renewal lifts the fence.
	IdentityReset bool `json:"identity_reset,omitempty"`
	// Left says that an operator made the host leave the cluster. Only an operator can make
	// it join again, as a new host.
	Left bool `json:"left,omitempty"`
	// Outdated says that this disk is proven to be an older copy, even if the ledger accepts
	// its start. Only a new identity ends that.
	Outdated bool `json:"outdated,omitempty"`
}

// lasts reports whether the fence stays even if the ledger accepts a renewal.
func (f *Fence) lasts() bool { return f.IdentityReset || f.Left || f.Outdated }

// Lease is this host's right to hand out addresses. It ends by the host's own clocks, or when
// the ledger revokes it. A change is written to disk before it takes effect, except that a
// revocation takes effect at once. All methods are safe for concurrent use.
type Lease struct {
	clocks *Clocks
	disk   Disk

	// writing is held during writes, so that the disk ends up with the last change. It is
	// taken before mu, which is never held during a write.
	writing turn.Turn

	mu        sync.Mutex
	sent      Moment // when the last accepted renewal was sent
	fence     *Fence
	kept      Fence // the fence as it is on disk
	former    *Fence
	leaving   *Moment       // when the ledger was asked to let this host leave, which it may still decide
	confirmed bool          // the ledger has answered this start of the agent
	changed   chan struct{} // closed and replaced at each change
	wanted    chan struct{} // somebody waits for a renewal
}

// Open reads the lease that an earlier start of the agent left on disk.
func Open(disk Disk, c *Clocks) (*Lease, error) {
	l := &Lease{clocks: c, disk: disk, writing: turn.New(), changed: make(chan struct{}), wanted: make(chan struct{}, 1)}
	kept, err := disk.Load()
	if err != nil {
		return nil, err
	}
	for key, into := range map[string]any{leaseKey: &l.sent, fenceKey: &l.fence, formerKey: &l.former} {
		if raw, ok := kept[key]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, fmt.Errorf("lease: the record %q on disk cannot be read; was it written by a newer release? %w", key, err)
			}
		}
	}
	if l.fence != nil {
		l.kept = *l.fence
	}
	if len(kept[leavingKey]) > 0 {
		l.leaving = new(Moment) // before this start
	}
	return l, nil
}

// Grant records that the ledger accepted a renewal that was sent at this moment. It lifts
// a fence that was learnt before, unless that fence lasts.
func (l *Lease) Grant(sent Moment) error {
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
		return fmt.Errorf("lease: a renewal was not written down: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept, l.leaving = Fence{}, nil
	if l.sent = sent; l.fence == before { // else it was learnt meanwhile, and stays
		l.fence, l.confirmed = nil, true
	}
	l.notify()
	return nil
}

// after reports whether a renewal was sent after another moment of this host.
func after(sent, what Moment) bool { return sent.Boot != what.Boot || sent.Up > what.Up }

// stamp writes to disk when the last renewal was sent, and deletes some keys.
func (l *Lease) stamp(sent Moment, del ...string) error {
	raw, err := json.Marshal(sent)
	if err != nil {
		return err
	}
	return l.disk.Commit(map[string][]byte{leaseKey: raw}, del...)
}

// Restamp corrects the recorded time of the last renewal if the wall clock was set back since.
// After a reboot the age of the lease is computed from that time.
func (l *Lease) Restamp() error {
	now, err := l.clocks.Sending()
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
		return fmt.Errorf("lease: that the wall clock was set back was not written down: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = sent
	return nil
}

// Revoke records that this identity may hand out no more addresses. It takes effect at once,
// even if the disk cannot be written. It does not replace a fence of an identity reset.
func (l *Lease) Revoke(f Fence) error {
	now, err := l.clocks.Now()
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

// take makes a fence effective in memory. It reports whether there is something to write
// to disk.
func (l *Lease) take(f Fence) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.fence; old == nil || f.IdentityReset && !old.IdentityReset || !old.lasts() && old.Why != f.Why {
		l.fence = &f
		l.notify()
	}
	l.confirmed = true
	return l.kept != *l.fence
}

// ResetIdentity completes the change to a new identity, which has no lease yet. Formerly then
// returns the fence of the old one.
func (l *Lease) ResetIdentity() error {
	f, _ := l.IdentityReset()
	raw, err := json.Marshal(f)
	if err == nil {
		err = l.disk.Commit(map[string][]byte{formerKey: raw}, fenceKey, leaseKey, leavingKey)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.former, l.fence, l.kept, l.sent, l.leaving = &f, nil, Fence{}, Moment{}, nil
	}
	return err
}

// Formerly returns the fence of the identity before this one, if there was one.
func (l *Lease) Formerly() (Fence, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.former == nil {
		return Fence{}, false
	}
	return *l.former, true
}

// IdentityReset reports whether the identity was given up and that is on disk, and returns the
// fence.
func (l *Lease) IdentityReset() (Fence, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept, l.kept.IdentityReset
}

// Proven returns an error if the disk is proven to be an older copy.
func (l *Lease) Proven() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fence == nil || !l.fence.Outdated {
		return nil
	}
	return netmap.Refuse(netmap.Fenced, "%s", l.fence.Why)
}

// notify wakes the callers that wait for a change. The caller holds mu.
func (l *Lease) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Invalidate ends the lease until the ledger has accepted a renewal of this start.
func (l *Lease) Invalidate() {
	l.mu.Lock()
	l.sent = Moment{}
	l.mu.Unlock()
	l.RequestRenewal()
}

// left returns how long the lease still lasts. It has ended if the result is not positive.
func (l *Lease) left() (time.Duration, error) {
	now, err := l.clocks.Now()
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent.Left(now), nil
}

// Fenced reports whether the ledger refuses this identity.
func (l *Lease) Fenced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fence != nil
}

// Due reports whether the caller should send a renewal now.
func (l *Lease) Due() bool {
	left, err := l.left()
	l.mu.Lock()
	defer l.mu.Unlock()
	return err == nil && (!l.confirmed || left <= Length-renewEvery)
}

// Right is what this host may hand out.
type Right int

const (
	// Nothing new at all.
	Nothing Right = iota
	// WhatWasHere are the addresses that, according to the disk, containers had when the
	// machine stopped. Until the ledger has accepted this start, the disk may be an older copy.
	WhatWasHere
	// Anything is every address that this host owns.
	Anything
)

// State returns what may be handed out now, and why not more. Pending means that a
// renewal would change that.
func (l *Lease) State() (may Right, pending bool, err error) {
	now, err := l.clocks.Now()
	if err != nil {
		return Nothing, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.sent.Left(now)
	switch {
	case l.fence != nil && l.fence.IdentityReset:
		return Nothing, false, netmap.Refuse(netmap.Removed, "%s", l.fence.Why)
	case l.fence != nil:
		return Nothing, false, netmap.Refuse(netmap.Fenced, "%s", l.fence.Why)
	case l.leaving != nil:
		return Nothing, true, netmap.Refuse(netmap.NoQuorum, "this host is leaving the cluster (weft host leave), and no keeper has said yet whether it has left; it hands out nothing new until one answers (weft status)")
	case l.sent.Boot == "":
		return Nothing, true, netmap.Refuse(netmap.NoQuorum, "this host has no lease of its membership yet; it gets one as soon as it reaches the keepers of the ledger (weft status)")
	case left <= 0 && l.sent.Boot != now.Boot:
		return Nothing, true, netmap.Refuse(netmap.NoQuorum, "this host was started since it last reached the keepers of the ledger, and by its wall clock that may be a day ago; running containers are not affected; repair the network to the keepers (weft status), and the host goes on by itself")
	case left <= 0:
		return Nothing, true, netmap.Refuse(netmap.NoQuorum, "this host has not reached the keepers of the ledger for a day, and its lease ran out %v ago; running containers are not affected; repair the network to the keepers (weft status), and the host goes on by itself", (-left).Round(time.Second))
	case l.sent.Boot != now.Boot:
		return WhatWasHere, true, netmap.Refuse(netmap.NoQuorum, "this host was started since it last reached the keepers of the ledger, who alone can tell whether its disk is the newest one: until then it hands out only the addresses that its containers had when it stopped; start the keepers or repair the network to them (weft status), and the host goes on by itself")
	}
	return Anything, false, nil
}

// RequestRenewal makes a renewal due at once.
func (l *Lease) RequestRenewal() {
	l.mu.Lock()
	l.confirmed = false
	l.mu.Unlock()
	l.want()
}

// Wanted receives a token while somebody waits for a renewal.
func (l *Lease) Wanted() <-chan struct{} { return l.wanted }

func (l *Lease) want() {
	select {
	case l.wanted <- struct{}{}:
	default: // it is known
	}
}

// Allowed returns what may be handed out, and why not more. If a renewal would change the
// answer, it requests one and waits up to two seconds for it.
func (l *Lease) Allowed(ctx context.Context) (Right, error) {
	if may, pending, err := l.State(); !pending {
		return may, err
	}
	ctx, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		may, pending, err := l.State()
		if !pending {
			return may, err
		}
		l.want()
		select {
		case <-changed:
		case <-ctx.Done():
			may, _, err := l.State() // time has passed, perhaps days
			return may, err
		}
	}
}
