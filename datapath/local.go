package datapath

import (
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// Local is what a host knows about itself from its disk and its kernel.
type Local struct {
	Networks []netmap.Network // that this host takes part in, as last known here
	Ports    []Port           // endpoints plugged on this host
	Source   netip.Addr       // underlay address, the VTEP
	// UnderlayMTU is that of the underlay device, bytes; 0 = 1500.
	UnderlayMTU int
	// MTU is an upper bound for containers, set by the operator; 0 = none.
	MTU     int
	UDPPort uint16 // of VXLAN; 0 = 4789
	// Synced says that the view holds what the cluster knows. Until then the
	// desired state is a partial one, State.Keep.
	Synced bool
}

// Port is an endpoint of this host.
type Port struct {
	Endpoint netmap.EndpointID
	Network  netmap.NetworkID
	V4, V6   netip.Addr // zero where the endpoint has none
	MAC      netmap.MAC // zero = derived from the address, as Docker may leave it out
}

// HardwareAddr is the MAC that the port has: the chosen one, else the one that
// follows from its address.
func (p Port) HardwareAddr() netmap.MAC { return macOf(p.MAC, p.V4, p.V6) }

func macOf(mac netmap.MAC, v4, v6 netip.Addr) netmap.MAC {
	switch {
	case !mac.IsZero():
		return mac
	case v4.IsValid():
		return netmap.MACOf(v4)
	case v6.IsValid():
		return netmap.MACOf(v6)
	}
	return netmap.MAC{}
}
