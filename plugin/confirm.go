package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// keepersKey is where the keepers are on disk that this host believes.
const keepersKey = "trusted"

// loadKeepers reads the keepers that this host believed when it stopped.
func (a *Agent) loadKeepers() (keepers []ledger.Peer) {
	kept, err := a.store.Bucket("keepers").Load()
	if err == nil && len(kept[keepersKey]) > 0 {
		err = json.Unmarshal(kept[keepersKey], &keepers)
	}
	if err != nil {
		a.log.Warn("who kept the ledger cannot be read; this host believes those that answer it first", "err", err)
		return nil
	}
	return keepers
}

// keepKeepers writes down whom this host believes.
func (a *Agent) keepKeepers(keepers []ledger.Peer) {
	raw, err := json.Marshal(keepers)
	if err == nil {
		err = a.store.Bucket("keepers").Commit(map[string][]byte{keepersKey: raw})
	}
	if err != nil {
		a.log.Warn("who keeps the ledger cannot be written down", "err", err)
	}
}

// forgetKeepers has this host believe those that answer it first.
func (a *Agent) forgetKeepers() error {
	return a.store.Bucket("keepers").Commit(nil, keepersKey)
}

// namedHosts are the addresses that WEFT_JOIN and weft connect name.
func (a *Agent) namedHosts(ctx context.Context) []netip.AddrPort {
	return a.peers.Addrs(ctx)
}

const (
	askRemovedWait   = 3 * time.Second // of the five that Docker waits
	askRemovedAtOnce = 500 * time.Millisecond
	askAgainAfter    = time.Second // a keeper that lagged behind may confirm it then
)

// asked is what the keepers said last to whether this host was removed. Safe for
// concurrent use.
type askedKeepers struct {
	mu     sync.Mutex
	denied time.Time
	// open: somebody said that this host was removed, and the keepers neither confirmed nor
	// denied it.
	open bool
}

// askRemoved asks the keepers that this host knew before whether it was removed. What they
// deny is not asked again at once, however often it is said.
func (a *Agent) askRemoved(ctx context.Context) (ledger.Verdict, error) {
	r := &a.asked
	r.mu.Lock()
	fresh := !r.denied.IsZero() && time.Since(r.denied) < askAgainAfter
	r.mu.Unlock()
	if fresh {
		return ledger.Denied, nil
	}
	wait := askRemovedWait
	if ctx.Err() != nil { // the caller waits for nothing but this
		wait = askRemovedAtOnce
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	verdict, err := a.ledger.AskRemoved(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open = verdict == ledger.Unknown; verdict == ledger.Denied {
		r.denied = time.Now()
	}
	return verdict, err
}

// saidRemoved reports whether the facts say that this host was removed, and it has not
// given up its identity yet.
func (a *Agent) saidRemoved() bool {
	_, renounced := a.lease.Renounced()
	return a.gossip.Removed(a.self) && !renounced && !a.hasLeft()
}

// askAgain fires when it is time to ask the keepers once more, as long as the facts say
// that this host was removed.
func (a *Agent) askAgain() <-chan time.Time {
	if !a.saidRemoved() {
		return nil
	}
	return time.After(askAgainAfter)
}

// notRemoved takes in that the ledger goes on with this host.
func (a *Agent) notRemoved() {
	a.asked.mu.Lock()
	a.asked.open = false
	a.asked.mu.Unlock()
	a.problem("removal", "")
}

// unconfirmed reports whether a removal is to be asked about again.
func (a *Agent) unconfirmed() bool {
	a.asked.mu.Lock()
	defer a.asked.mu.Unlock()
	return a.asked.open
}

// heedRemoval gives up this identity if the keepers confirm that it was removed, on
// whoever's word that was asked. The error says why it hands out nothing meanwhile.
func (a *Agent) heedRemoval(ctx context.Context) error {
	verdict, err := a.askRemoved(ctx)
	if _, renounced := a.lease.Renounced(); renounced { // meanwhile, on another question
		return removed(a.fact.Name)
	}
	switch verdict {
	case ledger.Denied:
		a.problem("removal", "")
		return nil
	case ledger.Unknown:
		text := fmt.Sprintf("somebody says that host %s was removed from the cluster, and the keepers that it knows do not confirm that (%v): it keeps its identity and its disk, and hands out nothing new. "+
			"Repair the network to the keepers, and the host goes on by itself; or if weft status on another host lists it as removed, make it a new one here: weft host new-identity --force", a.fact.Name, err)
		a.problem("removal", text)
		return netmap.Refuse(netmap.NoQuorum, "%s", text)
	}
	a.problem("removal", "")
	refusal := removed(a.fact.Name)
	if a.lease.Leaving() {
		a.revoke(lease.Fence{Host: a.self, Why: a.departure(), Left: true})
	} else {
		a.revoke(lease.Fence{Host: a.self, Why: refusal.Text, Renounced: true})
	}
	return refusal
}
