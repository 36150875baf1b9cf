package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weftnet/weft/netmap"
)

// Version is the newest form of commands and snapshots that this release writes
// and reads. A log with newer entries must not be applied in part: the keeper
// stops instead.
const Version = 1

// Bounds of what is decoded, in bytes.
const (
	MaxCommand = 4 << 20 // what a host with thousands of networks declares to a recovered ledger
	MaxReply   = 1 << 20
)

// ErrNewer is wrapped by decoders that meet a version or kind of a newer release.
var ErrNewer = errors.New("written by a newer release of weft")

// ErrMalformed is wrapped by decoders of what no release wrote.
var ErrMalformed = errors.New("malformed")

type versioned[T any] struct {
	Version int `json:"v"`
	Body    *T  `json:"body"`
}

// Encode writes any of this package's values with the version before it.
func Encode[T any](value T) ([]byte, error) {
	b, err := json.Marshal(versioned[T]{Version, &value})
	if err != nil {
		return nil, fmt.Errorf("ledger: encode %T: %w", value, err)
	}
	return b, nil
}

// Decode reads what Encode wrote. Fields it does not know make it fail: they
// would be lost in the state of this host and not in that of others.
func Decode[T any](b []byte, limit int) (T, error) {
	var zero T
	if len(b) > limit {
		return zero, fmt.Errorf("ledger: %T of %d bytes, limit %d: %w", zero, len(b), limit, ErrMalformed)
	}
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(b, &head); err != nil || head.Version < 1 {
		return zero, fmt.Errorf("ledger: %T without a version: %w", zero, ErrMalformed)
	}
	if head.Version > Version {
		return zero, fmt.Errorf("ledger: %T of version %d, this release knows %d: %w", zero, head.Version, Version, ErrNewer)
	}
	var got versioned[T]
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || got.Body == nil || d.More() {
		return zero, fmt.Errorf("ledger: %T: %w: %w", zero, ErrMalformed, err)
	}
	return *got.Body, nil
}

// EncodeCommand writes a command for the log and the wire.
func EncodeCommand(c Command) ([]byte, error) { return Encode(c) }

// DecodeCommand reads a command and checks that its kind is known and has its
// arguments. The error wraps ErrNewer for kinds and versions of later releases.
func DecodeCommand(b []byte) (Command, error) {
	c, err := Decode[Command](b, MaxCommand)
	if err != nil {
		return Command{}, err
	}
	return c, c.Check()
}

// EncodeReply writes a reply for the wire.
func EncodeReply(r Reply) ([]byte, error) { return Encode(r) }

// DecodeReply reads a reply.
func DecodeReply(b []byte) (Reply, error) { return Decode[Reply](b, MaxReply) }

// Check fails for a command that no release would apply.
func (c Command) Check() error {
	present, known := c.arguments()
	switch {
	case !known:
		return fmt.Errorf("ledger: command %q: %w", c.Kind, ErrNewer)
	case !present:
		return netmap.Refuse(netmap.BadInput, "command %s comes without its arguments", c.Kind)
	case max(c.Start, c.Known) > netmap.MaxCounter:
		return netmap.Refuse(netmap.BadInput, "command %s is of start %d and generation %d, which no host reaches; look at who sends it", c.Kind, c.Start, c.Known)
	case c.Host.IsZero():
		return netmap.Refuse(netmap.BadInput, "command %s does not say which host asks", c.Kind)
	}
	return nil
}

// arguments reports whether the command has those of its kind, and whether the
// kind is known.
func (c Command) arguments() (present, known bool) {
	has := map[Kind]bool{
		KindFound: c.Found != nil, KindAdmit: c.Admit != nil, KindRenew: true, KindRemove: c.Remove != nil,
		KindAddRange: c.AddRange != nil, KindEnsureSubnet: c.EnsureSubnet != nil, KindUseSubnets: c.UseSubnets != nil,
		KindReserve: c.Reserve != nil, KindGrantBlock: c.GrantBlock != nil, KindReturnBlock: c.ReturnBlock != nil,
		KindClaim: c.Claim != nil, KindCede: c.Cede != nil, KindUnclaim: c.Unclaim != nil,
		KindEnsureNetwork: c.EnsureNetwork != nil, KindNameNetwork: c.NameNetwork != nil,
		KindRetireNetwork: c.RetireNetwork != nil, KindLeaveNetwork: c.LeaveNetwork != nil,
		KindDeclareHoldings: c.DeclareHoldings != nil, KindLeave: true,
	}
	present, known = has[c.Kind]
	return present, known
}
