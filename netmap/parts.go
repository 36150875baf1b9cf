package netmap

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// onNetwork has the endpoints of one network, by host. It is never changed once a View has it:
// views share what did not change between them.
type onNetwork struct {
	id    NetworkID
	hosts []*onHost // with endpoints there, sorted by id
}

// onHost has the endpoints that one host has on one network. It is never changed either.
type onHost struct {
	id  HostID
	all []*EndpointView // sorted by id
}

// onNetwork is the part of a network; nil if it has no endpoints.
func (v *View) onNetwork(id NetworkID) *onNetwork {
	at, found := slices.BinarySearchFunc(v.endpoints, &onNetwork{id: id}, compareNetworks)
	if !found {
		return nil
	}
	return v.endpoints[at]
}

// onHost is the part of a host; nil if it has no endpoints there. The methods of nil parts have
// nothing.
func (n *onNetwork) onHost(id HostID) *onHost {
	at, found := slices.BinarySearchFunc(n.parts(), &onHost{id: id}, compareHosts)
	if !found {
		return nil
	}
	return n.hosts[at]
}

func (n *onNetwork) parts() []*onHost {
	if n == nil {
		return nil
	}
	return n.hosts
}

func (h *onHost) endpoints() []*EndpointView {
	if h == nil {
		return nil
	}
	return h.all
}

func compareNetworks(a, b *onNetwork) int  { return cmp.Compare(a.id, b.id) }
func compareHosts(a, b *onHost) int        { return a.id.Compare(b.id) }
func compareOnHost(a, b *EndpointView) int { return strings.Compare(string(a.ID), string(b.ID)) }

func comparePlaced(a, b *EndpointView) int {
	return cmp.Or(cmp.Compare(a.Network, b.Network), a.Host.Compare(b.Host), compareOnHost(a, b))
}

// Endpoints yields all endpoints by network, host and id.
func (v *View) Endpoints() iter.Seq[EndpointView] { return each(v.endpoints) }

// EndpointsOf yields the endpoints of one network by host and id.
func (v *View) EndpointsOf(network NetworkID) iter.Seq[EndpointView] {
	return each([]*onNetwork{v.onNetwork(network)})
}

// EndpointsOn yields the endpoints of one host by network and id.
func (v *View) EndpointsOn(host HostID) iter.Seq[EndpointView] {
	var parts []*onNetwork
	for _, n := range v.endpoints {
		if h := n.onHost(host); h != nil {
			parts = append(parts, &onNetwork{id: n.id, hosts: []*onHost{h}})
		}
	}
	return each(parts)
}

func each(networks []*onNetwork) iter.Seq[EndpointView] {
	return func(yield func(EndpointView) bool) {
		for _, n := range networks {
			for _, h := range n.parts() {
				for _, e := range h.all {
					if !yield(*e) {
						return
					}
				}
			}
		}
	}
}

// WithEndpoints returns a copy of the view that has these endpoints and no others, in whatever
// order they are given. Nobody resolves disputes between them.
func (v *View) WithEndpoints(endpoints ...EndpointView) *View {
	out := *v
	out.endpoints = grouped(slices.Clone(endpoints))
	return &out
}

// grouped puts endpoints into the parts of a View, which point into the slice.
func grouped(endpoints []EndpointView) (out []*onNetwork) {
	all := make([]*EndpointView, len(endpoints))
	for i := range endpoints {
		all[i] = &endpoints[i]
	}
	slices.SortFunc(all, comparePlaced)
	for _, e := range all {
		if len(out) == 0 || out[len(out)-1].id != e.Network {
			out = append(out, &onNetwork{id: e.Network})
		}
		n := out[len(out)-1]
		if len(n.hosts) == 0 || n.hosts[len(n.hosts)-1].id != e.Host {
			n.hosts = append(n.hosts, &onHost{id: e.Host})
		}
		h := n.hosts[len(n.hosts)-1]
		h.all = append(h.all, e)
	}
	return out
}
