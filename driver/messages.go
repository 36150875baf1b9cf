package driver

import "encoding/json"

// The messages of the remote driver protocol, as in moby's
// drivers/remote/api/api.go of 20.10 to 29; fields that Weft does not read are
// left out.

type capabilities struct {
	Scope             string
	ConnectivityScope string
}

type gwAllocCheckResponse struct {
	SkipIPv4 bool
	SkipIPv6 bool
}

type ipamData struct {
	AddressSpace string
	Pool         string
	Gateway      string
	AuxAddresses map[string]string
}

type createNetworkRequest struct {
	NetworkID string
	Options   map[string]json.RawMessage
	IPv4Data  []ipamData
	IPv6Data  []ipamData
}

type networkRequest struct {
	NetworkID string
}

type endpointInterface struct {
	Address     string `json:",omitempty"`
	AddressIPv6 string `json:",omitempty"`
	MacAddress  string `json:",omitempty"`
}

type createEndpointRequest struct {
	NetworkID  string
	EndpointID string
	Interface  *endpointInterface
}

type createEndpointResponse struct {
	Interface *endpointInterface `json:",omitempty"`
}

type endpointRequest struct {
	NetworkID  string
	EndpointID string
}

type joinRequest struct {
	NetworkID  string
	EndpointID string
	SandboxKey string
}

type interfaceName struct {
	SrcName   string
	DstPrefix string
}

// joinResponse has no gateway: Docker's own docker_gwbridge then gives egress
// and published ports.
type joinResponse struct {
	InterfaceName interfaceName
}

type operInfoResponse struct {
	Value map[string]string
}
