package driver

import (
	"context"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/rpc"
)

// Docker is what is known of Docker's networks beside this protocol.
type Docker interface {
	// RefusedSwarm hears that a network of swarm scope is refused, and answers what Docker
	// called it when it listed its networks last; empty if it did not list it. It does not
	// ask Docker.
	RefusedSwarm(docker string) (name string)
	// Deleted hears that Docker removes a network, before anything of it is given up.
	Deleted(docker string)
}

// Driver answers the protocol. All methods are safe for concurrent use.
type Driver struct {
	attach attach.Part
	docker Docker
}

// New is the driver of what Docker has of this host's networks and endpoints.
func New(a attach.Part, docker Docker) *Driver { return &Driver{attach: a, docker: docker} }

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
