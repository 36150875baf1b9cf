package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// createEndpoint writes an endpoint down and announces it: address, MAC and host
// are final, and Docker needs some 100 ms more until the process runs, so the
// other hosts are ready before it is.
func (d *Driver) createEndpoint(ctx context.Context, req createEndpointRequest) (api.CreateEndpointResponse, error) {
	if err := named(req.NetworkID, req.EndpointID); err != nil {
		return api.CreateEndpointResponse{}, err
	}
	n, ok := d.network(req.NetworkID)
	if !ok {
		return api.CreateEndpointResponse{}, unknownNetwork(req.NetworkID)
	}
	network, err := d.rejoined(ctx, n)
	if err != nil {
		return api.CreateEndpointResponse{}, err
	}
	e, err := parseEndpoint(req, network)
	if err != nil {
		return api.CreateEndpointResponse{}, err
	}
	keys := []string{endpointPrefix + string(e.ID)}
	for _, a := range addrsOf(e) {
		keys = append(keys, addressPrefix+a.String())
	}
	release, err := d.locks.lock(ctx, keys...)
	if err != nil {
		return api.CreateEndpointResponse{}, fmt.Errorf("driver: %w", err)
	}
	defer release()
	if err := d.keepEndpoint(ctx, EndpointRecord{Endpoint: e, Docker: req.NetworkID}); err != nil {
		return api.CreateEndpointResponse{}, err
	}
	d.cfg.Facts.Announce(e)
	if req.Interface.MacAddress != "" {
		return api.CreateEndpointResponse{}, nil // Docker rejects values for what it supplied
	}
	return api.CreateEndpointResponse{Interface: &api.EndpointInterface{MacAddress: e.MAC.String()}}, nil
}

// named refuses a request that does not say what it is about.
func named(network, endpoint string) error {
	switch {
	case network == "":
		return bad("NetworkID is missing")
	case endpoint == "":
		return bad("EndpointID is missing")
	}
	return nil
}

func unknownNetwork(id string) error {
	return fmt.Errorf("network %s is not known to Weft on this host, though Docker has it: its state directory was lost; remove the network and create it again", short(id))
}

// keepEndpoint writes an endpoint down, once. When a CreateEndpoint fails, Docker
// sends no DeleteEndpoint and releases the addresses: what came too late to be
// believed is marked as deleted, and Settle removes it.
func (d *Driver) keepEndpoint(ctx context.Context, r EndpointRecord) error {
	id := r.Endpoint.ID
	d.mu.Lock()
	have, ok := d.endpoints.byID[id]
	d.mu.Unlock()
	switch {
	case have.Deleted:
		return fmt.Errorf("driver: endpoint %s is being deleted; start the container again", short(string(id)))
	case have.Evicted != "":
		return offMesh(have)
	case ok:
		return sameEndpoint(have, r)
	}
	if err := d.cfg.Networks.Joinable(r.Endpoint.Network); err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	if err := d.vacant(r.Endpoint); err != nil {
		return err
	}
	if err := d.saveEndpoint(r); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		d.markEndpointDeleted(id)
		return fmt.Errorf("driver: endpoint %s was written down too late; start the container again: %w", short(string(id)), err)
	}
	return nil
}

// addrsOf are the one or two addresses of an endpoint.
func addrsOf(e netmap.Endpoint) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{e.V4, e.V6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// vacant says why a new endpoint may not have its addresses: Docker was so late with it
// that they were taken back, and perhaps given to another one. The caller holds them.
func (d *Driver) vacant(e netmap.Endpoint) error {
	for _, a := range addrsOf(e) {
		if other, taken := d.Holder(a); taken {
			return fmt.Errorf("driver: %s is held by endpoint %s on this host; if no container has that any more, the address is free within three minutes: start the container again then", a, short(string(other.Endpoint.ID)))
		}
		if err := d.cfg.Addresses.Attach(a); err != nil {
			return fmt.Errorf("driver: endpoint %s: %w", short(string(e.ID)), err)
		}
	}
	return nil
}

// sameEndpoint refuses a repeated call that wants something else. The container's
// name is learned beside the protocol and never part of a call.
func sameEndpoint(have, want EndpointRecord) error {
	want.Endpoint.Name = have.Endpoint.Name
	if have.Endpoint == want.Endpoint && have.Docker == want.Docker {
		return nil
	}
	e := have.Endpoint
	return bad("endpoint %s exists on network %s with %s and MAC %s; delete it first", short(string(e.ID)), short(have.Docker), addresses(e), e.MAC)
}

func addresses(e netmap.Endpoint) string {
	switch {
	case !e.V6.IsValid():
		return e.V4.String()
	case !e.V4.IsValid():
		return e.V6.String()
	default:
		return e.V4.String() + " and " + e.V6.String()
	}
}

func (d *Driver) holdEndpoint(ctx context.Context, id netmap.EndpointID) (release func(), err error) {
	release, err = d.locks.lock(ctx, endpointPrefix+string(id))
	if err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	return release, nil
}

// deleteEndpoint removes an endpoint. Docker ignores errors here, so what fails
// is tried again by Settle.
func (d *Driver) deleteEndpoint(ctx context.Context, req api.DeleteEndpointRequest) (rpc.Empty, error) {
	return rpc.Empty{}, d.ForgetEndpoint(ctx, netmap.EndpointID(req.EndpointID))
}

// ForgetEndpoint removes an endpoint that Docker does not have any more: because
// it says so, or because it deleted it while no agent answered. An unknown one is
// no error. What fails is tried again by Settle.
func (d *Driver) ForgetEndpoint(ctx context.Context, id netmap.EndpointID) error {
	if !d.markEndpointDeleted(id) {
		return nil
	}
	return d.drop(ctx, id)
}

// Released hears that Docker released an address. If the endpoint that has it was taken
// out of its container before, Docker deleted that one too, between the two, while no
// agent answered: it does not repeat a DeleteEndpoint.
func (d *Driver) Released(ctx context.Context, a netip.Addr) error {
	r, ok := d.Holder(a)
	if !ok || !r.Detached {
		return nil
	}
	return d.ForgetEndpoint(ctx, r.Endpoint.ID)
}

// drop removes the port of a deleted endpoint, then its record, so that a crash in
// between is mended by whoever comes next; only then are its addresses free.
func (d *Driver) drop(ctx context.Context, id netmap.EndpointID) error {
	release, err := d.holdEndpoint(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	d.mu.Lock()
	r := d.endpoints.byID[id]
	d.mu.Unlock()
	if !r.Deleted {
		return nil // another call was faster, or Docker created it anew
	}
	d.cfg.Facts.Withdraw(id)
	if err := d.cfg.Ports.Unplug(ctx, id); err != nil {
		return errors.Join(fmt.Errorf("driver: %w", err), d.saveEndpoint(r))
	}
	if err := d.forgetEndpoint(id); err != nil {
		return err
	}
	d.cfg.Facts.Gone(r.Endpoint)
	return nil
}

// join answers when the port is plumbed. Docker moves the interface itself. If
// this fails, Docker deletes the endpoint, and the port goes with it.
func (d *Driver) join(ctx context.Context, req joinRequest) (api.JoinResponse, error) {
	if err := named(req.NetworkID, req.EndpointID); err != nil {
		return api.JoinResponse{}, err
	}
	id := netmap.EndpointID(req.EndpointID)
	release, err := d.holdEndpoint(ctx, id)
	if err != nil {
		return api.JoinResponse{}, err
	}
	defer release()
	r, ok := d.Endpoint(id)
	if !ok {
		return api.JoinResponse{}, fmt.Errorf("endpoint %s is not known to Weft on this host; stop the container and start it again", short(req.EndpointID))
	}
	if r.Evicted != "" {
		return api.JoinResponse{}, offMesh(r)
	}
	name, err := d.cfg.Ports.Plug(ctx, r.Endpoint)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return api.JoinResponse{}, fmt.Errorf("driver: %w", err)
	}
	r.Joined, r.Detached = true, false
	if err := d.saveEndpoint(r); err != nil {
		return api.JoinResponse{}, err
	}
	d.cfg.Facts.Announce(r.Endpoint)
	return api.JoinResponse{InterfaceName: api.InterfaceName{SrcName: name, DstPrefix: "eth"}}, nil
}

// leave withdraws the endpoint at once. The port stays until DeleteEndpoint,
// because Docker moves the interface back in between.
func (d *Driver) leave(ctx context.Context, req api.LeaveRequest) (rpc.Empty, error) {
	id := netmap.EndpointID(req.EndpointID)
	release, err := d.holdEndpoint(ctx, id)
	if err != nil {
		return rpc.Empty{}, err
	}
	defer release()
	r, ok := d.Endpoint(id)
	if !ok {
		return rpc.Empty{}, nil
	}
	d.cfg.Facts.Withdraw(id)
	r.Joined, r.Detached = false, true
	return rpc.Empty{}, d.saveEndpoint(r)
}

func (d *Driver) operInfo(_ context.Context, req api.InfoRequest) (api.InfoResponse, error) {
	info := api.InfoResponse{Value: map[string]string{}}
	if r, ok := d.Endpoint(netmap.EndpointID(req.EndpointID)); ok {
		info.Value["com.docker.network.endpoint.macaddress"] = r.Endpoint.MAC.String()
	}
	return info, nil
}
