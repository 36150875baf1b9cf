package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weftnet/weft/netmap"
)

// HistoryQuery asks for a part of the past. Zero fields want all.
type HistoryQuery struct {
	Space netip.Prefix `json:"space"`          // overlaps it; an address as a prefix of its full length
	Host  string       `json:"host,omitempty"` // by name or id
	Since time.Time    `json:"since"`
	Until time.Time    `json:"until"`
	Limit int          `json:"limit,omitempty"` // the newest so many lines
}

// History is a part of the past, the oldest first. Field names are part of the JSON
// that users script against: add, never rename.
type History struct {
	Lines   []HistoryLine `json:"lines"`
	Missing []string      `json:"missing,omitempty"` // who did not answer, and what else is not here
	// Since is when the past begins that nobody has forgotten anything of; zero: it is
	// all there. What is Missing counts as there.
	Since     time.Time   `json:"since,omitzero"`
	Forgotten []Forgotten `json:"forgotten,omitempty"`
}

// Forgotten is a part of the past of which only what was after a time is remembered.
type Forgotten struct {
	What  string    `json:"what"`
	Until time.Time `json:"until"`
}

// Forget notes that a part of the past is forgotten until a time; zero: it is not.
func (h *History) Forget(what string, until time.Time) {
	if until.IsZero() {
		return
	}
	h.Forgotten = append(h.Forgotten, Forgotten{what, until})
	slices.SortFunc(h.Forgotten, func(a, b Forgotten) int { return strings.Compare(a.What, b.What) })
	if until.After(h.Since) {
		h.Since = until
	}
}

// HistoryLine is something that happened, or the time of an endpoint.
type HistoryLine struct {
	At        time.Time     `json:"at"`    // zero: not known
	Ended     time.Time     `json:"ended"` // of an endpoint; zero: it is there
	What      string        `json:"what"`  // endpoint, or what the ledger decided
	Space     netip.Prefix  `json:"space"`
	V6        netip.Prefix  `json:"v6"` // of an endpoint with both
	Host      string        `json:"host"`
	HostID    netmap.HostID `json:"host_id"`
	By        string        `json:"by,omitempty"` // who decided, if another host
	Container string        `json:"container,omitempty"`
	Network   string        `json:"network,omitempty"`
	Index     uint64        `json:"index,omitempty"` // of the decision
}

// FetchHistory asks the agent behind a unix socket about the past.
func FetchHistory(ctx context.Context, path string, q HistoryQuery) (*History, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weft/ledger/log", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	resp, err := do(path, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct {
		History

		Error string `json:"error"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxReport)).Decode(&got); err != nil {
		return nil, fmt.Errorf("status: the agent's answer (%s) cannot be read; is it of another release? %w", resp.Status, err)
	}
	if got.Error != "" {
		return nil, errors.New(got.Error)
	}
	return &got.History, nil
}

// serveHistory answers FetchHistory.
func serveHistory(a Agent) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var q HistoryQuery
		if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxOrder)).Decode(&q); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(answer{Error: "the request cannot be read: " + err.Error()})
			return
		}
		h, err := a.History(req.Context(), q)
		if err != nil {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(answer{Error: err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(h) // the client has gone: nothing to do
	}
}

// HistoryText writes it for people.
func HistoryText(w io.Writer, h *History) error {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	p := &printer{w: t}
	if len(h.Lines) > 0 {
		p.f("TIME\tWHAT\tWHERE\tHOST\t\n")
	}
	for _, l := range h.Lines {
		p.f("%s\t%s\t%s\t%s\t%s\n", moment(l.At), l.What, spaces(l), l.Host, detail(l))
	}
	if len(h.Lines) == 0 {
		p.f("nothing is remembered that fits\n")
	}
	for _, m := range h.Missing {
		p.f("missing: %s\n", m)
	}
	for _, f := range h.Forgotten {
		p.f("forgotten: %s, of what was over by %s\n", f.What, moment(f.Until))
	}
	if p.err != nil {
		return fmt.Errorf("status: %w", p.err)
	}
	return t.Flush()
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// spaces writes an address as an address.
func spaces(l HistoryLine) string {
	var out []string
	for _, p := range []netip.Prefix{l.Space, l.V6} {
		switch {
		case !p.IsValid():
		case p.IsSingleIP():
			out = append(out, p.Addr().String())
		default:
			out = append(out, p.String())
		}
	}
	return orDash(strings.Join(out, " "))
}

func detail(l HistoryLine) string {
	var out []string
	if l.Container != "" {
		until := "until now"
		if !l.Ended.IsZero() {
			until = "until " + moment(l.Ended)
		}
		out = append(out, l.Container+" "+until)
	}
	if l.Network != "" {
		out = append(out, l.Network)
	}
	if l.By != "" {
		out = append(out, "by "+l.By)
	}
	return strings.Join(out, ", ")
}
