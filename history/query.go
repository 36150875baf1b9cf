package history

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Request is the name of the request by which hosts ask each other for their endpoints.
const Request = "history/endpoints"

// Bounds of a query.
const (
	queryTimeout = 5 * time.Second
	askHosts     = 2 * time.Second // for other hosts to look up their endpoints
)

// Config is what a History is made of.
type Config struct {
	Self   netmap.HostID
	Disk   Disk
	Exists func(netmap.EndpointID) bool // whether an endpoint of the last run still exists
	View   func() *netmap.View
	// Decided asks the ledger what it decided.
	Decided func(ctx context.Context, q state.Query) (state.Past, error)
	// Call asks another host. The error is a *netmap.Refusal if the host was never heard of.
	Call func(ctx context.Context, host netmap.HostID, request string, body []byte) ([]byte, error)
	// Problem is told what is wrong with the store, and "" when it is well again.
	Problem func(sentence string)
}

// History remembers the endpoints of this host and answers queries about the whole
// cluster. Safe for concurrent use.
type History struct {
	cfg   Config
	store *store
}

// Open reads what is on disk.
func Open(cfg Config) (*History, error) {
	s, err := open(cfg.Disk, cfg.Exists)
	if err != nil {
		return nil, err
	}
	return &History{cfg: cfg, store: s}, nil
}

// Began notes that an endpoint of this host exists, or its name.
func (h *History) Began(e netmap.Endpoint) { h.store.began(e) }

// Ended notes that an endpoint of this host is gone.
func (h *History) Ended(id netmap.EndpointID) { h.store.ended(id) }

// Run writes changes to disk a little after they happen, and once more when ctx ends.
func (h *History) Run(ctx context.Context) {
	for {
		select {
		case <-h.store.dirty:
			turn.Sleep(ctx, writeEvery)
		case <-ctx.Done():
		}
		sentence := ""
		if err := h.store.write(); err != nil {
			sentence = err.Error()
			turn.Poke(h.store.dirty)
		}
		h.cfg.Problem(sentence)
		if ctx.Err() != nil {
			return
		}
	}
}

// Query tells what the ledger gave to whom and when, and which containers had an address.
// What could not be asked is named in the answer. The error is a *netmap.Refusal.
func (h *History) Query(ctx context.Context, q api.HistoryQuery) (*api.History, error) {
	if q.Limit < 0 {
		return nil, netmap.Refuse(netmap.BadInput, "%d is no number of lines; choose a --limit from 1, or 0 for 1000", q.Limit)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	want := state.Query{Space: q.Space, Since: millis(q.Since), Until: millis(q.Until), Limit: q.Limit}
	view := h.cfg.View()
	if q.Host != "" {
		id, err := view.FindHost(q.Host)
		if err != nil {
			return nil, err
		}
		want.Host = id
	}
	out := &api.History{}
	past, err := h.cfg.Decided(ctx, want)
	if err != nil {
		out.Missing = append(out.Missing, "what the ledger decided: "+err.Error())
	}
	out.Forget("what the ledger decided", clock(past.Forgot))
	full := min(cmp.Or(q.Limit, state.MaxEvents), state.MaxEvents)
	cut := len(past.Events) >= full
	gone := map[string]bool{}
	for _, e := range past.Events {
		out.Lines = append(out.Lines, eventLine(view, e))
		if host, ok := view.Host(e.Host); ok && host.Entry.Removed {
			gone[view.HostName(e.Host)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		out.Missing = append(out.Missing, fmt.Sprintf("the containers of host %s, which is no member any more", name))
	}
	cut = h.addEndpoints(ctx, view, want, out) || cut
	slices.SortStableFunc(out.Lines, func(x, y api.HistoryLine) int { return x.At.Compare(y.At) })
	if cut || len(out.Lines) > full {
		out.Lines = out.Lines[max(0, len(out.Lines)-full):]
		out.Missing = append(out.Missing, fmt.Sprintf("what is older than the first of these lines, at most %d at once; ask for less (--addr, --until)", full))
	}
	return out, nil
}

// Since tells when the endpoint that has an address on a network now came to be, by its host's
// clock; zero if the host does not know it.
func (h *History) Since(ctx context.Context, host netmap.HostID, network netmap.NetworkID, addr netip.Addr) (time.Time, error) {
	q := state.Query{Space: netmap.Single(addr), Since: millis(time.Now().Add(-clockSlack))} // so that no older page is read
	body, err := json.Marshal(q)
	if err != nil {
		return time.Time{}, err
	}
	got, err := h.endpointsOf(ctx, host, q, body)
	if err != nil {
		return time.Time{}, err
	}
	for _, e := range got.Entries {
		if e.Network == network && e.To == 0 {
			return clock(e.From), nil
		}
	}
	return time.Time{}, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// clock converts a time of the history; zero means that it is not known.
func clock(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func eventLine(view *netmap.View, e state.Event) api.HistoryLine {
	l := api.HistoryLine{At: clock(e.At), What: e.What, Space: e.Space, HostID: e.Host, Host: cmp.Or(e.Name, view.HostName(e.Host)), Network: e.Label, Index: e.Index}
	if !e.By.IsZero() {
		l.By = view.HostName(e.By)
	}
	return l
}

// addEndpoints asks all hosts for their endpoints, or only the one that the query is about. It
// returns true if there may be more.
func (h *History) addEndpoints(ctx context.Context, view *netmap.View, q state.Query, out *api.History) (cut bool) {
	body, err := json.Marshal(q)
	if err != nil {
		out.Missing = append(out.Missing, err.Error())
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askHosts)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, host := range view.Hosts {
		if host.Entry.Removed || !q.Host.IsZero() && host.ID != q.Host {
			continue
		}
		all.Go(func() {
			got, err := h.endpointsOf(ctx, host.ID, q, body)
			mu.Lock()
			defer mu.Unlock()
			whose := "the containers of host " + view.HostName(host.ID)
			if err != nil {
				out.Missing = append(out.Missing, whose+", which does not answer")
			}
			out.Forget(whose, clock(got.Forgot))
			cut = cut || len(got.Entries) == state.MaxEvents
			for _, e := range got.Entries {
				out.Lines = append(out.Lines, endpointLine(view, host.ID, e))
			}
		})
	}
	all.Wait()
	slices.Sort(out.Missing)
	return cut
}

func (h *History) endpointsOf(ctx context.Context, id netmap.HostID, q state.Query, body []byte) (out answer, err error) {
	if id == h.cfg.Self {
		return h.store.find(q)
	}
	b, err := h.cfg.Call(ctx, id, Request, body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("history: the answer of host %s cannot be read: %w", id.Short(), err)
	}
	return out, nil
}

// Serve answers another host's Request.
func (h *History) Serve(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q state.Query
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the query of the history cannot be read: %v", err)
	}
	got, err := h.store.find(q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(got)
}

func endpointLine(view *netmap.View, host netmap.HostID, e entry) api.HistoryLine {
	l := api.HistoryLine{
		At: clock(e.From), Ended: clock(e.To), What: "endpoint", Space: netmap.Single(e.V4), V6: netmap.Single(e.V6),
		HostID: host, Host: view.HostName(host), Container: cmp.Or(e.Name, string(shortID(e.ID))), Network: fmt.Sprintf("network %d", e.Network),
	}
	if n, ok := view.Network(e.Network); ok && n.Name != "" {
		l.Network = "network " + n.Name
	}
	if !l.Space.IsValid() {
		l.Space, l.V6 = l.V6, netip.Prefix{}
	}
	return l
}
