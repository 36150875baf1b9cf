package netmap

// Owner is the kind of software that makes networks and endpoints on a host and asks for
// their addresses. What one owner has, no other one changes or gives up.
type Owner string

// The owners.
const (
	OwnerDocker Owner = "docker" // the Docker Engine, over its plugin protocols
	OwnerCNI    Owner = "cni"    // a container runtime, over CNI
	OwnerHost   Owner = "host"   // the host itself
)
