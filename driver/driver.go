package driver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// Networks decides which network of the cluster a Docker network is. Refusals
// are passed on to the user as they stand.
type Networks interface {
	// EnsureNetwork finds or creates the network with these subnets.
	EnsureNetwork(ctx context.Context, r NetworkRequest) (netmap.Network, error)
	// LeaveNetwork gives up what a Docker network of this host has of it; last says
	// that no other Docker network of this host is the same network.
	LeaveNetwork(ctx context.Context, r NetworkRecord, last bool) error
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
}

// Disk is one bucket of what survives restarts. Commit returns when it is synced.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// Config is what a Driver needs.
type Config struct {
	Networks Networks
	Facts    Facts
	Ports    Ports
	Disk     Disk
}

// NetworkRecord is one network of this host's Docker.
type NetworkRecord struct {
	Docker  string         `json:"docker"` // Docker's network id
	Network netmap.Network `json:"network"`
	// Leaving is set when Docker removed the network and the ledger has not heard
	// of it yet.
	Leaving bool `json:"leaving,omitempty"`
}

// EndpointRecord is one endpoint of this host's Docker.
type EndpointRecord struct {
	Endpoint netmap.Endpoint `json:"endpoint"`
	Docker   string          `json:"docker"` // Docker's network id
	Joined   bool            `json:"joined"` // a container has it
}

// Driver keeps this host's networks and endpoints. All methods are safe for
// concurrent use.
type Driver struct {
	cfg Config

	mu        sync.Mutex
	networks  map[string]NetworkRecord // by Docker's id
	endpoints map[netmap.EndpointID]EndpointRecord
}

// Keys on disk.
const (
	networkPrefix  = "network/"
	endpointPrefix = "endpoint/"
)

// New reads what an earlier agent left on disk.
func New(cfg Config) (*Driver, error) {
	d := &Driver{cfg: cfg, networks: map[string]NetworkRecord{}, endpoints: map[netmap.EndpointID]EndpointRecord{}}
	kept, err := cfg.Disk.Load()
	if err != nil {
		return nil, fmt.Errorf("driver: read networks and endpoints: %w", err)
	}
	for key, value := range kept {
		if err := d.restore(key, value); err != nil {
			return nil, fmt.Errorf("driver: the record %s on disk is damaged: %w; restore the state directory or run weft cleanup", key, err)
		}
	}
	return d, nil
}

func (d *Driver) restore(key string, value []byte) error {
	if id, ok := strings.CutPrefix(key, networkPrefix); ok {
		var r NetworkRecord
		err := json.Unmarshal(value, &r)
		d.networks[id] = r
		return err
	}
	if id, ok := strings.CutPrefix(key, endpointPrefix); ok {
		var r EndpointRecord
		err := json.Unmarshal(value, &r)
		d.endpoints[netmap.EndpointID(id)] = r
		return err
	}
	return fmt.Errorf("its kind is not known")
}

// Routes are the methods of the protocol.
func (d *Driver) Routes() map[string]rpc.Handler {
	return map[string]rpc.Handler{
		"NetworkDriver.GetCapabilities":             rpc.Ask(getCapabilities),
		"NetworkDriver.GwAllocCheck":                rpc.Call(gwAllocCheck),
		"NetworkDriver.AllocateNetwork":             rpc.Call(noSwarm),
		"NetworkDriver.FreeNetwork":                 rpc.Call(nothing[networkRequest]),
		"NetworkDriver.CreateNetwork":               rpc.Call(d.createNetwork),
		"NetworkDriver.DeleteNetwork":               rpc.Call(d.deleteNetwork),
		"NetworkDriver.CreateEndpoint":              rpc.Call(d.createEndpoint),
		"NetworkDriver.DeleteEndpoint":              rpc.Call(d.deleteEndpoint),
		"NetworkDriver.EndpointOperInfo":            rpc.Call(d.operInfo),
		"NetworkDriver.Join":                        rpc.Call(d.join),
		"NetworkDriver.Leave":                       rpc.Call(d.leave),
		"NetworkDriver.ProgramExternalConnectivity": rpc.Call(nothing[endpointRequest]),
		"NetworkDriver.RevokeExternalConnectivity":  rpc.Call(nothing[endpointRequest]),
		"NetworkDriver.DiscoverNew":                 rpc.Call(nothing[struct{}]),
		"NetworkDriver.DiscoverDelete":              rpc.Call(nothing[struct{}]),
	}
}

func getCapabilities(context.Context) (capabilities, error) {
	return capabilities{Scope: "local", ConnectivityScope: "global"}, nil
}

// gwAllocCheck: RequestPool already names the gateway, so nothing is skipped.
func gwAllocCheck(context.Context, struct{}) (gwAllocCheckResponse, error) {
	return gwAllocCheckResponse{}, nil
}

func noSwarm(context.Context, networkRequest) (rpc.Empty, error) {
	return rpc.Empty{}, bad("Weft needs no swarm: create the network without --scope swarm and without a swarm service; it spans all hosts of the Weft cluster")
}

// nothing answers calls that have no meaning here: docker_gwbridge publishes
// ports, gossip discovers hosts.
func nothing[Req any](context.Context, Req) (rpc.Empty, error) { return rpc.Empty{}, nil }

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
	out := make([]EndpointRecord, 0, len(d.endpoints))
	for _, r := range d.endpoints {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b EndpointRecord) int { return strings.Compare(string(a.Endpoint.ID), string(b.Endpoint.ID)) })
	return out
}

// Holder is the endpoint of this host that holds an address.
func (d *Driver) Holder(a netip.Addr) (EndpointRecord, bool) {
	for _, r := range d.Endpoints() {
		if r.Endpoint.V4 == a || r.Endpoint.V6 == a {
			return r, true
		}
	}
	return EndpointRecord{}, false
}

// Uses reports whether a network of this host has the subnet.
func (d *Driver) Uses(subnet netip.Prefix) bool {
	return slices.ContainsFunc(d.Networks(), func(r NetworkRecord) bool {
		return !r.Leaving && slices.Contains(r.Network.Subnets, subnet)
	})
}

func (d *Driver) saveNetwork(r NetworkRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	if err := d.cfg.Disk.Commit(map[string][]byte{networkPrefix + r.Docker: b}); err != nil {
		return fmt.Errorf("driver: keep network %s on disk: %w", short(r.Docker), err)
	}
	d.mu.Lock()
	d.networks[r.Docker] = r
	d.mu.Unlock()
	return nil
}

func (d *Driver) forgetNetwork(id string) error {
	if err := d.cfg.Disk.Commit(nil, networkPrefix+id); err != nil {
		return fmt.Errorf("driver: forget network %s on disk: %w", short(id), err)
	}
	d.mu.Lock()
	delete(d.networks, id)
	d.mu.Unlock()
	return nil
}

func (d *Driver) saveEndpoint(r EndpointRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	if err := d.cfg.Disk.Commit(map[string][]byte{endpointPrefix + string(r.Endpoint.ID): b}); err != nil {
		return fmt.Errorf("driver: keep endpoint %s on disk: %w", short(string(r.Endpoint.ID)), err)
	}
	d.mu.Lock()
	d.endpoints[r.Endpoint.ID] = r
	d.mu.Unlock()
	return nil
}

func (d *Driver) network(id string) (NetworkRecord, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.networks[id]
	return r, ok && !r.Leaving
}

func (d *Driver) endpoint(id netmap.EndpointID) (EndpointRecord, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.endpoints[id]
	return r, ok
}
