package netmap

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Kind says which noun a record is about. Kinds are numbered for ever: a number
// is never reused, and a host carries kinds it does not know untouched.
type Kind uint8

// The kinds of record. Host facts, endpoints and their names are written by hosts, the others
// by the ledger alone; a View ignores a record from the wrong kind of writer.
const (
	KindHostFact   Kind = 1  // HostFact
	KindEndpoint   Kind = 2  // Endpoint
	KindHostEntry  Kind = 3  // HostEntry
	KindNetwork    Kind = 4  // Network
	KindSubnet     Kind = 5  // Subnet
	KindBlock      Kind = 6  // Block
	KindClaim      Kind = 7  // Claim
	KindRange      Kind = 8  // Range
	KindName       Kind = 9  // EndpointName
	KindStaticName Kind = 10 // StaticName
)

var kindNames = [...]string{
	KindHostFact: "host-fact", KindEndpoint: "endpoint", KindHostEntry: "host", KindNetwork: "network",
	KindSubnet: "subnet", KindBlock: "block", KindClaim: "claim", KindRange: "range", KindName: "name", KindStaticName: "static-name",
}

// String is the kind's name, or its number when this version does not know it.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "kind-" + strconv.Itoa(int(k))
}

// Decided reports whether only the ledger writes records of this kind.
func (k Kind) Decided() bool { return k >= KindHostEntry && k <= KindRange || k == KindStaticName }

// Key names one record within its origin's log: what it is about and which one.
// It is comparable. ID is made by the …Key functions: the identity in binary, or the id itself
// of an endpoint and of its name, which share the memory of it.
type Key struct {
	Kind Kind
	ID   string
}

// Change is one step of the ledger or of a host: Value is a noun of this package
// (not a pointer), or nil when the record is gone.
type Change struct {
	Key   Key
	Value any
}

// HostFactKey is the key of what a host says about itself.
func HostFactKey(id HostID) Key { return Key{KindHostFact, string(id[:])} }

// HostEntryKey is the key of the ledger's record of a host.
func HostEntryKey(id HostID) Key { return Key{KindHostEntry, string(id[:])} }

// EndpointKey is the key of an endpoint.
func EndpointKey(id EndpointID) Key { return Key{KindEndpoint, string(id)} }

// NameKey is the key of the name of an endpoint's container.
func NameKey(id EndpointID) Key { return Key{KindName, string(id)} }

// NetworkKey is the key of a network.
func NetworkKey(id NetworkID) Key { return Key{KindNetwork, string(appendUvarint(nil, uint64(id)))} }

// SubnetKey is the key of a subnet.
func SubnetKey(p netip.Prefix) Key { return Key{KindSubnet, string(appendPrefix(nil, p))} }

// BlockKey is the key of a block: the piece itself, whoever owns it.
func BlockKey(p netip.Prefix) Key { return Key{KindBlock, string(appendPrefix(nil, p))} }

// ClaimKey is the key of a claim.
func ClaimKey(a netip.Addr) Key { return Key{KindClaim, string(appendAddr(nil, a))} }

// RangeKey is the key of a range.
func RangeKey(p netip.Prefix) Key { return Key{KindRange, string(appendPrefix(nil, p))} }

// StaticNameKey is the key of a name that was added by hand: the name and its address.
func StaticNameKey(s StaticName) Key {
	return Key{KindStaticName, string(appendAddr(appendUvarint(nil, uint64(s.Network)), s.Addr)) + s.Name}
}

// Compare orders keys by kind, then by identity in binary: a total order that is
// the same on every host.
func (k Key) Compare(other Key) int {
	if c := cmp.Compare(k.Kind, other.Kind); c != 0 {
		return c
	}
	return strings.Compare(k.ID, other.ID)
}

// String is the key in an operator's words, such as "subnet 10.32.0.0/20".
func (k Key) String() string { return k.Kind.String() + " " + k.identity() }

func (k Key) identity() string {
	r := reader{b: []byte(k.ID)}
	var s string
	switch k.Kind {
	case KindHostFact, KindHostEntry:
		s = r.id().String()
	case KindEndpoint, KindName:
		return k.ID
	case KindNetwork:
		s = strconv.FormatUint(r.uvarint(), 10)
	case KindSubnet, KindBlock, KindRange:
		s = r.prefix().String()
	case KindClaim:
		s = r.addr().String()
	case KindStaticName:
		n := r.staticName()
		s = fmt.Sprintf("%s %s of network %d", n.Name, n.Addr, n.Network)
	}
	if s == "" || r.err != nil {
		return fmt.Sprintf("%x", k.ID)
	}
	return s
}

// ofEndpoint reports whether the key has the id of an endpoint.
func (k Key) ofEndpoint() bool { return k.Kind == KindEndpoint || k.Kind == KindName }

// size is what appendKey writes at most, without the kind and the length.
func (k Key) size() int {
	if k.ofEndpoint() && len(k.ID) == 64 {
		return 33
	}
	return len(k.ID) + 1
}

// appendKey writes a key. Docker's 64 hex digits take 33 bytes.
func appendKey(b []byte, k Key) []byte {
	b = append(b, byte(k.Kind))
	switch {
	case !k.ofEndpoint():
		return appendString(b, k.ID)
	case packs(k.ID):
		b = append(b, 33, 0)
		b, _ = hex.AppendDecode(b, []byte(k.ID)) // it packs
		return b
	}
	return append(append(appendUvarint(b, uint64(1+len(k.ID))), 1), k.ID...)
}

func (r *reader) key() Key {
	k := Key{Kind: Kind(r.byte())}
	id := r.bytes(MaxKeyBytes)
	if !k.ofEndpoint() {
		k.ID = string(id)
		return k
	}
	of := reader{b: id, err: r.err}
	if k.ID = string(of.endpointID()); of.err != nil {
		r.b, r.err = nil, of.err
	}
	return k
}

// packs reports whether a text is 64 lower-case hex digits.
func packs(s string) bool {
	return len(s) == 64 && !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}
