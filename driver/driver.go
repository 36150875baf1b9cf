package driver

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// Networks decides which network of the cluster a Docker network is. Refusals
// are passed on to the user as they stand.
type Networks interface {
	// RefusedSwarm hears that a network of swarm scope is refused, and answers what Docker
	// called it when it listed its networks last; empty if it did not list it. It does not
	// ask Docker.
	RefusedSwarm(docker string) (name string)
	// EnsureNetwork finds or creates the network with these subnets.
	EnsureNetwork(ctx context.Context, r NetworkRequest) (netmap.Network, error)
	// Deleted hears that Docker removes a network, before anything of it is given up.
	Deleted(docker string)
	// Joinable says why no new endpoint may be made in a network that this host is a
	// member of, or nil. It waits for nobody.
	Joinable(id netmap.NetworkID) error
	// LeaveNetwork gives up what a Docker network of this host has of it; last says
	// that no other Docker network of this host is the same network.
	LeaveNetwork(ctx context.Context, r NetworkRecord, last bool) error
	// RejoinNetwork makes the host, under another identity than before, a member of
	// what the Docker network is a part of; it may be another network by now.
	RejoinNetwork(ctx context.Context, r NetworkRecord) (netmap.Network, error)
}

// Addresses are what Docker was given before it creates an endpoint with them.
type Addresses interface {
	// Attach refuses an address that Docker was not given, or that was taken back.
	Attach(a netip.Addr) error
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
	// Plug makes the endpoint's port and names the interface for Docker to move.
	// Plugging what is plugged gives the same name.
	Plug(ctx context.Context, e netmap.Endpoint) (string, error)
	// Unplug removes a port; an unknown one is no error.
	Unplug(ctx context.Context, id netmap.EndpointID) error
	// Changed hears that what Networks answers is another now: the kernel is to follow.
	Changed()
}

// Disk is one bucket of what survives restarts. Commit returns when it is synced.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Config is what a Driver needs.
type Config struct {
	Networks  Networks
	Addresses Addresses
	Facts     Facts
	Ports     Ports
	Disk      Disk
}

// Driver keeps this host's networks and endpoints. All methods are safe for
// concurrent use.
type Driver struct {
	cfg Config
	// locks makes calls about one endpoint, one Docker network or one subnet take
	// turns. Whatever is written to disk is written by the holder of its key.
	locks keyedLock

	mu        sync.Mutex
	networks  map[string]NetworkRecord // by Docker's id
	endpoints endpoints
}

// Routes are the methods of the protocol.
func (d *Driver) Routes() map[string]rpc.Handler {
	return map[string]rpc.Handler{
		"NetworkDriver.GetCapabilities":             rpc.Ask(getCapabilities),
		"NetworkDriver.GwAllocCheck":                rpc.Call(gwAllocCheck),
		"NetworkDriver.AllocateNetwork":             rpc.Call(d.allocateNetwork),
		"NetworkDriver.FreeNetwork":                 rpc.Call(nothing),
		"NetworkDriver.CreateNetwork":               rpc.Call(d.createNetwork),
		"NetworkDriver.DeleteNetwork":               rpc.Call(d.deleteNetwork),
		"NetworkDriver.CreateEndpoint":              rpc.Call(d.createEndpoint),
		"NetworkDriver.DeleteEndpoint":              rpc.Call(d.deleteEndpoint),
		"NetworkDriver.EndpointOperInfo":            rpc.Call(d.operInfo),
		"NetworkDriver.Join":                        rpc.Call(d.join),
		"NetworkDriver.Leave":                       rpc.Call(d.leave),
		"NetworkDriver.ProgramExternalConnectivity": rpc.Call(nothing),
		"NetworkDriver.RevokeExternalConnectivity":  rpc.Call(nothing),
		"NetworkDriver.DiscoverNew":                 rpc.Call(nothing),
		"NetworkDriver.DiscoverDelete":              rpc.Call(nothing),
	}
}

func getCapabilities(context.Context) (api.CapabilitiesResponse, error) {
	return api.CapabilitiesResponse{Scope: api.LocalScope, ConnectivityScope: api.GlobalScope}, nil
}

// gwAllocCheck: RequestPool already names the gateway, so nothing is skipped.
func gwAllocCheck(context.Context, rpc.Empty) (gwAllocCheckResponse, error) {
	return gwAllocCheckResponse{}, nil
}

// allocateNetwork is what a manager of a swarm asks for a driver of global scope.
func (d *Driver) allocateNetwork(_ context.Context, req api.AllocateNetworkRequest) (rpc.Empty, error) {
	return rpc.Empty{}, d.refuseSwarm(req.NetworkID)
}

// nothing answers calls that have no meaning here: docker_gwbridge publishes
// ports, gossip discovers hosts.
func nothing(context.Context, rpc.Empty) (rpc.Empty, error) { return rpc.Empty{}, nil }

// Networks are this host's networks, sorted by Docker's id.
func (d *Driver) Networks() []NetworkRecord {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]NetworkRecord, 0, len(d.networks))
	for _, r := range d.networks {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b NetworkRecord) int { return strings.Compare(a.Docker, b.Docker) })
	return out
}

// Endpoints are this host's endpoints, sorted by id.
func (d *Driver) Endpoints() []EndpointRecord {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoints.sorted()
}

// Holder is the endpoint of this host that holds an address, also while it is
// deleted: its port is still there. An evicted one counts if there is no
// other: its container still believes that it has it.
func (d *Driver) Holder(a netip.Addr) (EndpointRecord, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoints.holder(a)
}
