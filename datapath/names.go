package datapath

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// Prefixes of the kernel names, none longer than the 15 bytes that Linux allows (IFNAMSIZ).
// Every device with such a name is Weft's, and cleanup removes it.
const (
	BridgePrefix = "wfb"
	VXLANPrefix  = "wfx"
	OuterPrefix  = "wfp" // end of a veth pair in the overlay namespace
	InnerPrefix  = "wfc" // end that Docker moves into the container
)

// BridgeName is the bridge of a VNI, such as wfb100000.
func BridgeName(v netmap.VNI) string { return BridgePrefix + strconv.FormatUint(uint64(v), 16) }

// VXLANName is the VXLAN device of a VNI, such as wfx100000.
func VXLANName(v netmap.VNI) string { return VXLANPrefix + strconv.FormatUint(uint64(v), 16) }

// OuterName is the end of an endpoint's veth pair that stays in the overlay
// namespace.
func OuterName(id netmap.EndpointID) string { return OuterPrefix + short(id) }

// InnerName is the end of an endpoint's veth pair that is offered to Docker.
func InnerName(id netmap.EndpointID) string { return InnerPrefix + short(id) }

// short is 48 bits of an endpoint id: the first 12 hex digits of Docker's, as in
// its own tables, or a hash of any other id.
func short(id netmap.EndpointID) string {
	if len(id) >= 12 && strings.Trim(string(id[:12]), "0123456789abcdef") == "" {
		return string(id[:12])
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails (hash.Hash)
	return fmt.Sprintf("%012x", h.Sum64()&(1<<48-1))
}

// BridgeAlias returns the alias of a bridge, by which the agent recognises it after a restart.
func BridgeAlias(d Device) string { return fmt.Sprintf("weft network %d mtu %d", d.ID, d.PortMTU) }

// ParseBridgeAlias reads what BridgeAlias wrote; ok is false for anything else.
func ParseBridgeAlias(s string) (id netmap.NetworkID, portMTU int, ok bool) {
	f := strings.Fields(s)
	if len(f) != 5 || f[0] != "weft" || f[1] != "network" || f[3] != "mtu" {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(f[2], 10, 64)
	m, err2 := strconv.Atoi(f[4])
	return netmap.NetworkID(n), m, err == nil && err2 == nil
}

const portAlias = "weft endpoint "

// PortAlias returns the alias of an overlay end, which names its endpoint.
func PortAlias(id netmap.EndpointID) string { return portAlias + string(id) }

// ParsePortAlias reads what PortAlias wrote; empty for anything else.
func ParsePortAlias(s string) netmap.EndpointID {
	id, _ := strings.CutPrefix(s, portAlias)
	if len(id) == len(s) {
		return ""
	}
	return netmap.EndpointID(id)
}

// VNIOf returns the VNI in the name of a bridge or VXLAN device.
func VNIOf(name string) (netmap.VNI, bool) {
	for _, prefix := range []string{BridgePrefix, VXLANPrefix} {
		if hex, ok := strings.CutPrefix(name, prefix); ok {
			n, err := strconv.ParseUint(hex, 16, 24)
			v := netmap.VNI(n)
			return v, err == nil && name == prefix+strconv.FormatUint(n, 16)
		}
	}
	return 0, false
}
