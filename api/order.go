package api

import (
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// Removal asks to remove a host for good.
type Removal struct {
	Host  string `json:"host"`             // its name, its id or the beginning of that
	IsOff bool   `json:"is_off,omitempty"` // the operator confirms that the machine is off, so its lease need not expire
}

// PeerChange names a peer to connect to or to forget.
type PeerChange struct {
	Peer string `json:"peer"` // in any form that WEFT_JOIN takes
}

// IdentityReset asks that the agent's own host gives up its identity and becomes a new
// host.
type IdentityReset struct {
	Force  bool `json:"force,omitempty"`   // even if nothing is wrong with the identity
	DryRun bool `json:"dry_run,omitempty"` // only say what would happen
}

// Departure asks that the agent's own host leaves the cluster.
type Departure struct {
	Force bool `json:"force,omitempty"` // even if containers on it have addresses
}

// Range asks to add address space for networks without --subnet.
type Range struct {
	Prefix netip.Prefix `json:"prefix"`
}

// NetworkRemoval asks to remove a network from all hosts.
type NetworkRemoval struct {
	Network string `json:"network"`           // its name or its number
	DryRun  bool   `json:"dry_run,omitempty"` // only say what would happen
}

// Recovery asks to make the host the keeper of the ledger after a majority of its keepers was
// lost.
type Recovery struct {
	Off    []string `json:"off,omitempty"`     // keepers, by name or id, that the operator confirms to be off for good
	DryRun bool     `json:"dry_run,omitempty"` // only say what would happen
}

// AttachRequest asks for an endpoint on a network for a container that is not Docker's.
// Whoever repeats it under the same endpoint gets the same one again. After an error the
// caller detaches it.
type AttachRequest struct {
	Owner     netmap.Owner      `json:"owner"`   // any but Docker
	Network   string            `json:"network"` // its name or its number
	Endpoint  netmap.EndpointID `json:"endpoint"`
	Container string            `json:"container,omitempty"` // its name
	Addrs     []netip.Addr      `json:"addrs,omitempty"`     // that it wants, one of each family at most
	Sandbox   string            `json:"sandbox,omitempty"`   // the path of the container's network namespace on the host
	Interface string            `json:"interface,omitempty"` // its name there, with Sandbox only
}

// Attachment is an endpoint whose port is plugged.
type Attachment struct {
	Network   netmap.NetworkID `json:"network"`
	Interface string           `json:"interface"` // in the sandbox, up; without one in the host's network namespace, for the caller to move and to rename
	MAC       netmap.MAC       `json:"mac"`
	Addrs     []netip.Prefix   `json:"addrs"` // with the prefix length of their subnet
	MTU       int              `json:"mtu"`   // bytes
	// DNS is where the container asks for names, in its sandbox; invalid: nowhere.
	DNS netip.Addr `json:"dns,omitzero"`
}

// DetachRequest asks to delete an endpoint and to release its addresses.
type DetachRequest struct {
	Owner    netmap.Owner      `json:"owner"`
	Endpoint netmap.EndpointID `json:"endpoint"`
}
