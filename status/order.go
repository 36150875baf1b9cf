package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
)

// Bounds of an order on the socket, in bytes.
const (
	maxOrder  = 4 << 10
	maxAnswer = 64 << 10
)

// Removal asks to remove a host for good.
type Removal struct {
	Host  string `json:"host"`             // its name, its id or the beginning of that
	IsOff bool   `json:"is_off,omitempty"` // the operator's word that the machine is off: its lease need not run out
}

// PeerChange names a peer to connect to or to forget.
type PeerChange struct {
	Peer string `json:"peer"` // in any form that WEFT_JOIN takes
}

// Renunciation asks that the agent's own host gives up its identity and becomes a new
// host.
type Renunciation struct {
	Force  bool `json:"force,omitempty"`   // although nothing is wrong with the identity
	DryRun bool `json:"dry_run,omitempty"` // only say what would happen
}

// Departure asks that the agent's own host leaves the cluster.
type Departure struct {
	Force bool `json:"force,omitempty"` // although containers on it have addresses
}

// Range asks for further address space that networks without --subnet come from.
type Range struct {
	Prefix netip.Prefix `json:"prefix"`
}

// NetworkRemoval asks to remove a network from all hosts.
type NetworkRemoval struct {
	Network string `json:"network"`           // its name or its number
	DryRun  bool   `json:"dry_run,omitempty"` // only say what would happen
}

// Recovery asks to go on without a majority of the ledger's keepers.
type Recovery struct {
	Off    []string `json:"off,omitempty"`     // keepers, by name or id, that are off for good: the operator's word
	DryRun bool     `json:"dry_run,omitempty"` // only say what would happen
}

// answer is how the agent answers an operator's order: one sentence of two.
type answer struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

// order answers one kind of an operator's orders.
func order[T any](carryOut func(context.Context, T) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var what T
		var out answer
		if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxOrder)).Decode(&what); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			out.Error = "the request cannot be read: " + err.Error()
		} else if text, err := carryOut(req.Context(), what); err != nil {
			w.WriteHeader(http.StatusConflict)
			out.Error = err.Error()
		} else {
			out.Text = text
		}
		_ = json.NewEncoder(w).Encode(out) // the client has gone: nothing to do
	}
}

// RemoveHost asks the agent behind a unix socket to remove a host, and answers what
// to tell the operator. The error is the agent's own sentence.
func RemoveHost(ctx context.Context, path string, r Removal) (string, error) {
	return send(ctx, path, "/hosts/remove", r)
}

// Connect asks the agent behind a unix socket to look for hosts at a peer too, and
// answers what to tell the operator. The error is the agent's own sentence.
func Connect(ctx context.Context, path string, p PeerChange) (string, error) {
	return send(ctx, path, "/peers/connect", p)
}

// Forget asks the agent behind a unix socket to look for hosts at a peer no more, and
// answers what to tell the operator. The error is the agent's own sentence.
func Forget(ctx context.Context, path string, p PeerChange) (string, error) {
	return send(ctx, path, "/peers/forget", p)
}

// NewIdentity asks the agent behind a unix socket to make its host a new one, and
// answers what to tell the operator. The error is the agent's own sentence.
func NewIdentity(ctx context.Context, path string, r Renunciation) (string, error) {
	return send(ctx, path, "/host/new-identity", r)
}

// AddRange asks the agent behind a unix socket for further address space, and
// answers what to tell the operator. The error is the agent's own sentence.
func AddRange(ctx context.Context, path string, r Range) (string, error) {
	return send(ctx, path, "/ranges/add", r)
}

// RemoveNetwork asks the agent behind a unix socket to remove a network from all hosts,
// and answers what to tell the operator. The error is the agent's own sentence.
func RemoveNetwork(ctx context.Context, path string, r NetworkRemoval) (string, error) {
	return send(ctx, path, "/networks/remove", r)
}

// Leave asks the agent behind a unix socket to take its host out of the cluster. The
// error is the agent's own sentence.
func Leave(ctx context.Context, path string, d Departure) (string, error) {
	return send(ctx, path, "/host/leave", d)
}

// RecoverLedger asks the agent behind a unix socket to go on without a majority of
// the ledger's keepers. The error is the agent's own sentence.
func RecoverLedger(ctx context.Context, path string, r Recovery) (string, error) {
	return send(ctx, path, "/ledger/recover", r)
}

func send(ctx context.Context, path, route string, what any) (string, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return "", fmt.Errorf("status: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weft"+route, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("status: %w", err)
	}
	resp, err := do(path, req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var got answer
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxAnswer)).Decode(&got); err != nil {
		return "", fmt.Errorf("status: the agent's answer (%s) cannot be read; is it of another release? %w", resp.Status, err)
	}
	if got.Error != "" {
		return "", errors.New(got.Error)
	}
	return got.Text, nil
}
