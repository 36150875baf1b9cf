package pool

import (
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Caller is on whose behalf an address is asked for.
type Caller struct {
	Owner netmap.Owner `json:"owner,omitempty"`
	// ID is how a caller that repeats a request is recognized. Docker's is one run of dockerd:
	// after a start dockerd asks once more for the address of each container, and never twice
	// in one run. That of others is the container or the endpoint that the address is for:
	// a repeated request with it gets the same address.
	ID string `json:"id,omitempty"`
}

// Repeats reports whether a request repeats one of before, by which an address is held.
func (c Caller) Repeats(before Caller) bool {
	if c.Owner == netmap.OwnerDocker {
		return before.Owner == c.Owner && before.ID != c.ID
	}
	return before == c
}

// MayRelease reports whether the caller may release an address that was handed out to holder.
func (c Caller) MayRelease(holder Caller) bool {
	return c == holder || c.Owner == netmap.OwnerDocker && holder.Owner == c.Owner
}

// HeldBy finds the address of an area that a caller was given before, so that a repeated
// request is answered the same. Docker repeats a request with the address.
func (p *Pool) HeldBy(c Caller, within netip.Prefix) (netip.Addr, bool) {
	for _, a := range p.heldBy[c] {
		if m := p.marks[a]; !m.Leaving && !m.Evicted && within.Contains(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// repeatable reports whether HeldBy is to find the address by its caller.
func (u Use) repeatable() bool {
	return u.Held && u.Caller != Caller{} && u.Caller.Owner != netmap.OwnerDocker
}

// index notes who holds an address, for HeldBy.
func (p *Pool) index(m *mark) {
	if m.repeatable() {
		p.heldBy[m.Caller] = append(p.heldBy[m.Caller], m.addr)
	}
}

func (p *Pool) unindex(m *mark) {
	if !m.repeatable() {
		return
	}
	rest := slices.DeleteFunc(p.heldBy[m.Caller], func(a netip.Addr) bool { return a == m.addr })
	if len(rest) == 0 {
		delete(p.heldBy, m.Caller)
		return
	}
	p.heldBy[m.Caller] = rest
}
