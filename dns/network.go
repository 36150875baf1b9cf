package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// network is the name space of one network.
type network struct {
	id      netmap.NetworkID
	name    string         // lower case; "": none, or none that DNS can carry
	subnets []netip.Prefix // none: the ledger's record of the network is not known
	bearers map[string][]bearer
	below   below
	holders map[netip.Addr]*netmap.EndpointView
	hosts   map[netmap.HostID]*netmap.EndpointView     // by which hosts are on it themselves; nil: none is
	byHand  map[netmap.StaticName]*netmap.EndpointView // as if each was an endpoint; nil: none
}

// bearer is who has a name, and by which source: the first one, if there are several.
type bearer struct {
	*netmap.EndpointView
	source Source
}

// describe takes over the ledger's record. The name of a retired network is free for another one.
func (w *network) describe(r *netmap.Network) {
	w.name, w.subnets = "", r.Subnets
	if !r.Retired && netmap.NameProblem(r.Name) == "" {
		w.name = strings.ToLower(r.Name)
	}
}

// has reports whether an address belongs to the network. Others that a host announces are no
// addresses of its containers.
func (w *network) has(addr netip.Addr) bool {
	return slices.ContainsFunc(w.subnets, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (w *network) give(name string, b bearer) {
	w.bearers[name] = append(w.bearers[name], b)
	w.below.add(name, 1)
}

func (w *network) take(name string, e *netmap.EndpointView) {
	all := w.bearers[name]
	at := slices.IndexFunc(all, func(b bearer) bool { return b.EndpointView == e }) // views share what did not change
	if at < 0 {
		at = slices.IndexFunc(all, func(b bearer) bool { return isSame(b.EndpointView, e) })
	}
	if at < 0 {
		return
	}
	w.below.add(name, -1)
	last := len(all) - 1
	all[at], all[last] = all[last], bearer{}
	if w.bearers[name] = all[:last]; last == 0 {
		delete(w.bearers, name)
	}
}

// addByHand gives a name to what is no endpoint: it has the address as its id, and no host.
func (w *network) addByHand(s netmap.StaticName) {
	e := &netmap.EndpointView{Endpoint: netmap.Endpoint{ID: netmap.EndpointID(s.Addr.String()), Network: s.Network}}
	if s.Addr.Is4() {
		e.V4 = s.Addr
	} else {
		e.V6 = s.Addr
	}
	if w.byHand == nil {
		w.byHand = map[netmap.StaticName]*netmap.EndpointView{}
	}
	w.byHand[s] = e
	w.give(s.Name, bearer{e, ByHand})
}

func (w *network) forgetByHand(s netmap.StaticName) {
	if e := w.byHand[s]; e != nil {
		delete(w.byHand, s)
		w.take(s.Name, e)
	}
}

// nameByHand is the first name that an address was given by hand; "" if there is none.
func (w *network) nameByHand(addr netip.Addr) (name string) {
	for s := range w.byHand {
		if s.Addr == addr && (name == "" || s.Name < name) {
			name = s.Name
		}
	}
	return name
}

// ofHost reports whether an endpoint is its host's own, which has no names.
func ofHost(e *netmap.EndpointView) bool { return e.Names == nil && e.OfHost() }

// own are the addresses that a host has itself on the network.
func (w *network) own(host netmap.HostID) (out []netip.Addr) {
	if e := w.hosts[host]; e != nil {
		for _, addr := range []netip.Addr{e.V4, e.V6} {
			if addr.IsValid() && w.has(addr) {
				out = append(out, addr)
			}
		}
	}
	return out
}

func isSame(a, b *netmap.EndpointView) bool { return a.ID == b.ID && a.Host == b.Host }

// relative cuts the name of the network off a name that is beneath it.
func (w *network) relative(name string) (rest string, beneath bool) {
	if w.name == "" {
		return "", false
	}
	return cutZone(name, w.name)
}

// below counts the names beneath a name, such as a.b.c beneath b.c and c. What is more than
// mostAbove labels shorter is not counted, so that long names take little memory.
type below map[string]int

const mostAbove = 3

func (b below) add(name string, by int) {
	for range mostAbove {
		_, rest, more := strings.Cut(name, ".")
		if !more {
			return
		}
		if name = rest; b[name]+by == 0 {
			delete(b, name)
		} else {
			b[name] += by
		}
	}
}
