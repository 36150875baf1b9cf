package ipam

import (
	"context"

	api "github.com/docker/go-plugins-helpers/ipam"

	"github.com/weftnet/weft/rpc"
)

// Names in Docker's protocol.
const (
	dataGateway        = "com.docker.network.gateway"
	optAddressType     = "RequestAddressType"
	optEndpointName    = "com.docker.network.endpoint.name" // since Docker 29
	optBlock           = "weft.block"
	ownOptions         = "weft."
	knownOptions       = optBlock + " (prefix length of the blocks that hosts get, such as /24; /24,/112 for both families)"
	localAddressSpace  = rpc.AddressSpace
	globalAddressSpace = rpc.AddressSpace
)

// Messages of the protocol, which are those of go-plugins-helpers.
type (
	// AddressSpaces is the answer to GetDefaultAddressSpaces.
	AddressSpaces = api.AddressSpacesResponse
	// PoolRequest asks for a pool: Pool is --subnet, or empty for any, SubPool --ip-range.
	PoolRequest = api.RequestPoolRequest
	// PoolResponse names the pool that is given.
	PoolResponse = api.RequestPoolResponse
	// PoolRelease gives a pool back.
	PoolRelease = api.ReleasePoolRequest
	// AddressRequest asks for an address of a pool; empty: any.
	AddressRequest = api.RequestAddressRequest
	// AddressResponse is the address with the subnet's prefix length.
	AddressResponse = api.RequestAddressResponse
	// AddressRelease gives an address back.
	AddressRelease = api.ReleaseAddressRequest
)

// Capabilities is the answer to GetCapabilities. RequiresRequestReplay, which the library does
// not know, makes dockerd repeat its requests at every start. Docker offers no other inventory.
type Capabilities struct {
	api.CapabilitiesResponse
	RequiresRequestReplay bool
}

// GetCapabilities answers without the ledger, because dockerd calls it while it starts.
func (i *IPAM) GetCapabilities(context.Context) (Capabilities, error) {
	return Capabilities{RequiresRequestReplay: true}, nil
}

// GetDefaultAddressSpaces returns the one address space of Weft.
func (i *IPAM) GetDefaultAddressSpaces(context.Context) (AddressSpaces, error) {
	return AddressSpaces{LocalDefaultAddressSpace: localAddressSpace, GlobalDefaultAddressSpace: globalAddressSpace}, nil
}
