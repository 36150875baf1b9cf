package ipam

import (
	"context"

	"github.com/weftnet/weft/rpc"
)

// Words of Docker's protocol.
const (
	dataGateway        = "com.docker.network.gateway"
	optAddressType     = "RequestAddressType"
	optEndpointName    = "com.docker.network.endpoint.name" // 29+
	optBlock           = "weft.block"
	ownOptions         = "weft."
	knownOptions       = optBlock + " (prefix length of the blocks that hosts get, such as /24; /24,/112 for both families)"
	localAddressSpace  = rpc.AddressSpace
	globalAddressSpace = rpc.AddressSpace
)

// Capabilities is the answer to GetCapabilities. With RequiresRequestReplay dockerd
// repeats its requests at every start: the only inventory that it offers by itself.
type Capabilities struct {
	RequiresMACAddress    bool
	RequiresRequestReplay bool
}

// AddressSpaces is the answer to GetDefaultAddressSpaces.
type AddressSpaces struct {
	LocalDefaultAddressSpace  string
	GlobalDefaultAddressSpace string
}

// PoolRequest asks for a pool.
type PoolRequest struct {
	AddressSpace string
	Pool         string // --subnet; empty: any
	SubPool      string // --ip-range
	Options      map[string]string
	V6           bool
}

// PoolResponse names the pool that is given.
type PoolResponse struct {
	PoolID string
	Pool   string
	Data   map[string]string
}

// PoolRelease gives a pool back.
type PoolRelease struct{ PoolID string }

// AddressRequest asks for an address of a pool; empty: any.
type AddressRequest struct {
	PoolID  string
	Address string
	Options map[string]string
}

// AddressResponse is the address with the subnet's prefix length.
type AddressResponse struct {
	Address string
	Data    map[string]string
}

// AddressRelease gives an address back.
type AddressRelease struct {
	PoolID  string
	Address string
}

// GetCapabilities answers without the cluster: dockerd asks while it starts.
func (i *IPAM) GetCapabilities(context.Context) (Capabilities, error) {
	return Capabilities{RequiresRequestReplay: true}, nil
}

// GetDefaultAddressSpaces names Weft's one address space.
func (i *IPAM) GetDefaultAddressSpaces(context.Context) (AddressSpaces, error) {
	return AddressSpaces{LocalDefaultAddressSpace: localAddressSpace, GlobalDefaultAddressSpace: globalAddressSpace}, nil
}
