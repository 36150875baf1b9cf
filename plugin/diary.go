package plugin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// The diary is what this host remembers of its endpoints: who had which address from
// when to when. The ledger knows the blocks, not the addresses. Nothing depends on
// it, so it is written a little later, and a crash loses its last seconds.

// Bounds and pace of the diary. What has ended is on disk in pages; 300,000 entries of some
// 150 bytes are two days of a host that starts a hundred containers a minute.
const (
	diaryPage  = 64                    // entries
	diaryPages = 300_000/diaryPage + 1 // the oldest goes first
	diaryEvery = 2 * time.Second
)

// diaryRequest is the name of the host-to-host request for entries.
const diaryRequest = "plugin/diary"

// diaryEntry is one endpoint's time.
type diaryEntry struct {
	ID      netmap.EndpointID `json:"id"` // of one that has ended: how it begins
	Name    string            `json:"name,omitempty"`
	Network netmap.NetworkID  `json:"network"`
	V4      netip.Addr        `json:"v4,omitzero"`
	V6      netip.Addr        `json:"v6,omitzero"`
	From    int64             `json:"from"`         // Unix milliseconds
	To      int64             `json:"to,omitempty"` // 0: it is there
}

// Keys on disk: an endpoint that is there by its id, a page by its number.
const (
	openPrefix = "o"
	pagePrefix = "p"
)

func openKey(id netmap.EndpointID) string { return openPrefix + string(id) }
func pageKey(n uint64) string             { return fmt.Sprintf("%s%016x", pagePrefix, n) }

// diary is safe for concurrent use.
type diary struct {
	disk  Bucket
	most  uint64        // pages
	dirty chan struct{} // holds one while something is to be written

	mu    sync.Mutex
	open  map[netmap.EndpointID]diaryEntry
	first uint64 // the oldest page that is kept; above 1, older ones were dropped
	last  uint64 // the page that is being filled
	page  []diaryEntry
	// What is to be written; nil: deleted.
	changed map[string]any
}

// openDiary reads what was written, and ends what ended while no agent ran.
func openDiary(disk Bucket, there func(netmap.EndpointID) bool) (*diary, error) {
	d := &diary{disk: disk, most: diaryPages, dirty: make(chan struct{}, 1), open: map[netmap.EndpointID]diaryEntry{}, first: 1, last: 1, changed: map[string]any{}}
	if err := d.readPages(); err != nil {
		return nil, err
	}
	// Earlier builds had a key of digits for each entry.
	err := disk.Backward("0", func(key string, _ []byte) bool {
		d.change(key, nil)
		return true
	})
	if err != nil {
		return nil, err
	}
	err = disk.Backward(openPrefix, func(key string, value []byte) bool {
		var e diaryEntry
		if json.Unmarshal(value, &e) != nil || openKey(e.ID) != key {
			d.changed[key] = nil // it cannot be read, and nothing depends on it
			return true
		}
		d.open[e.ID] = e
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(d.open)) {
		if !there(id) {
			d.ended(id)
		}
	}
	return d, nil
}

// readPages finds out which pages are on disk, and reads the one that is being filled.
func (d *diary) readPages() error {
	newest := true
	return d.disk.Backward(pagePrefix, func(key string, value []byte) bool {
		n, err := strconv.ParseUint(key[len(pagePrefix):], 16, 64)
		if err != nil {
			return true
		}
		if newest {
			_ = json.Unmarshal(value, &d.page) // if it cannot be read it is filled anew
			d.last, newest = n, false
		}
		d.first = n
		return true
	})
}

func (d *diary) poke() {
	select {
	case d.dirty <- struct{}{}:
	default:
	}
}

// change has an entry written, or deleted. The caller holds mu.
func (d *diary) change(key string, value any) {
	d.changed[key] = value
	d.poke()
}

// began notes that an endpoint is there, or its name.
func (d *diary) began(e netmap.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, known := d.open[e.ID]
	switch {
	case !known:
		was = diaryEntry{ID: e.ID, Name: e.Name, Network: e.Network, V4: e.V4, V6: e.V6, From: time.Now().UnixMilli()}
	case e.Name == "" || e.Name == was.Name:
		return
	default:
		was.Name = e.Name
	}
	d.open[e.ID] = was
	d.change(openKey(e.ID), was)
}

// ended notes that it is gone, and drops what is too old.
func (d *diary) ended(id netmap.EndpointID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, known := d.open[id]
	if !known {
		return
	}
	delete(d.open, id)
	e.ID, e.To = shortID(id), time.Now().UnixMilli()
	d.change(openKey(id), nil)
	if len(d.page) >= diaryPage {
		d.page, d.last = nil, d.last+1
	}
	d.page = append(d.page, e)
	d.change(pageKey(d.last), d.page)
	for ; d.last-d.first >= d.most; d.first++ {
		d.change(pageKey(d.first), nil)
	}
}

// shortID is how people are shown an endpoint that has no name.
func shortID(id netmap.EndpointID) netmap.EndpointID { return id[:min(12, len(id))] }

// memoir is an answer out of a diary.
type memoir struct {
	Entries []diaryEntry `json:"entries,omitempty"` // the newest so many, the oldest first
	// Forgot is until when ends were dropped that might have been wanted, Unix
	// milliseconds; 0: none were.
	Forgot int64 `json:"forgot,omitempty"`
}

// clockSlack is how far the wall clock may have been set back while ends were written one
// after the other.
const clockSlack = 24 * time.Hour

// find is what a query wants.
func (d *diary) find(q ledger.Query) (out memoir, err error) {
	if err := d.write(); err != nil { // what is still to be written is on no disk
		return out, err
	}
	d.mu.Lock()
	first := d.first
	for _, e := range d.open {
		if e.wanted(q) {
			out.Entries = append(out.Entries, e)
		}
	}
	d.mu.Unlock()
	needle, oldest, most := needle(q.Space), pageKey(first), len(out.Entries)+ledger.MaxEvents
	err = d.disk.Backward(pagePrefix, func(key string, value []byte) bool {
		var page []diaryEntry
		if key < oldest {
			return false
		}
		if key == oldest && first > 1 || bytes.Contains(value, needle) {
			_ = json.Unmarshal(value, &page) // nothing depends on one that cannot be read
		}
		for _, e := range page {
			if e.wanted(q) {
				out.Entries = append(out.Entries, e)
			}
		}
		if key == oldest && first > 1 && len(page) > 0 {
			out.Forgot = page[0].To
		}
		return len(out.Entries) < most && (len(page) == 0 || page[0].To > q.Since-clockSlack.Milliseconds())
	})
	slices.SortFunc(out.Entries, func(x, y diaryEntry) int { return cmp.Compare(x.From, y.From) })
	out.Entries = out.Entries[max(0, len(out.Entries)-ledger.MaxEvents):]
	return out, err
}

// wanted reports whether a query is about an endpoint's time.
func (e diaryEntry) wanted(q ledger.Query) bool {
	to := cmp.Or(e.To, time.Now().UnixMilli())
	return q.Wants(addrSpace(e.V4), e.From, to) || q.Space.IsValid() && q.Wants(addrSpace(e.V6), e.From, to)
}

// needle is in every entry on disk with an address that a query is about.
func needle(space netip.Prefix) []byte {
	if !space.IsValid() || !space.IsSingleIP() {
		return nil
	}
	return strconv.AppendQuote(nil, space.Addr().String())
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
	changed := d.changed
	d.changed = map[string]any{}
	d.mu.Unlock()
	set, del := map[string][]byte{}, []string{}
	for key, value := range changed {
		if value == nil {
			del = append(del, key)
			continue
		}
		raw, err := json.Marshal(value)
		if err == nil { // it is made of texts and numbers
			set[key] = raw
		}
	}
	if len(changed) == 0 {
		return nil
	}
	slices.Sort(del)
	if err := d.disk.Commit(set, del...); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		maps.Copy(changed, d.changed) // what is newer stays
		d.changed = changed
		return fmt.Errorf("plugin: the history of endpoints cannot be written: %w", err)
	}
	return nil
}

// keepDiary writes what changed a little later, and once more at the end.
func (a *Agent) keepDiary(ctx context.Context) {
	for {
		select {
		case <-a.diary.dirty:
			turn.Sleep(ctx, diaryEvery)
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
