package driver

import (
	"context"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/rpc"
)

// Docker is what the agent reads from Docker's API about its networks.
type Docker interface {
	// RefusedSwarm is called when a network of swarm scope is refused. It returns the name that
	// the network had when Docker's networks were last listed, empty if it was not listed. It
	// does not call Docker.
	RefusedSwarm(docker string) (name string)
	// Deleted is called when Docker removes a network, before the driver removes anything.
	Deleted(docker string)
}

// Driver answers the network driver protocol. All methods are safe for concurrent use.
type Driver struct {
	attach attach.Part
	docker Docker
}

// New returns the driver for the part of this host's networks and endpoints that Docker owns.
func New(a attach.Part, docker Docker) *Driver { return &Driver{attach: a, docker: docker} }

// Routes returns the handlers of the protocol, by method.
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

// gwAllocCheck says that Docker must allocate gateways: RequestPool returns them, so none is
// skipped.
func gwAllocCheck(context.Context, rpc.Empty) (gwAllocCheckResponse, error) {
	return gwAllocCheckResponse{}, nil
}

// allocateNetwork is called by a manager of a swarm for a network of swarm scope.
func (d *Driver) allocateNetwork(_ context.Context, req api.AllocateNetworkRequest) (rpc.Empty, error) {
	return rpc.Empty{}, d.refuseSwarm(req.NetworkID)
}

// nothing answers calls that the driver does not need: docker_gwbridge publishes ports, and
// gossip discovers hosts.
func nothing(context.Context, rpc.Empty) (rpc.Empty, error) { return rpc.Empty{}, nil }
