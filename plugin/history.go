package plugin

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

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/status"
)

// History tells who was given what and when, and which containers had an address. It
// implements status.Agent.
func (a *Agent) History(ctx context.Context, q status.HistoryQuery) (*status.History, error) {
	if q.Limit < 0 {
		return nil, netmap.Refuse(netmap.BadInput, "%d is no number of lines; choose a --limit from 1, or 0 for 1000", q.Limit)
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	want := ledger.Query{Space: q.Space, Since: millis(q.Since), Until: millis(q.Until), Limit: q.Limit}
	view := a.gossip.View()
	if q.Host != "" {
		id, err := findHost(view, q.Host)
		if err != nil {
			return nil, err
		}
		want.Host = id
	}
	out := &status.History{}
	past, err := a.ledger.History(ctx, want)
	if err != nil {
		out.Missing = append(out.Missing, "what the ledger decided: "+err.Error())
	}
	out.Forget("what the ledger decided", clock(past.Forgot))
	full := min(cmp.Or(q.Limit, ledger.MaxEvents), ledger.MaxEvents)
	cut := len(past.Events) >= full
	gone := map[string]bool{}
	for _, e := range past.Events {
		out.Lines = append(out.Lines, a.eventLine(view, e))
		if h, ok := view.Host(e.Host); ok && h.Entry.Removed {
			gone[hostName(view, e.Host)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		out.Missing = append(out.Missing, fmt.Sprintf("the containers of host %s, which is no member any more", name))
	}
	cut = a.addEndpoints(ctx, view, want, out) || cut
	slices.SortStableFunc(out.Lines, func(x, y status.HistoryLine) int { return x.At.Compare(y.At) })
	if cut || len(out.Lines) > full {
		out.Lines = out.Lines[max(0, len(out.Lines)-full):]
		out.Missing = append(out.Missing, fmt.Sprintf("what is older than the first of these lines, at most %d at once; ask for less (--addr, --until)", full))
	}
	return out, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// clock is a time of the history; zero if it is not known.
func clock(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func (a *Agent) eventLine(view *netmap.View, e ledger.Event) status.HistoryLine {
	l := status.HistoryLine{At: clock(e.At), What: e.What, Space: e.Space, HostID: e.Host, Host: cmp.Or(e.Name, hostName(view, e.Host)), Network: e.Label, Index: e.Index}
	if !e.By.IsZero() {
		l.By = hostName(view, e.By)
	}
	return l
}

// askHosts is how long hosts may take to look up their endpoints.
const askHosts = 2 * time.Second

// addEndpoints asks the hosts for their endpoints: all of them, or the one that is
// asked about. Cut: there may be more.
func (a *Agent) addEndpoints(ctx context.Context, view *netmap.View, q ledger.Query, out *status.History) (cut bool) {
	body, err := json.Marshal(q)
	if err != nil {
		out.Missing = append(out.Missing, err.Error())
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askHosts)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, h := range view.Hosts {
		if h.Entry.Removed || !q.Host.IsZero() && h.ID != q.Host {
			continue
		}
		all.Go(func() {
			got, err := a.diaryOf(ctx, view, h.ID, q, body)
			mu.Lock()
			defer mu.Unlock()
			whose := "the containers of host " + hostName(view, h.ID)
			if err != nil {
				out.Missing = append(out.Missing, whose+", which does not answer")
			}
			out.Forget(whose, clock(got.Forgot))
			cut = cut || len(got.Entries) == ledger.MaxEvents
			for _, e := range got.Entries {
				out.Lines = append(out.Lines, endpointLine(view, h.ID, e))
			}
		})
	}
	all.Wait()
	slices.Sort(out.Missing)
	return cut
}

func (a *Agent) diaryOf(ctx context.Context, view *netmap.View, id netmap.HostID, q ledger.Query, body []byte) (out memoir, err error) {
	if id == a.self {
		return a.diary.find(q)
	}
	at := a.underlayOf(view, id)
	if !at.IsValid() {
		return out, netmap.Refuse(netmap.Unknown, "host %s was not heard of; see weft status", id.Short())
	}
	answer, err := a.port.Call(ctx, at, diaryRequest, body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("plugin: the history of host %s: %w", id.Short(), err)
	}
	return out, nil
}

func (a *Agent) serveDiary(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q ledger.Query
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the question about the past cannot be read: %v", err)
	}
	got, err := a.diary.find(q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(got)
}

func endpointLine(view *netmap.View, host netmap.HostID, e diaryEntry) status.HistoryLine {
	l := status.HistoryLine{
		At: clock(e.From), Ended: clock(e.To), What: "endpoint", Space: addrSpace(e.V4), V6: addrSpace(e.V6),
		HostID: host, Host: hostName(view, host), Container: cmp.Or(e.Name, string(e.ID[:min(12, len(e.ID))])), Network: fmt.Sprintf("network %d", e.Network),
	}
	if n, ok := view.Network(e.Network); ok && n.Name != "" {
		l.Network = "network " + n.Name
	}
	if !l.Space.IsValid() {
		l.Space, l.V6 = l.V6, netip.Prefix{}
	}
	return l
}
