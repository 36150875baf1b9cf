package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Bounds and pace of the store. Endpoints that have ended are on disk in pages; 300,000
// entries of some 150 bytes are two days of a host that starts a hundred containers a minute.
const (
	pageEntries = 64
	mostPages   = 300_000/pageEntries + 1 // the oldest goes first
	writeEvery  = 2 * time.Second
)

// entry says when an endpoint existed.
type entry struct {
	ID      netmap.EndpointID `json:"id"` // of one that has ended: its first 12 characters
	Name    string            `json:"name,omitempty"`
	Network netmap.NetworkID  `json:"network"`
	V4      netip.Addr        `json:"v4,omitzero"`
	V6      netip.Addr        `json:"v6,omitzero"`
	From    int64             `json:"from"`         // Unix milliseconds
	To      int64             `json:"to,omitempty"` // 0: it has not ended
}

// Keys on disk: an endpoint that has not ended by its id, a page by its number.
const (
	openPrefix = "o"
	pagePrefix = "p"
)

func openKey(id netmap.EndpointID) string { return openPrefix + string(id) }
func pageKey(n uint64) string             { return fmt.Sprintf("%s%016x", pagePrefix, n) }

// Disk keeps records by key, such as a bucket of the store.
type Disk interface {
	Commit(set map[string][]byte, del ...string) error
	// ScanReverse visits the records whose keys begin with a prefix, in descending order of
	// their keys, until visit returns false.
	ScanReverse(prefix string, visit func(key string, value []byte) bool) error
}

// store remembers the endpoints of this host. The ledger knows blocks, not addresses.
// Nothing depends on the store, so it is written a little later, and a crash loses its last
// seconds. Safe for concurrent use.
type store struct {
	disk  Disk
	most  uint64        // pages
	dirty chan struct{} // holds one while something is to be written

	mu    sync.Mutex
	open  map[netmap.EndpointID]entry
	first uint64 // the oldest page that is kept; above 1, older ones were dropped
	last  uint64 // the page that is being filled
	page  []entry
	// What is to be written; nil: deleted.
	changed map[string]any
}

// open reads what was written, and ends the endpoints that ended while no agent ran.
func open(disk Disk, exists func(netmap.EndpointID) bool) (*store, error) {
	d := &store{disk: disk, most: mostPages, dirty: make(chan struct{}, 1), open: map[netmap.EndpointID]entry{}, first: 1, last: 1, changed: map[string]any{}}
	if err := d.readPages(); err != nil {
		return nil, err
	}
	err := disk.ScanReverse(openPrefix, func(key string, value []byte) bool {
		var e entry
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
		if !exists(id) {
			d.ended(id)
		}
	}
	return d, nil
}

// readPages finds out which pages are on disk, and reads the one that is being filled.
func (s *store) readPages() error {
	newest := true
	return s.disk.ScanReverse(pagePrefix, func(key string, value []byte) bool {
		n, err := strconv.ParseUint(key[len(pagePrefix):], 16, 64)
		if err != nil {
			return true
		}
		if newest {
			_ = json.Unmarshal(value, &s.page) // if it cannot be read it is filled anew
			s.last, newest = n, false
		}
		s.first = n
		return true
	})
}

// change has an entry written, or deleted. The caller holds mu.
func (s *store) change(key string, value any) {
	s.changed[key] = value
	turn.Poke(s.dirty)
}

// began notes that an endpoint exists, or its name.
func (s *store) began(e netmap.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.open[e.ID]
	switch {
	case !known:
		was = entry{ID: e.ID, Name: e.Name, Network: e.Network, V4: e.V4, V6: e.V6, From: time.Now().UnixMilli()}
	case e.Name == "" || e.Name == was.Name:
		return
	default:
		was.Name = e.Name
	}
	s.open[e.ID] = was
	s.change(openKey(e.ID), was)
}

// ended notes that an endpoint is gone, and drops the oldest pages beyond the bound.
func (s *store) ended(id netmap.EndpointID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known := s.open[id]
	if !known {
		return
	}
	delete(s.open, id)
	e.ID, e.To = shortID(id), time.Now().UnixMilli()
	s.change(openKey(id), nil)
	if len(s.page) >= pageEntries {
		s.page, s.last = nil, s.last+1
	}
	s.page = append(s.page, e)
	s.change(pageKey(s.last), s.page)
	for ; s.last-s.first >= s.most; s.first++ {
		s.change(pageKey(s.first), nil)
	}
}

// shortID is how an endpoint that has no name is shown.
func shortID(id netmap.EndpointID) netmap.EndpointID { return id[:min(12, len(id))] }

// answer is what a host answers to a query about its endpoints.
type answer struct {
	Entries []entry `json:"entries,omitempty"` // the newest so many, the oldest first
	// Forgot is the end of the newest entry that was dropped and that the query might have
	// wanted, Unix milliseconds; 0 if there is none.
	Forgot int64 `json:"forgot,omitempty"`
}

// clockSlack is how far the wall clock may have been set back between two ends.
const clockSlack = 24 * time.Hour

// find returns the entries that a query wants.
func (s *store) find(q state.Query) (out answer, err error) {
	if err := s.write(); err != nil { // what is still to be written is on no disk
		return out, err
	}
	s.mu.Lock()
	first := s.first
	for _, e := range s.open {
		if e.wanted(q) {
			out.Entries = append(out.Entries, e)
		}
	}
	s.mu.Unlock()
	needle, oldest, most := needle(q.Space), pageKey(first), len(out.Entries)+state.MaxEvents
	err = s.disk.ScanReverse(pagePrefix, func(key string, value []byte) bool {
		var page []entry
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
	slices.SortFunc(out.Entries, func(x, y entry) int { return cmp.Compare(x.From, y.From) })
	out.Entries = out.Entries[max(0, len(out.Entries)-state.MaxEvents):]
	return out, err
}

// wanted reports whether a query is about an entry.
func (e entry) wanted(q state.Query) bool {
	to := cmp.Or(e.To, time.Now().UnixMilli())
	return q.Wants(netmap.Single(e.V4), e.From, to) || q.Space.IsValid() && q.Wants(netmap.Single(e.V6), e.From, to)
}

// needle returns text that is part of every entry on disk with the address which a query is
// about; nil if the query is about more than one address.
func needle(space netip.Prefix) []byte {
	if !space.IsValid() || !space.IsSingleIP() {
		return nil
	}
	return strconv.AppendQuote(nil, space.Addr().String())
}

// write writes what changed.
func (s *store) write() error {
	s.mu.Lock()
	changed := s.changed
	s.changed = map[string]any{}
	s.mu.Unlock()
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
	if err := s.disk.Commit(set, del...); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		maps.Copy(changed, s.changed) // what is newer stays
		s.changed = changed
		return fmt.Errorf("history: the history of endpoints cannot be written: %w", err)
	}
	return nil
}
