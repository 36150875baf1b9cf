package api

import (
	"net/netip"
	"runtime"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Report is everything that `weft status` prints. Scripts of users depend on the JSON names:
// add, never rename.
type Report struct {
	Version  string           `json:"version"`
	Level    int              `json:"level"` // feature level of this agent's release
	Cluster  netmap.ClusterID `json:"cluster"`
	Self     netmap.HostID    `json:"self"`
	Name     string           `json:"name"`
	State    string           `json:"state"`     // founding, joining, ready or left
	NotReady string           `json:"not_ready"` // why this host cannot serve containers; empty: it can
	Problems []string         `json:"problems"`  // what needs the operator, one sentence each
	Hosts    []Host           `json:"hosts"`
	Peers    []Peer           `json:"peers"`
	Ledger   Ledger           `json:"ledger"`
	// Secrets are the IDs of the cluster's secrets that this host has, and "none" if it listens to hosts without one beside them;
	// empty: the cluster has no secret.
	Secrets  []string       `json:"secrets,omitempty"`
	Ranges   []RangeUse     `json:"ranges"` // in the order in which they are used
	Networks []Network      `json:"networks"`
	Datapath Datapath       `json:"datapath"`
	Process  Process        `json:"process"`
	Counters map[string]any `json:"counters"` // of docker, gossip and underlay, since the agent started
	At       time.Time      `json:"at"`
}

// Host is one host of the cluster as this agent knows it.
type Host struct {
	ID       netmap.HostID  `json:"id"`
	Name     string         `json:"name"`
	Underlay netip.AddrPort `json:"underlay"`
	State    string         `json:"state"` // alive, unreachable or removed
	Keeper   bool           `json:"keeper"`
	Version  string         `json:"version,omitempty"`
	Level    int            `json:"level,omitempty"` // feature level of its release; 0: it is not admitted yet
	MTU      int            `json:"mtu,omitempty"`   // bytes, of the underlay device
}

// Ledger is this agent's part in the ledger.
type Ledger struct {
	Level   int             `json:"level"` // the cluster's feature level: the lowest of its hosts; 0: not known
	Role    string          `json:"role"`  // leader, follower, candidate; none if this host is no keeper
	Leader  netmap.HostID   `json:"leader"`
	Keepers []netmap.HostID `json:"keepers"`
	Decided uint64          `json:"decided"` // raft index that this host's facts have reached
}

// Process is the agent's use of the machine.
type Process struct {
	Goroutines int    `json:"goroutines"`
	Memory     uint64 `json:"memory"` // bytes that the Go runtime has from the kernel, without the binary's
}

// ThisProcess measures the calling process.
func ThisProcess() Process {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return Process{Goroutines: runtime.NumGoroutine(), Memory: sample[0].Value.Uint64() - sample[1].Value.Uint64()}
}

// Peer is an entry that says where other hosts may be.
type Peer struct {
	Peer      string           `json:"peer"`
	From      string           `json:"from"`                // WEFT_JOIN or weft connect
	Forgotten bool             `json:"forgotten,omitempty"` // by weft forget: not tried
	Addrs     []netip.AddrPort `json:"addrs"`               // that it resolved to last
	At        time.Time        `json:"at,omitzero"`         // and when; zero: never
	Alive     int              `json:"alive"`               // how many of Addrs are those of live hosts, this one included
	Error     string           `json:"error,omitempty"`     // of the last look-up
}

// RangeUse is a range that networks without --subnet come from.
type RangeUse struct {
	Prefix  netip.Prefix `json:"prefix"`
	Subnets int          `json:"subnets"` // that lie in it
}

// Network is one network with its address space and who is on it.
type Network struct {
	ID        netmap.NetworkID `json:"id"`
	Name      string           `json:"name"`
	VNI       netmap.VNI       `json:"vni"`
	MTU       int              `json:"mtu"`               // bytes, of containers on this host; 0 where it takes no part
	Retired   bool             `json:"retired,omitempty"` // removed by a user; it is deleted with its last container
	Subnets   []Subnet         `json:"subnets"`
	Endpoints []Endpoint       `json:"endpoints"`
	Disputes  []Dispute        `json:"disputes,omitempty"`
}

// Dispute is an address that was announced for two containers. The loser is off the network on
// every host until one of the two is stopped.
type Dispute struct {
	Addr   netip.Addr `json:"addr"`
	Winner Endpoint   `json:"winner"`
	Loser  Endpoint   `json:"loser"`
}

// Subnet is a subnet, its blocks by owner, and the addresses granted one by one.
type Subnet struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway"`
	Blocks  []Block      `json:"blocks"`
	Claims  []Claim      `json:"claims,omitempty"`
	Shares  []Share      `json:"shares"` // of each host that has something of it
}

// Share is what one host has of a subnet. It is exact for this host, and follows the facts for
// another: there an address counts as used once a container has it.
type Share struct {
	Host   netmap.HostID `json:"host"`
	Blocks int           `json:"blocks"`
	Claims int           `json:"claims"` // addresses granted one by one
	Used   uint64        `json:"used"`
	Free   uint64        `json:"free"` // addresses that it could hand out; at most some 2^62
}

// Block is one block and its owner; Used is known for this host's own blocks.
type Block struct {
	Prefix netip.Prefix  `json:"prefix"`
	Owner  netmap.HostID `json:"owner"`
	Used   *uint64       `json:"used,omitempty"`
}

// Claim is one address that a host holds apart from any block.
type Claim struct {
	Addr  netip.Addr    `json:"addr"`
	Owner netmap.HostID `json:"owner"`
}

// Endpoint is one container's attachment.
type Endpoint struct {
	ID   netmap.EndpointID `json:"id"`
	Name string            `json:"name,omitempty"`
	Host netmap.HostID     `json:"host"`
	V4   netip.Addr        `json:"v4"`
	V6   netip.Addr        `json:"v6"`
	MAC  netmap.MAC        `json:"mac"`
}

// Datapath is the state of the kernel's side.
type Datapath struct {
	LastSet  time.Time `json:"last_set"`
	Repaired uint64    `json:"repaired"` // operations that repaired the kernel since the agent started
	Error    string    `json:"error,omitempty"`
}

// HostName is the display name of a host, or its short id. The name of a member
// stands alone unless another member has the same: then it is name(shortid). A host
// that was removed is name(shortid,removed), so it is never taken for its successor.
func (r *Report) HostName(id netmap.HostID) string {
	i := slices.IndexFunc(r.Hosts, func(h Host) bool { return h.ID == id && h.Name != "" })
	switch {
	case id.IsZero():
		return "nobody"
	case i < 0:
		return id.Short()
	case r.Hosts[i].State == removed:
		return r.Hosts[i].Name + "(" + id.Short() + "," + removed + ")"
	case slices.ContainsFunc(r.Hosts, r.Hosts[i].namesake):
		return r.Hosts[i].Name + "(" + id.Short() + ")"
	}
	return r.Hosts[i].Name
}

// namesake reports whether another member has the same name.
func (h Host) namesake(o Host) bool {
	return o.ID != h.ID && o.Name == h.Name && o.State != removed
}

// removed is the state of a host that is no member any more.
const removed = "removed"
