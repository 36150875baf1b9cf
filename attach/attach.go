package attach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// NetworkRequest is what an owner asks for when it makes a network.
type NetworkRequest struct {
	Owner     netmap.Owner
	ID        string         // the owner's: see NetworkRecord
	Subnets   []netip.Prefix // v4 first
	Name      string         // weft.network; empty = the subnets name the network
	Block     string         // weft.block as given, such as /24; empty = whatever the subnet has
	VNI       netmap.VNI     // weft.vni; 0 = the ledger chooses
	MTU       int            // weft.mtu, bytes; 0 = from the underlay
	Multicast bool
	Host      bool // weft.host
	Internal  bool
	Replica   netmap.NetworkID // the network of the cluster that this must become part of; 0 = any with these subnets
}

// Networks decides which network of the cluster a network of this host is. The user sees its
// refusals unchanged.
type Networks interface {
	// EnsureNetwork finds or creates the network with these subnets.
	EnsureNetwork(ctx context.Context, r NetworkRequest) (netmap.Network, error)
	// Joinable returns why no new endpoint may be made in a network that this host is a
	// member of, nil if it may. It does not block.
	Joinable(id netmap.NetworkID) error
	// LeaveNetwork ends what a network of this host has in the cluster's network. With last,
	// no other network of this host is the same one, and the host's membership ends.
	LeaveNetwork(ctx context.Context, r NetworkRecord, last bool) error
	// RejoinNetwork registers this host, which has a new identity, as a member of the
	// cluster's network with these subnets. That can be another network than before.
	RejoinNetwork(ctx context.Context, r NetworkRecord) (netmap.Network, error)
}

// Addresses is the IPAM, which hands addresses out before endpoints are made with them.
type Addresses interface {
	// Attach refuses an address that was not handed out to the owner, or was taken back since.
	Attach(a netip.Addr, owner netmap.Owner) error
}

// Facts tells the other hosts about endpoints. No method blocks.
type Facts interface {
	Announce(e netmap.Endpoint)
	Withdraw(id netmap.EndpointID)
	// Gone is called when the endpoint is deleted on this host and its addresses are free.
	Gone(e netmap.Endpoint)
}

// Ports connects endpoints to their network in the kernel.
type Ports interface {
	// Plug makes the endpoint's port and returns the name of the interface that the owner
	// moves into the container. Calling it again returns the same name.
	Plug(ctx context.Context, e netmap.Endpoint) (string, error)
	// Unplug removes a port; an unknown one is no error.
	Unplug(ctx context.Context, id netmap.EndpointID) error
	// Changed is called when the answer of Networks has changed. The kernel must then follow.
	Changed()
}

// Disk is one bucket of what survives restarts. Commit returns when it is synced.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Config is what Attachments need.
type Config struct {
	Networks  Networks
	Addresses Addresses
	Facts     Facts
	Ports     Ports
	Disk      Disk
	// Entered is called when an endpoint has entered a sandbox, before the owner is answered;
	// nil: nobody is called.
	Entered func()
}

// Attachments are this host's networks and endpoints, of all owners. All methods are safe
// for concurrent use.
type Attachments struct {
	cfg Config
	// locks serialises calls about the same endpoint, network of an owner, address or subnet.
	// Only the holder of a key writes the record of that key to disk.
	locks *turn.Keyed

	mu        sync.Mutex
	networks  map[string]NetworkRecord // by the owner's id
	endpoints endpoints
}

// Networks are this host's networks, sorted by their owners' ids.
func (a *Attachments) Networks() []NetworkRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]NetworkRecord, 0, len(a.networks))
	for _, r := range a.networks {
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y NetworkRecord) int { return strings.Compare(x.ID, y.ID) })
	return out
}

// Endpoints are this host's endpoints, sorted by id.
func (a *Attachments) Endpoints() []EndpointRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.endpoints.sorted()
}

// Endpoint returns an endpoint that is not deleted.
func (a *Attachments) Endpoint(id netmap.EndpointID) (EndpointRecord, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.endpoints.byID[id]
	return r, ok && !r.Deleted
}

// Holder returns the endpoint of this host that holds an address. A deleted endpoint holds its
// addresses until its port is removed. An evicted endpoint is returned if no other one holds
// the address, because its container still uses it.
func (a *Attachments) Holder(addr netip.Addr) (EndpointRecord, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.endpoints.holder(addr)
}

// Part is one owner's networks and endpoints on this host. To a Part those of other owners are
// unknown: it neither returns nor changes them. All methods are safe for concurrent use.
type Part struct {
	all   *Attachments
	owner netmap.Owner
}

// Of returns the part of an owner.
func (a *Attachments) Of(owner netmap.Owner) Part { return Part{a, owner} }

// Networks returns the owner's networks, sorted by id.
func (p Part) Networks() []NetworkRecord {
	return slices.DeleteFunc(p.all.Networks(), func(r NetworkRecord) bool { return r.Owner != p.owner })
}

// Endpoints returns the owner's endpoints, sorted by id.
func (p Part) Endpoints() []EndpointRecord {
	return slices.DeleteFunc(p.all.Endpoints(), func(r EndpointRecord) bool { return r.Owner != p.owner })
}

// Endpoint returns an endpoint of the owner's that is not deleted.
func (p Part) Endpoint(id netmap.EndpointID) (EndpointRecord, bool) {
	r, ok := p.all.Endpoint(id)
	return r, ok && r.Owner == p.owner
}

// network returns a network of the owner's that is not deleted.
func (p Part) network(id string) (NetworkRecord, bool) {
	r, ok := p.all.network(id)
	return r, ok && r.Owner == p.owner
}

func unknownNetwork(id string) error {
	return netmap.Refuse(netmap.Unknown, "network %s is not known to Weft on this host, though its owner has it: its state directory was lost; remove the network and create it again", short(id))
}

// lock is turn.Keyed.Lock with this package's name in its error.
func (a *Attachments) lock(ctx context.Context, keys ...string) (release func(), err error) {
	release, err = a.locks.Lock(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	return release, nil
}

// short is an id as Docker's tables show it.
func short(id string) string { return id[:min(12, len(id))] }
