package netmap

import (
	"errors"
	"fmt"
)

// RefusalKind says why a decision was refused, for callers that decide on it.
type RefusalKind string

// The kinds of refusal. Each text names who holds what and what to do.
const (
	Exhausted RefusalKind = "exhausted" // nothing free is left
	Overlaps  RefusalKind = "overlaps"  // collides with another subnet, range or route
	Held      RefusalKind = "held"      // somebody else holds it
	Outside   RefusalKind = "outside"   // not inside the subnet or range
	Unknown   RefusalKind = "unknown"   // there is no such network, subnet or host
	Conflict  RefusalKind = "conflict"  // exists with other options
	NoQuorum  RefusalKind = "no-quorum" // no majority of keepers within the deadline
	Foreign   RefusalKind = "foreign"   // belongs to another cluster
	Fenced    RefusalKind = "fenced"    // old disk or clone
	Removed   RefusalKind = "removed"   // the asking host was removed from the cluster for good
	Outdated  RefusalKind = "outdated"  // a release of weft is too old for what is asked
	Busy      RefusalKind = "busy"      // is changing at this moment, or cannot be asked: try again
	BadInput  RefusalKind = "bad-input" // cannot be parsed or makes no sense
)

// Refusal is a negative answer. It is final for this request, the user sees its text, and
// it is sent between hosts unchanged.
type Refusal struct {
	Kind RefusalKind `json:"kind"`
	Text string      `json:"text"`
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// Is makes errors.Is(err, &Refusal{Kind: k}) true for every refusal of kind k.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Kind == r.Kind && (t.Text == "" || t.Text == r.Text)
}

// Final reports whether asking again would be answered the same: somebody else has what was
// asked for, or it makes no sense.
func Final(err error) bool {
	var r *Refusal
	if !errors.As(err, &r) {
		return false
	}
	switch r.Kind {
	case Held, Overlaps, Conflict, Outside, BadInput:
		return true
	}
	return false
}

// Refuse makes a refusal from a format.
func Refuse(kind RefusalKind, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Text: fmt.Sprintf(format, args...)}
}
