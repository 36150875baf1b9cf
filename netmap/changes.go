package netmap

import (
	"cmp"
	"reflect"
	"slices"
)

// Changed is one thing before and after a change; nil where it was or is not there.
type Changed[T any] struct{ Old, New *T }

// Changes is what differs between two views, but View.Decided.
type Changes struct {
	Hosts     []Changed[HostView]
	Networks  []Changed[Network]
	Endpoints []Changed[EndpointView] // by network, host and id
	// StaticNames never change: one has no Old or no New.
	StaticNames []Changed[StaticName]

	Subnets, Blocks, Claims, Ranges bool // something of that kind is different

	Ledger bool // it is that of another cluster or generation
}

// None reports whether nothing differs.
func (c Changes) None() bool {
	return len(c.Hosts)+len(c.Networks)+len(c.Endpoints)+len(c.StaticNames) == 0 && !c.Subnets && !c.Blocks && !c.Claims && !c.Ranges && !c.Ledger
}

// Since returns what differs from an older view; from nil, everything is new. It does not look
// into what both views share, so its cost follows from the number of changes, networks and
// hosts, and not from the number of endpoints. The values that it points to are shared with the
// views and must not be changed.
func (v *View) Since(old *View) (c Changes) {
	if old == nil {
		old = &View{}
	}
	c.Ledger = v.Cluster != old.Cluster || v.Generation != old.Generation
	c.Hosts = changed(old.Hosts, v.Hosts,
		func(a, b *HostView) int { return a.ID.Compare(b.ID) }, func(a, b *HostView) bool { return *a == *b })
	c.Networks = changed(old.Networks, v.Networks,
		func(a, b *Network) int { return cmp.Compare(a.ID, b.ID) }, func(a, b *Network) bool { return reflect.DeepEqual(a, b) })
	differing(old.endpoints, v.endpoints, compareNetworks, func(was, is *onNetwork) {
		differing(was.parts(), is.parts(), compareHosts, func(was, is *onHost) {
			differing(was.endpoints(), is.endpoints(), compareOnHost, func(was, is *EndpointView) {
				if was == nil || is == nil || !was.same(is) {
					c.Endpoints = append(c.Endpoints, Changed[EndpointView]{was, is})
				}
			})
		})
	})
	c.StaticNames = changed(old.StaticNames, v.StaticNames,
		func(a, b *StaticName) int { return a.Compare(*b) }, func(a, b *StaticName) bool { return *a == *b })
	c.Subnets = !shared(old.Subnets, v.Subnets) && !slices.EqualFunc(old.Subnets, v.Subnets, func(a, b Subnet) bool { return reflect.DeepEqual(a, b) })
	c.Blocks = !shared(old.Blocks, v.Blocks) && !slices.Equal(old.Blocks, v.Blocks)
	c.Claims = !shared(old.Claims, v.Claims) && !slices.Equal(old.Claims, v.Claims)
	c.Ranges = !shared(old.Ranges, v.Ranges) && !slices.Equal(old.Ranges, v.Ranges)
	return c
}

// same reports whether two endpoints are equal, and called the same.
func (e *EndpointView) same(other *EndpointView) bool {
	a, b := *e, *other
	a.Names, b.Names = nil, nil
	return a == b && (e.Names == other.Names || reflect.DeepEqual(e.Names, other.Names))
}

// shared reports whether two lists are the same memory.
func shared[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// changed lists what differs between two lists that are sorted by compare.
func changed[T any](old, now []T, compare func(a, b *T) int, same func(a, b *T) bool) (out []Changed[T]) {
	if shared(old, now) {
		return nil
	}
	differing(pointers(old), pointers(now), compare, func(was, is *T) {
		if was == nil || is == nil || !same(was, is) {
			out = append(out, Changed[T]{was, is})
		}
	})
	return out
}

func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// differing calls visit for whatever two lists that are sorted by compare do not share; nil
// stands for what is in one list only.
func differing[T any](old, now []*T, compare func(a, b *T) int, visit func(was, is *T)) {
	for len(old) > 0 && len(now) > 0 {
		c := 0
		if old[0] != now[0] {
			c = compare(old[0], now[0])
		}
		switch {
		case c < 0:
			visit(old[0], nil)
			old = old[1:]
			continue
		case c > 0:
			visit(nil, now[0])
		case old[0] != now[0]:
			visit(old[0], now[0])
		}
		if c == 0 {
			old = old[1:]
		}
		now = now[1:]
	}
	for _, gone := range old {
		visit(gone, nil)
	}
	for _, added := range now {
		visit(nil, added)
	}
}
