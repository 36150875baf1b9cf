package netmap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
)

// ID is a random 128-bit identity, made once and kept on disk; never derived
// from a hostname, a MAC or a machine id, because clones share those. The zero
// ID means "none".
type ID [16]byte

// HostID names one host (DESIGN §1).
type HostID = ID

// ClusterID names a cluster, the one that a host belongs to.
type ClusterID = ID

// NetworkID names a network cluster-wide: the raft index of the decision that
// created it, so it is never used twice. 0 means "none".
type NetworkID uint64

// EndpointID is Docker's own endpoint id (64 hex digits), unique per attachment.
type EndpointID string

// VNI is a VXLAN network identifier, 24 bits (RFC 7348 §5).
type VNI uint32

// FirstVNI is the lowest VNI that Weft hands out, above those of Docker's
// overlay (4096…) and of most hand-made VXLANs.
const FirstVNI VNI = 0x100000

// ErrBadID is wrapped by ParseID for anything but 32 hex digits.
var ErrBadID = errors.New("not 32 hex digits")

// ParseID reads the form that String prints.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("id %q: %w", s, ErrBadID)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("id %q: %w", s, ErrBadID)
	}
	return id, nil
}

// String is the id as 32 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short is the first 8 hex digits, for logs and tables.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// Compare orders ids by their bytes.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// IsZero reports whether the id is "none".
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements encoding.TextMarshaler, also for JSON map keys.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	got, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = got
	return nil
}
