package driver

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// parseEndpoint reads a CreateEndpoint request for a network.
func parseEndpoint(req createEndpointRequest, n netmap.Network) (netmap.Endpoint, error) {
	e := netmap.Endpoint{ID: netmap.EndpointID(req.EndpointID), Network: n.ID}
	if req.Interface == nil {
		return e, bad("Interface is missing")
	}
	var err error
	if e.V4, err = parseAddress(req.Interface.Address, n, netip.Addr.Is4); err != nil {
		return e, err
	}
	if e.V6, err = parseAddress(req.Interface.AddressIPv6, n, isSix); err != nil {
		return e, err
	}
	if !e.V4.IsValid() && !e.V6.IsValid() {
		return e, bad("endpoint %s has no address: create the network with --ipam-driver weftnet/weft:latest", short(req.EndpointID))
	}
	e.MAC, err = parseMAC(req.Interface.MacAddress, e)
	return e, err
}

// parseMAC parses a MAC. If the text is empty, the MAC is derived from the address.
func parseMAC(text string, e netmap.Endpoint) (netmap.MAC, error) {
	if text == "" {
		return netmap.MACOf(cmp.Or(e.V4, e.V6)), nil
	}
	mac, err := netmap.ParseMAC(text)
	if err != nil {
		return netmap.MAC{}, bad("%.200v", err)
	}
	if mac.IsZero() {
		return netmap.MAC{}, bad("MAC %s is nobody's; choose another --mac-address or none", text)
	}
	return mac, nil
}

// parseAddress parses an address of one family. It has the prefix length of its subnet, as
// Weft's IPAM returned it. An empty text is the zero address.
func parseAddress(text string, n netmap.Network, family func(netip.Addr) bool) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || !family(p.Addr()) {
		return netip.Addr{}, bad("address %.80q is no address with a prefix length of the field's family", text)
	}
	i := slices.IndexFunc(n.Subnets, func(s netip.Prefix) bool { return s.Contains(p.Addr()) })
	switch {
	case i < 0:
		return netip.Addr{}, bad("address %s is outside of the network's subnets %v", p.Addr(), n.Subnets)
	case n.Subnets[i].Bits() != p.Bits():
		return netip.Addr{}, bad("address %s has another prefix length than its subnet %s", p, n.Subnets[i])
	}
	return p.Addr(), nil
}

// isSix reports whether an address is an IPv6 address that is not an IPv4-mapped one.
func isSix(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }
