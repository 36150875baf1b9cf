package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// RequestAddress hands out the gateway, the address that was asked for, or the next one. It is
// on disk when RequestAddress returns.
func (i *IPAM) RequestAddress(ctx context.Context, req AddressRequest) (AddressResponse, error) {
	id, err := ParsePoolID(req.PoolID)
	if err != nil {
		return AddressResponse{}, err
	}
	want, err := parseAddr(req.Address)
	if err != nil {
		return AddressResponse{}, err
	}
	var a netip.Addr
	if req.Options[optAddressType] == dataGateway {
		a, err = i.gateway(ctx, id.Subnet, want)
	} else {
		a, err = i.Allocate(ctx, Ask{Subnet: id.Subnet, Within: id.Range, Want: want, Name: req.Options[optEndpointName], Caller: dockerd(ctx)})
	}
	if err != nil {
		return AddressResponse{}, err
	}
	return AddressResponse{Address: cidr(a, id.Subnet)}, nil
}

// dockerd returns the Docker Engine that a call came from.
func dockerd(ctx context.Context) Caller {
	peer, _ := rpc.PeerOf(ctx)
	return Caller{Owner: netmap.OwnerDocker, ID: peer.Instance}
}

// parseAddr reads an address with or without a prefix length; empty is zero.
func parseAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	bare, _, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(bare)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, bad("%.100q is no address; want one such as 10.40.0.7", s)
	}
	return a.Unmap(), nil
}

// gateway returns the subnet's gateway. If there is none, the ledger decides it. It is never a
// container's address and needs no record on this host.
func (i *IPAM) gateway(ctx context.Context, subnet netip.Prefix, want netip.Addr) (netip.Addr, error) {
	p, err := i.pool(ctx, subnet)
	if err != nil {
		return netip.Addr{}, err
	}
	i.mu.Lock()
	s := p.Subnet()
	i.mu.Unlock()
	if s.Gateway.IsValid() && (!want.IsValid() || want == s.Gateway) {
		return s.Gateway, nil
	}
	s, err = i.reserve(ctx, p, GatewayName, want)
	return s.Gateway, err
}

// reserve has the ledger reserve an address on all hosts.
func (i *IPAM) reserve(ctx context.Context, p *allocator, name string, a netip.Addr) (netmap.Subnet, error) {
	leave, err := i.decide(ctx)
	if err != nil {
		return netmap.Subnet{}, err
	}
	defer leave()
	s, err := i.cfg.Decisions.Reserve(ctx, p.prefix, name, a)
	if err != nil {
		return s, fmt.Errorf("ipam: %w", err)
	}
	if err := i.saveSubnet(s, p.networksOf(), false); err != nil {
		return s, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.SetSubnet(s)
	return s, nil
}

// ReleaseAddress takes an address back. It succeeds if the address is not held.
func (i *IPAM) ReleaseAddress(ctx context.Context, req AddressRelease) (rpc.Empty, error) {
	id, err := ParsePoolID(req.PoolID)
	if err != nil {
		return rpc.Empty{}, err
	}
	a, err := parseAddr(req.Address)
	switch {
	case err != nil:
		return rpc.Empty{}, err
	case !a.IsValid():
		return rpc.Empty{}, bad("Address is missing")
	}
	return rpc.Empty{}, i.Release(ctx, id.Subnet, a, dockerd(ctx))
}
