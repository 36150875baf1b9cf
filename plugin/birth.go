package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store"
)

// birthFile is in a directory that a reboot empties.
const birthFile = "birth"

// birth is the newest start of an agent since the machine was started.
type birth struct {
	Boot  string        `json:"boot"`
	Host  netmap.HostID `json:"host"`
	Start uint64        `json:"start"`
	Nonce uint64        `json:"nonce"`
	// Ended says that this start ended in order, and that its nonce is on disk as the last
	// thing that it wrote.
	Ended bool `json:"ended,omitempty"`
}

// endKey is where the nonce of the start is on disk that ended in order last.
const endKey = "end"

// follows reports whether this start comes after another of the same disk: a disk that
// does not know it is an older copy.
func (b birth) follows(last birth, id store.Identity) bool {
	if last.Boot != b.Boot || last.Host != b.Host {
		return true
	}
	return last.Start < b.Start && (len(id.Lineage) == 0 || slices.Contains(id.Lineage, store.Birth{Start: last.Start, Nonce: last.Nonce}))
}

// checkBirth finds out whether the disk is an older copy than the one of this machine's
// last agent, and gives the identity up for lost then: what was handed out since that
// copy is on no record. Where there is no such file nothing is known.
func (a *Agent) checkBirth() {
	now, err := a.clocks.Now()
	if a.cfg.Volatile == "" || err != nil {
		return
	}
	file := filepath.Join(a.cfg.Volatile, birthFile)
	mine := birth{Boot: now.Boot, Host: a.self, Start: a.identity.Start, Nonce: a.identity.Nonce}
	var last birth
	raw, err := os.ReadFile(file)
	known := err == nil && json.Unmarshal(raw, &last) == nil
	a.moved = !known || last.Boot != mine.Boot || last.Host != mine.Host
	switch {
	case !known || a.moved:
	case !mine.follows(last, a.identity):
		_ = a.outdated(fmt.Sprintf("start %d of this host's agent was here since the machine was started, and the disk does not know of it", last.Start))
		return
	case last.Ended && a.endedLast() != last.Nonce:
		_ = a.outdated(fmt.Sprintf("start %d of this host's agent ended in order, and the disk does not know of that", last.Start))
		return
	}
	a.noteBirth(mine)
}

func (a *Agent) noteBirth(b birth) {
	raw, err := json.Marshal(b)
	if err == nil {
		err = writeVolatile(filepath.Join(a.cfg.Volatile, birthFile), raw)
	}
	if err != nil {
		a.log.Warn("an older copy of the state directory would not be noticed", "err", err)
		return
	}
	a.noted = b
}

// endedLast is the nonce of the start that ended in order last, by the disk.
func (a *Agent) endedLast() (nonce uint64) {
	kept, err := a.store.Bucket("host").Load()
	if err != nil || json.Unmarshal(kept[endKey], &nonce) != nil {
		return 0
	}
	return nonce
}

// noteEnd writes down that this start ends in order, on disk first: a copy of the disk
// that was made while it ran does not say so.
func (a *Agent) noteEnd() {
	b := a.noted
	raw, err := json.Marshal(b.Nonce)
	if b.Ended = true; err == nil && b.Start != 0 && a.store.Bucket("host").Commit(map[string][]byte{endKey: raw}) == nil {
		a.noteBirth(b)
	}
}

// outdated gives this identity up for lost, as the disk is proven to be an older copy.
func (a *Agent) outdated(how string) error {
	text := fmt.Sprintf("the state directory of host %s is an older copy of the one that it had: %s; nothing is handed out; put the newer one back, or make this a new host (weft host new-identity)", a.self.Short(), how)
	a.revoke(lease.Fence{Host: a.self, Why: text, Outdated: true})
	a.problem("membership", text)
	return netmap.Refuse(netmap.Fenced, "%s", text)
}

// compare finds out, after a decision of this start, whether the disk is an older copy
// than the newest that the ledger heard of: then it claims what was given up since. A
// recovered ledger knows all that the disk holds only after it was shown that.
func (a *Agent) compare(ctx context.Context, generation, index uint64) error {
	if !a.owns() || a.shown.unsure() {
		return nil
	}
	if err := a.readOwn(ctx, generation, index); err != nil {
		return err
	}
	how, err := a.ipam.Outdated(func(subnet netip.Prefix) (ipam.Word, bool) {
		view := a.gossip.View()
		return a.wordOf(view, subnet), view.Generation == generation
	})
	if how != "" {
		return a.outdated(how)
	}
	return err
}

// owns reports whether the disk says that the ledger gave this host anything.
func (a *Agent) owns() bool {
	return slices.ContainsFunc(a.ipam.Inventory(), func(p ipam.PoolStock) bool { return len(p.Blocks)+len(p.Claims) > 0 })
}

// whoRequest is the name of the host-to-host request that asks an agent who it is.
const whoRequest = "host/who"

// twinWait is how long a host whose disk may have come from another machine looks for
// that machine, before it keeps the ledger as that did.
const twinWait = 3 * time.Second

func (a *Agent) serveWho(context.Context, netip.AddrPort, []byte) ([]byte, error) {
	return json.Marshal(birth{Host: a.self, Start: a.identity.Start, Nonce: a.identity.Nonce})
}

// copied reports whether another machine runs as this host. The gossip's word is no
// proof: an earlier start of this host may look alive for a while. The other one is
// asked.
func (a *Agent) copied(ctx context.Context) bool {
	changed, unsubscribe := a.gossip.Subscribe()
	defer unsubscribe()
	patience := time.NewTimer(twinWait)
	defer patience.Stop()
	for {
		if twin, seen := a.gossip.Twin(); seen && a.answersAsThis(ctx, twin.Addr) {
			return true
		}
		if a.gossip.Synced() { // it stands alone, or has met who knows all
			return false
		}
		select {
		case <-changed:
		case <-patience.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (a *Agent) answersAsThis(ctx context.Context, at netip.AddrPort) bool {
	if at == a.fact.Underlay {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	raw, err := a.port.Call(ctx, at, whoRequest, nil)
	var other birth
	return err == nil && json.Unmarshal(raw, &other) == nil && other.Host == a.self && other.Nonce != a.identity.Nonce
}
