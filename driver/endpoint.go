package driver

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// createEndpoint writes an endpoint down and announces it: address, MAC and host
// are final, and Docker needs some 100 ms more until the process runs, so the
// other hosts are ready before it is.
func (d *Driver) createEndpoint(_ context.Context, req createEndpointRequest) (createEndpointResponse, error) {
	n, ok := d.network(req.NetworkID)
	if !ok {
		return createEndpointResponse{}, unknownNetwork(req.NetworkID)
	}
	e, err := parseEndpoint(req, n.Network)
	if err != nil {
		return createEndpointResponse{}, err
	}
	if have, ok := d.endpoint(e.ID); ok && have.Endpoint != e {
		return createEndpointResponse{}, bad("endpoint %s exists with addresses %v %v and MAC %s", short(req.EndpointID), have.Endpoint.V4, have.Endpoint.V6, have.Endpoint.MAC)
	} else if !ok {
		if err := d.saveEndpoint(EndpointRecord{Endpoint: e, Docker: req.NetworkID}); err != nil {
			return createEndpointResponse{}, err
		}
	}
	d.cfg.Facts.Announce(e)
	if req.Interface.MacAddress != "" {
		return createEndpointResponse{}, nil // Docker rejects values for what it supplied
	}
	return createEndpointResponse{Interface: &endpointInterface{MacAddress: e.MAC.String()}}, nil
}

func unknownNetwork(id string) error {
	return fmt.Errorf("network %s is not known to Weft on this host, though Docker has it: its state directory was lost; remove the network and create it again", short(id))
}

func parseEndpoint(req createEndpointRequest, n netmap.Network) (netmap.Endpoint, error) {
	e := netmap.Endpoint{ID: netmap.EndpointID(req.EndpointID), Network: n.ID}
	if req.EndpointID == "" || req.Interface == nil {
		return e, bad("EndpointID or Interface is missing")
	}
	var err error
	if e.V4, err = parseAddress(req.Interface.Address, n, netip.Addr.Is4); err != nil {
		return e, err
	}
	if e.V6, err = parseAddress(req.Interface.AddressIPv6, n, netip.Addr.Is6); err != nil {
		return e, err
	}
	if !e.V4.IsValid() && !e.V6.IsValid() {
		return e, bad("endpoint %s has no address: create the network with --ipam-driver weftnet/weft:latest", short(req.EndpointID))
	}
	if req.Interface.MacAddress == "" {
		e.MAC = netmap.MACOf(cmp.Or(e.V4, e.V6))
		return e, nil
	}
	if e.MAC, err = netmap.ParseMAC(req.Interface.MacAddress); err != nil {
		return e, bad("%v", err)
	}
	return e, nil
}

// parseAddress reads an address of one family with its prefix length; empty is
// the zero address.
func parseAddress(text string, n netmap.Network, family func(netip.Addr) bool) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || !family(p.Addr()) {
		return netip.Addr{}, bad("address %q is no address with a prefix length of the field's family", text)
	}
	if !slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Contains(p.Addr()) }) {
		return netip.Addr{}, bad("address %s is outside of the network's subnets %v", p.Addr(), n.Subnets)
	}
	return p.Addr(), nil
}

// deleteEndpoint removes the port, then the record, so that a crash in between
// is mended by the next call or by cleanup.
func (d *Driver) deleteEndpoint(ctx context.Context, req endpointRequest) (rpc.Empty, error) {
	id := netmap.EndpointID(req.EndpointID)
	r, ok := d.endpoint(id)
	if !ok {
		return rpc.Empty{}, nil
	}
	d.cfg.Facts.Withdraw(id)
	if err := d.cfg.Ports.Unplug(ctx, id); err != nil {
		return rpc.Empty{}, fmt.Errorf("driver: %w", err)
	}
	if err := d.cfg.Disk.Commit(nil, endpointPrefix+req.EndpointID); err != nil {
		return rpc.Empty{}, fmt.Errorf("driver: forget endpoint %s on disk: %w", short(req.EndpointID), err)
	}
	d.mu.Lock()
	delete(d.endpoints, id)
	d.mu.Unlock()
	d.cfg.Facts.Gone(r.Endpoint)
	return rpc.Empty{}, nil
}

// join answers when the port is plumbed. Docker moves the interface itself.
func (d *Driver) join(ctx context.Context, req joinRequest) (joinResponse, error) {
	r, ok := d.endpoint(netmap.EndpointID(req.EndpointID))
	if !ok {
		return joinResponse{}, fmt.Errorf("endpoint %s is not known to Weft on this host; stop the container and start it again", short(req.EndpointID))
	}
	name, err := d.cfg.Ports.Plug(ctx, r.Endpoint)
	if err != nil {
		return joinResponse{}, fmt.Errorf("driver: %w", err)
	}
	r.Joined = true
	if err := d.saveEndpoint(r); err != nil {
		return joinResponse{}, err
	}
	d.cfg.Facts.Announce(r.Endpoint)
	return joinResponse{InterfaceName: interfaceName{SrcName: name, DstPrefix: "eth"}}, nil
}

// leave withdraws the endpoint at once. The port stays until DeleteEndpoint,
// because Docker moves the interface back in between.
func (d *Driver) leave(_ context.Context, req endpointRequest) (rpc.Empty, error) {
	r, ok := d.endpoint(netmap.EndpointID(req.EndpointID))
	if !ok {
		return rpc.Empty{}, nil
	}
	d.cfg.Facts.Withdraw(r.Endpoint.ID)
	r.Joined = false
	return rpc.Empty{}, d.saveEndpoint(r)
}

func (d *Driver) operInfo(_ context.Context, req endpointRequest) (operInfoResponse, error) {
	info := operInfoResponse{Value: map[string]string{}}
	if r, ok := d.endpoint(netmap.EndpointID(req.EndpointID)); ok {
		info.Value["com.docker.network.endpoint.macaddress"] = r.Endpoint.MAC.String()
	}
	return info, nil
}
