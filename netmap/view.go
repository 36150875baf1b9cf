package netmap

import (
	"cmp"
	"net/netip"
	"slices"
)

// HostView is one host as this copy of the facts knows it.
type HostView struct {
	ID    HostID    `json:"id"`
	Fact  HostFact  `json:"fact"`
	Entry HostEntry `json:"entry"` // zero until the ledger's record arrived
}

// IsMember reports whether the ledger admitted the host and did not remove it. What others say in the gossip
// has no effect.
func (h HostView) IsMember() bool { return !h.Entry.ID.IsZero() && !h.Entry.Removed }

// EndpointView is an endpoint and the host it lives on.
type EndpointView struct {
	Endpoint
	Host  HostID        `json:"host"`
	Names *EndpointName `json:"-"` // nil: the container's name is not known; must not be changed
}

// View has all facts as they were at one moment. It is immutable. Slices and maps are
// shared between readers, and between this view and later ones, and must not be changed.
// Slices are sorted by identity, so equal facts give equal views. Since finds what differs
// between two views.
type View struct {
	Cluster ClusterID `json:"cluster"`
	Decided uint64    `json:"decided"` // raft index up to which the ledger's decisions are known without gaps
	// Generation of the ledger, from 1; greater after a recovery. 0: nothing is known.
	Generation uint64     `json:"generation"`
	Hosts      []HostView `json:"hosts"`
	Networks   []Network  `json:"networks"`
	Subnets    []Subnet   `json:"subnets"`
	Blocks     []Block    `json:"blocks"`
	Claims     []Claim    `json:"claims"`
	Ranges     []Range    `json:"ranges"`
	// StaticNames are sorted by network, name and address.
	StaticNames []StaticName `json:"static_names,omitempty"`
	Disputes    []Dispute    `json:"disputes,omitempty"` // what is left out of Endpoints, and why

	endpoints []*onNetwork // sorted by id
}

// Dispute is an address that two announced endpoints claim. The loser is in no
// list of endpoints, on no host, until one of the two withdraws.
//
// The endpoint on the host that owns the address by the ledger wins. If both are on one host, the
// one announced later wins. If the owner is neither host, the host with the greater id wins.
// Every host decides the same.
type Dispute struct {
	Network NetworkID    `json:"network"`
	Addr    netip.Addr   `json:"addr"`
	Winner  EndpointView `json:"winner"`
	Loser   EndpointView `json:"loser"`
}

// Host finds a host by id.
func (v *View) Host(id HostID) (HostView, bool) {
	i, ok := slices.BinarySearchFunc(v.Hosts, id, func(h HostView, id HostID) int { return slices.Compare(h.ID[:], id[:]) })
	if !ok {
		return HostView{}, false
	}
	return v.Hosts[i], true
}

// Keepers are the members that say that they vote on the ledger, by id.
func (v *View) Keepers() (out []HostID) {
	for _, h := range v.Hosts {
		if h.Fact.Keeper && !h.Entry.Removed {
			out = append(out, h.ID)
		}
	}
	return out
}

// Network finds a network by id.
func (v *View) Network(id NetworkID) (Network, bool) {
	i, ok := slices.BinarySearchFunc(v.Networks, id, func(n Network, id NetworkID) int { return cmp.Compare(n.ID, id) })
	if !ok {
		return Network{}, false
	}
	return v.Networks[i], true
}

// NetworkOf finds the network that a subnet belongs to.
func (v *View) NetworkOf(subnet netip.Prefix) (Network, bool) {
	i := slices.IndexFunc(v.Networks, func(n Network) bool { return slices.Contains(n.Subnets, subnet) })
	if i < 0 {
		return Network{}, false
	}
	return v.Networks[i], true
}

// Subnet finds a subnet by its prefix.
func (v *View) Subnet(p netip.Prefix) (Subnet, bool) {
	i, ok := slices.BinarySearchFunc(v.Subnets, p, func(s Subnet, p netip.Prefix) int { return s.Prefix.Compare(p) })
	if !ok {
		return Subnet{}, false
	}
	return v.Subnets[i], true
}

// BlocksOf are the blocks of a subnet, without a look at those of others.
func (v *View) BlocksOf(subnet netip.Prefix) []Block {
	return inside(v.Blocks, subnet, func(b Block) netip.Addr { return b.Prefix.Addr() })
}

// ClaimsOf are the claims in a subnet, without a look at those in others.
func (v *View) ClaimsOf(subnet netip.Prefix) []Claim {
	return inside(v.Claims, subnet, func(c Claim) netip.Addr { return c.Addr })
}

// inside are those of a list, sorted by address, that begin in a subnet.
func inside[T any](all []T, subnet netip.Prefix, at func(T) netip.Addr) []T {
	from, _ := slices.BinarySearchFunc(all, subnet.Addr(), func(one T, a netip.Addr) int { return at(one).Compare(a) })
	n := slices.IndexFunc(all[from:], func(one T) bool { return !subnet.Contains(at(one)) })
	if n < 0 {
		return all[from:]
	}
	return all[from : from+n]
}

// Owner returns the host that owns an address according to the ledger: by claim, else by
// block. It is zero if no host does.
func (v *View) Owner(addr netip.Addr) HostID {
	if i, found := slices.BinarySearchFunc(v.Claims, addr, func(c Claim, a netip.Addr) int { return c.Addr.Compare(a) }); found {
		return v.Claims[i].Owner
	}
	// Blocks do not overlap, so only the last that does not begin after it may contain it.
	i, _ := slices.BinarySearchFunc(v.Blocks, addr, func(b Block, a netip.Addr) int {
		return cmp.Or(b.Prefix.Addr().Compare(a), -1)
	})
	if i > 0 && v.Blocks[i-1].Prefix.Contains(addr) {
		return v.Blocks[i-1].Owner
	}
	return HostID{}
}

// Holder is the endpoint that holds an address in a network, if one is announced.
func (v *View) Holder(network NetworkID, addr netip.Addr) (EndpointView, bool) {
	for e := range v.EndpointsOf(network) {
		if e.V4 == addr || e.V6 == addr {
			return e, true
		}
	}
	return EndpointView{}, false
}
