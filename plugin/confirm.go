package plugin

import (
	"encoding/json"

	"github.com/weftnet/weft/ledger"
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
