package plugin

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

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
}

// follows reports whether this start comes after another of the same disk: a disk that
// does not know it is an older copy.
func (b birth) follows(last birth, id store.Identity) bool {
	if last.Boot != b.Boot || last.Host != b.Host {
		return true
	}
	return last.Start < b.Start && (len(id.Lineage) == 0 || slices.Contains(id.Lineage, store.Birth{Start: last.Start, Nonce: last.Nonce}))
}

// checkBirth trusts the lease on disk only if the disk is not an older copy than the
// one of this machine's last agent. The ledger would find out as well, but this host
// may not reach it, and serves at once after a restart. Where there is no such file
// nothing is lost but that.
func (a *Agent) checkBirth() {
	now, err := a.lease.clock()
	if a.cfg.Volatile == "" || err != nil {
		return
	}
	file := filepath.Join(a.cfg.Volatile, birthFile)
	mine := birth{Boot: now.Boot, Host: a.self, Start: a.identity.Start, Nonce: a.identity.Nonce}
	var last birth
	raw, err := os.ReadFile(file)
	known := err == nil && json.Unmarshal(raw, &last) == nil
	a.moved = !known || last.Boot != mine.Boot || last.Host != mine.Host
	if known && !mine.follows(last, a.identity) {
		a.log.Error("the state directory is an older copy of the one that was here: nothing is handed out before the ledger was asked", "start", mine.Start, "seen", last.Start)
		a.lease.distrust()
		return
	}
	raw, err = json.Marshal(mine)
	if err == nil {
		err = os.MkdirAll(a.cfg.Volatile, 0o755)
	}
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		a.log.Warn("an older copy of the state directory would not be noticed", "err", err)
	}
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
