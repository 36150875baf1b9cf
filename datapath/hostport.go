package datapath

import "net/netip"

// HostPort is a host's own interface on a network: the inner end of its endpoint's veth pair,
// which stays in the host's namespace.
type HostPort struct {
	Name    string         // of the interface
	MTU     int            // bytes
	Addrs   []netip.Addr   // one of each family at most
	Subnets []netip.Prefix // that the host reaches by it
}
