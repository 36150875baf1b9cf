package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/weftnet/weft/netmap"
)

// Bounds of what is decoded, in bytes.
const (
	MaxCommand = 4 << 20 // what a host with thousands of networks declares to a recovered ledger
	MaxReply   = 1 << 20
)

// ErrNewer is wrapped by decoders that meet a feature level or kind of a newer release.
var ErrNewer = errors.New("written by a newer release of weft")

// ErrMalformed is wrapped by decoders of what no release wrote.
var ErrMalformed = errors.New("malformed")

type versioned[T any] struct {
	Level int `json:"v"` // the first feature level that reads it
	Body  *T  `json:"body"`
}

// Encode writes any of this package's values with the first feature level that knows all
// fields that are set.
func Encode[T any](value T) ([]byte, error) { return encode(value, sinceOf(reflect.ValueOf(value))) }

func encode[T any](value T, level int) ([]byte, error) {
	b, err := json.Marshal(versioned[T]{level, &value})
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
		Level int `json:"v"`
	}
	if err := json.Unmarshal(b, &head); err != nil || head.Level < 1 {
		return zero, fmt.Errorf("ledger: %T without a feature level: %w", zero, ErrMalformed)
	}
	if head.Level > Level {
		return zero, fmt.Errorf("ledger: %T of feature level %d, this release knows %d: %w", zero, head.Level, Level, ErrNewer)
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
func EncodeCommand(c Command) ([]byte, error) { return encode(c, c.Since()) }

// DecodeCommand reads a command and checks that its kind is known and has its
// arguments. The error wraps ErrNewer for kinds and levels of later releases.
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
	rule, known := kinds[c.Kind]
	switch {
	case !known:
		return fmt.Errorf("ledger: command %q: %w", c.Kind, ErrNewer)
	case rule.has != nil && !rule.has(c):
		return netmap.Refuse(netmap.BadInput, "command %s comes without its arguments", c.Kind)
	case max(c.Start, c.Known) > netmap.MaxCounter:
		return netmap.Refuse(netmap.BadInput, "command %s is of start %d and generation %d, which no host reaches; look at who sends it", c.Kind, c.Start, c.Known)
	case c.Host.IsZero():
		return netmap.Refuse(netmap.BadInput, "command %s does not say which host asks", c.Kind)
	}
	return nil
}
