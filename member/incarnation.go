package member

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store"
)

// IncarnationFile is in a directory that a reboot empties.
const IncarnationFile = "incarnation"

// incarnation is the newest start of an agent since the machine was started.
type incarnation struct {
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
func (b incarnation) follows(last incarnation, id store.Identity) bool {
	if last.Boot != b.Boot || last.Host != b.Host {
		return true
	}
	return last.Start < b.Start && (len(id.Lineage) == 0 || slices.Contains(id.Lineage, store.Birth{Start: last.Start, Nonce: last.Nonce}))
}

// checkIncarnation finds out whether the disk is an older copy than the one of this machine's
// last agent, and gives the identity up for lost then: what was handed out since that
// copy is on no record. Where there is no such file nothing is known.
func (m *Member) checkIncarnation() {
	now, err := m.clocks.Now()
	if m.cfg.Volatile == "" || err != nil {
		return
	}
	file := filepath.Join(m.cfg.Volatile, IncarnationFile)
	mine := incarnation{Boot: now.Boot, Host: m.self, Start: m.identity.Start, Nonce: m.identity.Nonce}
	var last incarnation
	raw, err := os.ReadFile(file)
	known := err == nil && json.Unmarshal(raw, &last) == nil
	m.moved = !known || last.Boot != mine.Boot || last.Host != mine.Host
	switch {
	case !known || m.moved:
	case !mine.follows(last, m.identity):
		_ = m.outdated(fmt.Sprintf("start %d of this host's agent was here since the machine was started, and the disk does not know of it", last.Start))
		return
	case last.Ended && m.endedLast() != last.Nonce:
		_ = m.outdated(fmt.Sprintf("start %d of this host's agent ended in order, and the disk does not know of that", last.Start))
		return
	}
	m.noteIncarnation(mine)
}

func (m *Member) noteIncarnation(b incarnation) {
	raw, err := json.Marshal(b)
	if err == nil {
		err = writeVolatile(filepath.Join(m.cfg.Volatile, IncarnationFile), raw)
	}
	if err != nil {
		m.cfg.Log.Warn("an older copy of the state directory would not be noticed", "err", err)
		return
	}
	m.noted = b
}

// endedLast is the nonce of the start that ended in order last, by the disk.
func (m *Member) endedLast() (nonce uint64) {
	kept, err := m.cfg.Bucket("host").Load()
	if err != nil || json.Unmarshal(kept[endKey], &nonce) != nil {
		return 0
	}
	return nonce
}

// noteEnd writes down that this start ends in order, on disk first: a copy of the disk
// that was made while it ran does not say so.
func (m *Member) noteEnd() {
	b := m.noted
	raw, err := json.Marshal(b.Nonce)
	if b.Ended = true; err == nil && b.Start != 0 && m.cfg.Bucket("host").Commit(map[string][]byte{endKey: raw}) == nil {
		m.noteIncarnation(b)
	}
}
