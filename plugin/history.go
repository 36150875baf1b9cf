package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
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
	events, err := a.ledger.History(ctx, want)
	if err != nil {
		out.Missing = append(out.Missing, "what the ledger decided: "+err.Error())
	}
	for _, e := range events {
		out.Lines = append(out.Lines, a.eventLine(view, e))
	}
	a.addEndpoints(ctx, view, want, out)
	slices.SortStableFunc(out.Lines, func(x, y status.HistoryLine) int { return x.At.Compare(y.At) })
	if limit := cmp.Or(q.Limit, ledger.MaxEvents); len(out.Lines) > limit {
		out.Lines = out.Lines[len(out.Lines)-limit:]
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

// addEndpoints asks the hosts for their endpoints: all of them, or the one that is
// asked about.
func (a *Agent) addEndpoints(ctx context.Context, view *netmap.View, q ledger.Query, out *status.History) {
	body, err := json.Marshal(q)
	if err != nil {
		out.Missing = append(out.Missing, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, h := range view.Hosts {
		if h.Entry.Removed || !q.Host.IsZero() && h.ID != q.Host {
			continue
		}
		all.Go(func() {
			entries, err := a.diaryOf(ctx, view, h.ID, q, body)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Missing = append(out.Missing, fmt.Sprintf("the containers of host %s, which does not answer", hostName(view, h.ID)))
			}
			for _, e := range entries {
				out.Lines = append(out.Lines, endpointLine(view, h.ID, e))
			}
		})
	}
	all.Wait()
	slices.Sort(out.Missing)
}

func (a *Agent) diaryOf(ctx context.Context, view *netmap.View, id netmap.HostID, q ledger.Query, body []byte) ([]diaryEntry, error) {
	if id == a.self {
		return a.diary.find(q), nil
	}
	at := a.underlayOf(view, id)
	if !at.IsValid() {
		return nil, netmap.Refuse(netmap.Unknown, "host %s was not heard of; see weft status", id.Short())
	}
	answer, err := a.port.Call(ctx, at, diaryRequest, body)
	if err != nil {
		return nil, err
	}
	var out []diaryEntry
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("plugin: the history of host %s: %w", id.Short(), err)
	}
	return out, nil
}

func (a *Agent) serveDiary(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q ledger.Query
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the question about the past cannot be read: %v", err)
	}
	return json.Marshal(a.diary.find(q))
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
