package plugin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

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
	if raw, err := os.ReadFile(file); err == nil && json.Unmarshal(raw, &last) == nil && !mine.follows(last, a.identity) {
		a.log.Error("the state directory is an older copy of the one that was here: nothing is handed out before the ledger was asked", "start", mine.Start, "seen", last.Start)
		a.lease.distrust()
		return
	}
	raw, err := json.Marshal(mine)
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
