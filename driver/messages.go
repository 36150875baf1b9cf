package driver

import (
	"encoding/json"

	api "github.com/docker/go-plugins-helpers/network"
)

// The messages of the remote driver protocol are those of go-plugins-helpers. Here is
// what Docker says more, and where Weft reads less.

type gwAllocCheckResponse struct {
	SkipIPv4 bool
	SkipIPv6 bool
}

// createNetworkRequest leaves the options as they came: their errors name what was wrong
// with which one.
type createNetworkRequest struct {
	api.CreateNetworkRequest
	Options map[string]json.RawMessage
}

// createEndpointRequest and joinRequest have no options: with 65,535 published ports
// those are 15 MB, which docker_gwbridge is to read, not Weft.
type createEndpointRequest struct {
	api.CreateEndpointRequest
	Options unread
}

type joinRequest struct {
	api.JoinRequest
	Options unread
}

// unread is a JSON value that is passed over.
type unread struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (unread) UnmarshalJSON([]byte) error { return nil }
