// Package netmap has the nouns of the cluster and a host's copy of all facts about them.
// It uses no clock, no disk and no network. The desired state of the kernel is computed
// from a View.
package netmap

import (
	"net/netip"
	"strings"
)

// HostFact is what a host says about itself. Its only writer is that host.
type HostFact struct {
	Name     string         `json:"name"`
	Underlay netip.AddrPort `json:"underlay"` // gossip, ledger and requests; the address is the VTEP
	MTU      int            `json:"mtu"`      // of the underlay device, bytes
	Version  string         `json:"version"`
	Keeper   bool           `json:"keeper"`             // votes on the ledger
	Overlays string         `json:"overlays,omitempty"` // what became of WEFT_OVERLAYS there; the package overlays reads it
}

// Endpoint is a container's attachment to a network, as announced by its host.
// The origin of the fact is the host that it lives on.
type Endpoint struct {
	ID      EndpointID `json:"id"`
	Network NetworkID  `json:"network"`
	V4      netip.Addr `json:"v4"` // zero if the network has no IPv4
	V6      netip.Addr `json:"v6"` // zero if the network has no IPv6
	MAC     MAC        `json:"mac"`
	// Name is the container's, once it is known. A record of an endpoint has none: it comes
	// from the EndpointName.
	Name string `json:"name,omitempty"`
}

// Facts are the records of an endpoint, with the name that it has and no other names.
func (e Endpoint) Facts() map[Key]any { return EndpointName{Name: e.Name}.Facts(e) }

// Label names an endpoint for people: by its container, or by the beginning of its id.
func (e Endpoint) Label() string {
	if e.Name != "" {
		return "container " + e.Name
	}
	return "endpoint " + string(e.ID[:min(12, len(e.ID))])
}

// AddrText is an endpoint's addresses for people.
func (e Endpoint) AddrText() string {
	var addrs []string
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		if addr.IsValid() {
			addrs = append(addrs, addr.String())
		}
	}
	return strings.Join(addrs, " and ")
}

// HostEntry is the ledger's record of a host: it was admitted, with this index.
type HostEntry struct {
	ID      HostID `json:"id"`
	Name    string `json:"name"`
	Index   uint32 `json:"index"` // unique, from 1; VTEP-derived values come from it
	Removed bool   `json:"removed,omitempty"`
	Level   int    `json:"level,omitempty"` // feature level of the release that it was admitted with last
}

// Network is the ledger's record of a network.
type Network struct {
	ID        NetworkID      `json:"id"`
	Name      string         `json:"name,omitempty"` // Docker's name, where replicated or given by weft.network
	VNI       VNI            `json:"vni"`
	Subnets   []netip.Prefix `json:"subnets"`       // v4 first
	MTU       int            `json:"mtu,omitempty"` // container MTU asked for by the user; 0 = from the underlay
	Multicast bool           `json:"multicast"`
	Host      bool           `json:"host,omitempty"` // hosts that take part have an address of their own on it
	Internal  bool           `json:"internal,omitempty"`
	Retired   bool           `json:"retired,omitempty"` // removed by a user; goes when its last member leaves, its name is free
	// Creator is the host whose user made it: `docker network rm` there removes it from
	// all hosts.
	Creator HostID `json:"creator,omitzero"`
	// Docker is what the creator's Docker shows of it, and replicas are made from; nil
	// until its agent has asked.
	Docker *DockerNetwork `json:"docker,omitempty"`
}

// Subnet is the ledger's record of a subnet. Subnets never overlap, so the prefix
// is the identity.
type Subnet struct {
	Prefix    netip.Prefix          `json:"prefix"`
	BlockBits int                   `json:"block_bits"` // prefix length of its blocks
	Gateway   netip.Addr            `json:"gateway"`
	Range     netip.Prefix          `json:"range"`              // --ip-range of the one who created it, for replicas; zero: none
	Reserved  map[string]netip.Addr `json:"reserved,omitempty"` // --aux-address by name
}

// Block is an aligned piece of a subnet that exactly one host allocates from.
// A grant of the same piece to another host has a greater epoch.
type Block struct {
	Prefix netip.Prefix `json:"prefix"`
	Subnet netip.Prefix `json:"subnet"`
	Owner  HostID       `json:"owner"`
	Epoch  uint64       `json:"epoch"` // raft index of the grant
}

// Claim is one address granted apart from any block: static, outside every
// owned block, or ceded by the block's owner.
type Claim struct {
	Addr   netip.Addr   `json:"addr"`
	Subnet netip.Prefix `json:"subnet"`
	Owner  HostID       `json:"owner"`
	Epoch  uint64       `json:"epoch"`
}

// Range is address space that subnets are carved from when a network is created
// without --subnet.
type Range struct {
	Prefix netip.Prefix `json:"prefix"`
	Order  int          `json:"order"` // they are used in this order
}
