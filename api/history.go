package api

import (
	"fmt"
	"io"
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
	Limit int          `json:"limit,omitempty"` // of lines, the newest ones
}

// History is a part of the past, the oldest first. Field names are part of the JSON
// that users script against: add, never rename.
type History struct {
	Lines   []HistoryLine `json:"lines"`
	Missing []string      `json:"missing,omitempty"` // who did not answer, and what else is not here
	// Since is the time from which nothing was forgotten; zero: nothing was. What is Missing
	// counts as complete.
	Since     time.Time   `json:"since,omitzero"`
	Forgotten []Forgotten `json:"forgotten,omitempty"`
}

// Forgotten is a part of the past that is remembered only from some time on.
type Forgotten struct {
	What  string    `json:"what"`
	Until time.Time `json:"until"`
}

// Forget notes that a part of the past was forgotten until a time; zero: it was not.
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

// HistoryLine is an event, or the life of an endpoint.
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

// HistoryText prints a part of the past as text.
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
		p.f("nothing is remembered that matches\n")
	}
	for _, m := range h.Missing {
		p.f("missing: %s\n", m)
	}
	for _, f := range h.Forgotten {
		p.f("forgotten: %s, what had ended by %s\n", f.What, moment(f.Until))
	}
	if p.err != nil {
		return fmt.Errorf("api: %w", p.err)
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
