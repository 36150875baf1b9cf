package netmap

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Owner is the kind of software that makes networks and endpoints on a host and asks for
// their addresses. What one owner has, no other one changes or gives up.
type Owner string

// The owners.
const (
	OwnerDocker Owner = "docker" // the Docker Engine, over its plugin protocols
	OwnerCNI    Owner = "cni"    // a container runtime, over CNI
	OwnerHost   Owner = "host"   // the host itself
)

// OwnerOf is the owner of a network of a host by its id there. Docker's ids have no slash;
// that of another owner begins with the owner and a slash, such as cni/overlay. So ids of
// different owners never meet.
func OwnerOf(network string) Owner {
	owner, _, found := strings.Cut(network, "/")
	if !found {
		return OwnerDocker
	}
	return Owner(owner)
}

// HostEndpoint is the id of the endpoint by which a host is on a network itself. It follows from
// both, so every host knows which endpoint that of another host is.
func HostEndpoint(host HostID, network NetworkID) EndpointID {
	sum := sha256.Sum256(fmt.Appendf(nil, "host %s on network %d", host, network))
	return EndpointID(hex.EncodeToString(sum[:]))
}

// OfHost reports whether an endpoint is that by which its host is on the network itself.
func (e EndpointView) OfHost() bool { return e.ID == HostEndpoint(e.Host, e.Network) }
