package driver

import (
	"context"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// createEndpoint writes the record of an endpoint and announces it to the other hosts. Its
// address, MAC and host do not change after this, and Docker takes some 100 ms more until the
// container's process runs, so the other hosts forward to it by then.
func (d *Driver) createEndpoint(ctx context.Context, req createEndpointRequest) (api.CreateEndpointResponse, error) {
	if err := named(req.NetworkID, req.EndpointID); err != nil {
		return api.CreateEndpointResponse{}, err
	}
	network, err := d.attach.Network(ctx, req.NetworkID)
	if err != nil {
		return api.CreateEndpointResponse{}, err
	}
	e, err := parseEndpoint(req, network)
	if err != nil {
		return api.CreateEndpointResponse{}, err
	}
	if err := d.attach.Attach(ctx, req.NetworkID, e); err != nil {
		return api.CreateEndpointResponse{}, err
	}
	if req.Interface.MacAddress != "" {
		return api.CreateEndpointResponse{}, nil // Docker rejects values for what it supplied
	}
	return api.CreateEndpointResponse{Interface: &api.EndpointInterface{MacAddress: e.MAC.String()}}, nil
}

// named refuses a request without the id of a network or an endpoint.
func named(network, endpoint string) error {
	switch {
	case network == "":
		return bad("NetworkID is missing")
	case endpoint == "":
		return bad("EndpointID is missing")
	}
	return nil
}

// deleteEndpoint removes an endpoint. Docker ignores an error here, so
// attach.Attachments.FinishDeletions repeats what fails.
func (d *Driver) deleteEndpoint(ctx context.Context, req api.DeleteEndpointRequest) (rpc.Empty, error) {
	return rpc.Empty{}, d.attach.ForgetEndpoint(ctx, netmap.EndpointID(req.EndpointID))
}

// join returns when the port is connected. Docker itself moves the interface into the container.
// If join fails, Docker deletes the endpoint, which removes the port.
func (d *Driver) join(ctx context.Context, req joinRequest) (api.JoinResponse, error) {
	if err := named(req.NetworkID, req.EndpointID); err != nil {
		return api.JoinResponse{}, err
	}
	name, err := d.attach.Plug(ctx, netmap.EndpointID(req.EndpointID), req.SandboxKey)
	if err != nil {
		return api.JoinResponse{}, err
	}
	return api.JoinResponse{InterfaceName: api.InterfaceName{SrcName: name, DstPrefix: "eth"}}, nil
}

func (d *Driver) leave(ctx context.Context, req api.LeaveRequest) (rpc.Empty, error) {
	return rpc.Empty{}, d.attach.Detach(ctx, netmap.EndpointID(req.EndpointID))
}

func (d *Driver) operInfo(_ context.Context, req api.InfoRequest) (api.InfoResponse, error) {
	info := api.InfoResponse{Value: map[string]string{}}
	if r, ok := d.attach.Endpoint(netmap.EndpointID(req.EndpointID)); ok {
		info.Value["com.docker.network.endpoint.macaddress"] = r.Endpoint.MAC.String()
	}
	return info, nil
}
