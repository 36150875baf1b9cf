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

// IncarnationFile is in Config.Volatile.
const IncarnationFile = "incarnation"

// incarnation identifies one start of an agent.
type incarnation struct {
	Boot  string        `json:"boot"`
	Host  netmap.HostID `json:"host"`
	Start uint64        `json:"start"`
	Nonce uint64        `json:"nonce"`
	// Ended says that this start ended in order. Its nonce was the last thing that it wrote to
	// disk.
	Ended bool `json:"ended,omitempty"`
}

// endKey holds the nonce of the start that ended in order last.
const endKey = "end"

// follows reports whether this start comes after another one of the same disk. If the disk does
// not know that one, it is an older copy.
func (i incarnation) follows(last incarnation, id store.Identity) bool {
	if last.Boot != i.Boot || last.Host != i.Host {
		return true
	}
	return last.Start < i.Start && (len(id.Earlier) == 0 || slices.Contains(id.Earlier, store.Incarnation{Start: last.Start, Nonce: last.Nonce}))
}

// checkIncarnation compares the disk with what the last agent of this machine noted since the
// boot. A disk that does not know that start is an older copy, and does not record what was
// handed out after it was made. Then the identity is given up. Without the file nothing is
// known.
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
		_ = m.outdated(fmt.Sprintf("the disk does not know start %d of this host's agent, which ran since the machine was booted", last.Start))
		return
	case last.Ended && m.endedLast() != last.Nonce:
		_ = m.outdated(fmt.Sprintf("the disk does not know that start %d of this host's agent ended in order", last.Start))
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
		m.cfg.Log.Warn("this start cannot be noted; an older copy of the state directory would not be noticed", "err", err)
		return
	}
	m.noted = b
}

// endedLast returns the nonce of the start that ended in order last, according to the disk.
func (m *Member) endedLast() (nonce uint64) {
	kept, err := m.cfg.Bucket("host").Load()
	if err != nil || json.Unmarshal(kept[endKey], &nonce) != nil {
		return 0
	}
	return nonce
}

// noteEnd writes that this start ends in order: first to disk, so that a copy of the disk that
// was made while the agent ran does not say so.
func (m *Member) noteEnd() {
	b := m.noted
	raw, err := json.Marshal(b.Nonce)
	if b.Ended = true; err == nil && b.Start != 0 && m.cfg.Bucket("host").Commit(map[string][]byte{endKey: raw}) == nil {
		m.noteIncarnation(b)
	}
}
