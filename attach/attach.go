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
	Internal  bool
	Replica   netmap.NetworkID // the network of the cluster that this becomes a part of; 0: any that fits
}

// Networks decides which network of the cluster a network of this host is. Refusals are
// passed on to the user as they stand.
type Networks interface {
	// EnsureNetwork finds or creates the network with these subnets.
	EnsureNetwork(ctx context.Context, r NetworkRequest) (netmap.Network, error)
	// Joinable says why no new endpoint may be made in a network that this host is a
	// member of, or nil. It waits for nobody.
	Joinable(id netmap.NetworkID) error
	// LeaveNetwork gives up what a network of this host has of the cluster's; last says
	// that no other network of this host is the same one.
	LeaveNetwork(ctx context.Context, r NetworkRecord, last bool) error
	// RejoinNetwork makes the host, under another identity than before, a member of
	// what the network is a part of; it may be another network by now.
	RejoinNetwork(ctx context.Context, r NetworkRecord) (netmap.Network, error)
}

// Addresses are what was handed out before an endpoint is made with them.
type Addresses interface {
	// Attach refuses an address that its owner was not given, or that was taken back.
	Attach(a netip.Addr, owner netmap.Owner) error
}

// Facts tells the other hosts about endpoints. No method waits for anybody.
type Facts interface {
	Announce(e netmap.Endpoint)
	Withdraw(id netmap.EndpointID)
	// Gone says that the endpoint is deleted on this host: its addresses may be
	// given to another.
	Gone(e netmap.Endpoint)
}

// Ports connects endpoints to their network in the kernel.
type Ports interface {
	// Plug makes the endpoint's port and names the interface for the owner to move.
	// Plugging what is plugged gives the same name.
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
}

// Attachments are this host's networks and endpoints, of all owners. All methods are safe
// for concurrent use.
type Attachments struct {
	cfg Config
	// locks makes calls about one endpoint, one network of an owner, one address or one
	// subnet take turns. Whatever is written to disk is written by the holder of its key.
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

// Endpoint is an endpoint that its owner has.
func (a *Attachments) Endpoint(id netmap.EndpointID) (EndpointRecord, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.endpoints.byID[id]
	return r, ok && !r.Deleted
}

// Holder is the endpoint of this host that holds an address, also while it is
// deleted: its port is still there. An evicted one counts if there is no
// other: its container still believes that it has it.
func (a *Attachments) Holder(addr netip.Addr) (EndpointRecord, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.endpoints.holder(addr)
}

// Part is what one owner has of this host's networks and endpoints. It neither shows nor
// changes what others have: theirs are unknown to it. All methods are safe for concurrent use.
type Part struct {
	all   *Attachments
	owner netmap.Owner
}

// Of is the part of an owner.
func (a *Attachments) Of(owner netmap.Owner) Part { return Part{a, owner} }

// Networks are the owner's, sorted by id.
func (p Part) Networks() []NetworkRecord {
	return slices.DeleteFunc(p.all.Networks(), func(r NetworkRecord) bool { return r.Owner != p.owner })
}

// Endpoints are the owner's, sorted by id.
func (p Part) Endpoints() []EndpointRecord {
	return slices.DeleteFunc(p.all.Endpoints(), func(r EndpointRecord) bool { return r.Owner != p.owner })
}

// Endpoint is an endpoint that the owner has.
func (p Part) Endpoint(id netmap.EndpointID) (EndpointRecord, bool) {
	r, ok := p.all.Endpoint(id)
	return r, ok && r.Owner == p.owner
}

// network is a network that the owner has.
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
