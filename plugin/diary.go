package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// The diary is what this host remembers of its endpoints: who had which address from
// when to when. The ledger knows the blocks, not the addresses. Nothing depends on
// it, so it is written a little later, and a crash loses its last seconds.

// Bounds and pace of the diary.
const (
	diaryMost  = 4096 // entries, the oldest go first
	diaryEvery = 2 * time.Second
)

// diaryRequest is the name of the host-to-host request for entries.
const diaryRequest = "plugin/diary"

// diaryEntry is one endpoint's time.
type diaryEntry struct {
	ID      netmap.EndpointID `json:"id"`
	Name    string            `json:"name,omitempty"`
	Network netmap.NetworkID  `json:"network"`
	V4      netip.Addr        `json:"v4"`
	V6      netip.Addr        `json:"v6"`
	From    int64             `json:"from"`         // Unix milliseconds
	To      int64             `json:"to,omitempty"` // 0: it is there
}

// diary is safe for concurrent use.
type diary struct {
	disk  ipam.Disk
	dirty chan struct{} // holds one while something is to be written

	mu      sync.Mutex
	entries map[string]diaryEntry // by key on disk
	open    map[netmap.EndpointID]string
	last    uint64
	changed map[string]bool // to be written, or deleted where there is no entry any more
}

// openDiary reads what was written, and ends what ended while no agent ran.
func openDiary(disk ipam.Disk, there func(netmap.EndpointID) bool) (*diary, error) {
	d := &diary{disk: disk, dirty: make(chan struct{}, 1), entries: map[string]diaryEntry{}, open: map[netmap.EndpointID]string{}, changed: map[string]bool{}}
	kept, err := disk.Load()
	if err != nil {
		return nil, err
	}
	for key, raw := range kept {
		var e diaryEntry
		n, err := strconv.ParseUint(key, 16, 64)
		if err != nil || json.Unmarshal(raw, &e) != nil {
			d.changed[key] = true // it cannot be read, and nothing depends on it
			continue
		}
		d.last = max(d.last, n)
		if e.To == 0 && there(e.ID) {
			d.open[e.ID] = key
		} else if e.To == 0 {
			e.To = time.Now().UnixMilli()
			d.changed[key] = true
		}
		d.entries[key] = e
	}
	if len(d.changed) > 0 {
		d.poke()
	}
	return d, nil
}

func (d *diary) poke() {
	select {
	case d.dirty <- struct{}{}:
	default:
	}
}

// began notes that an endpoint is there, or its name.
func (d *diary) began(e netmap.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key, known := d.open[e.ID]
	if !known {
		d.last++
		key = fmt.Sprintf("%016x", d.last)
		d.open[e.ID] = key
		d.entries[key] = diaryEntry{ID: e.ID, Name: e.Name, Network: e.Network, V4: e.V4, V6: e.V6, From: time.Now().UnixMilli()}
		d.changed[key] = true
		d.trim()
		d.poke()
		return
	}
	if was := d.entries[key]; e.Name != "" && was.Name != e.Name {
		was.Name = e.Name
		d.entries[key], d.changed[key] = was, true
		d.poke()
	}
}

// ended notes that it is gone.
func (d *diary) ended(id netmap.EndpointID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key, known := d.open[id]
	if !known {
		return
	}
	e := d.entries[key]
	e.To = time.Now().UnixMilli()
	d.entries[key], d.changed[key] = e, true
	delete(d.open, id)
	d.poke()
}

// trim forgets the oldest entries that have ended. The caller holds mu.
func (d *diary) trim() {
	if len(d.entries) <= diaryMost {
		return
	}
	for _, key := range d.keys() {
		if d.entries[key].To != 0 {
			delete(d.entries, key)
			d.changed[key] = true
		}
		if len(d.entries) <= diaryMost*7/8 {
			return
		}
	}
}

func (d *diary) keys() []string {
	out := make([]string, 0, len(d.entries))
	for key := range d.entries {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

// find are the entries that a query wants, the newest so many, the oldest first.
func (d *diary) find(q ledger.Query) []diaryEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []diaryEntry
	for _, key := range slices.Backward(d.keys()) {
		e := d.entries[key]
		to := cmp.Or(e.To, time.Now().UnixMilli())
		if q.Wants(addrSpace(e.V4), e.From, to) || q.Space.IsValid() && q.Wants(addrSpace(e.V6), e.From, to) {
			out = append(out, e)
		}
		if len(out) == ledger.MaxEvents {
			break
		}
	}
	slices.Reverse(out)
	return out
}

func addrSpace(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// write writes what changed.
func (d *diary) write() error {
	d.mu.Lock()
	set, del := map[string][]byte{}, []string{}
	for key := range d.changed {
		e, there := d.entries[key]
		if !there {
			del = append(del, key)
			continue
		}
		raw, err := json.Marshal(e)
		if err == nil { // it is made of texts and numbers
			set[key] = raw
		}
	}
	clear(d.changed)
	d.mu.Unlock()
	if len(set)+len(del) == 0 {
		return nil
	}
	slices.Sort(del)
	if err := d.disk.Commit(set, del...); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		for key := range set {
			d.changed[key] = true
		}
		return fmt.Errorf("plugin: the history of endpoints cannot be written: %w", err)
	}
	return nil
}

// keepDiary writes what changed a little later, and once more at the end.
func (a *Agent) keepDiary(ctx context.Context) {
	for {
		select {
		case <-a.diary.dirty:
			rest(ctx, diaryEvery)
		case <-ctx.Done():
		}
		sentence := ""
		if err := a.diary.write(); err != nil {
			sentence = err.Error()
			a.diary.poke()
		}
		a.problem("diary", sentence)
		if ctx.Err() != nil {
			return
		}
	}
}
