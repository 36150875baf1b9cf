package driver

import (
	"encoding/json"

	api "github.com/docker/go-plugins-helpers/network"
)

// The messages of the remote driver protocol are those of go-plugins-helpers. This file has the
// messages that go-plugins-helpers lacks, and those of which Weft does not decode all fields.

type gwAllocCheckResponse struct {
	SkipIPv4 bool
	SkipIPv6 bool
}

// createNetworkRequest does not decode the options, so that an error can name the option that
// has a wrong value.
type createNetworkRequest struct {
	api.CreateNetworkRequest
	Options map[string]json.RawMessage
}

// createEndpointRequest and joinRequest skip the options. With 65,535 published ports these are
// 15 MB, and only docker_gwbridge needs them.
type createEndpointRequest struct {
	api.CreateEndpointRequest
	Options unread
}

type joinRequest struct {
	api.JoinRequest
	Options unread
}

// unread is a JSON value that is skipped.
type unread struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (unread) UnmarshalJSON([]byte) error { return nil }
