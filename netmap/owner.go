package netmap

import "strings"

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
