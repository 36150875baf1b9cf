package netmap

import (
	"net/netip"
	"reflect"
)

// Encode writes the value of a record; the identity is in the key only. It fails
// for a noun that is not what the key names or is larger than the bounds; the
// error wraps ErrMalformed.
func Encode(key Key, noun any) ([]byte, error) {
	value, _, err := encode(key, noun)
	if err != nil {
		return nil, err
	}
	return []byte(value), nil
}

// encode also returns what the value decodes to.
func encode(key Key, noun any) (value string, back any, err error) {
	if own, ok := KeyOf(noun); ok && own != key {
		return "", nil, malformed("%s under the key of %s", own, key)
	}
	raw := appendNoun(nil, noun)
	value = string(raw)
	if back, err = decode(key, raw, value); err != nil {
		return "", nil, err
	}
	if reflect.TypeOf(back) != reflect.TypeOf(noun) {
		return "", nil, malformed("a %T under the key of %s", noun, key)
	}
	return value, back, nil
}

// KeyOf finds the key of a noun, false if it is none or has no identity. A
// HostFact does not name its host: its key comes from HostFactKey.
func KeyOf(noun any) (Key, bool) {
	switch n := noun.(type) {
	case Endpoint:
		return EndpointKey(n.ID), n.ID != ""
	case EndpointName:
		return NameKey(n.Endpoint), n.Endpoint != "" && n.Name != ""
	case HostEntry:
		return HostEntryKey(n.ID), !n.ID.IsZero()
	case Network:
		return NetworkKey(n.ID), n.ID != 0
	case Subnet:
		return SubnetKey(n.Prefix), n.Prefix.IsValid()
	case Block:
		return BlockKey(n.Prefix), n.Prefix.IsValid()
	case Claim:
		return ClaimKey(n.Addr), n.Addr.IsValid()
	case Range:
		return RangeKey(n.Prefix), n.Prefix.IsValid()
	case StaticName:
		return StaticNameKey(n), n.Network != 0 && n.Check() == nil
	}
	return Key{}, false
}

func appendNoun(b []byte, noun any) []byte {
	switch n := noun.(type) {
	case HostFact:
		return appendHostFact(b, n)
	case Endpoint:
		return appendEndpoint(b, n)
	case EndpointName:
		return appendEndpointName(b, n)
	case HostEntry:
		return appendUvarint(appendBool(appendUvarint(appendString(b, n.Name), uint64(n.Index)), n.Removed), uint64(n.Level))
	case Network:
		return appendNetwork(b, n)
	case Subnet:
		return appendSubnet(b, n)
	case Block:
		return appendGrant(b, n.Subnet, n.Owner, n.Epoch)
	case Claim:
		return appendGrant(b, n.Subnet, n.Owner, n.Epoch)
	case Range:
		return appendUvarint(b, uint64(n.Order))
	}
	return b
}

func appendHostFact(b []byte, f HostFact) []byte {
	b = appendString(b, f.Name)
	b = appendAddr(b, f.Underlay.Addr())
	b = appendUvarint(b, uint64(f.Underlay.Port()))
	b = appendUvarint(b, uint64(f.MTU))
	return appendString(appendBool(appendString(b, f.Version), f.Keeper), f.Overlays)
}

// The MAC of an endpoint is not written when it is what MACOf says.
const (
	macNone, macOfV4, macOfV6, macChosen = 0, 1, 2, 3
)

func appendEndpoint(b []byte, e Endpoint) []byte {
	b = appendAddr(appendAddr(appendUvarint(b, uint64(e.Network)), e.V4), e.V6)
	switch {
	case e.MAC.IsZero():
		b = append(b, macNone)
	case e.V4.IsValid() && e.MAC == MACOf(e.V4):
		b = append(b, macOfV4)
	case e.V6.IsValid() && e.MAC == MACOf(e.V6):
		b = append(b, macOfV6)
	default:
		b = append(append(b, macChosen), e.MAC[:]...)
	}
	return b
}

func appendNetwork(b []byte, n Network) []byte {
	b = appendUvarint(appendString(b, n.Name), uint64(n.VNI))
	b = appendUvarint(b, uint64(len(n.Subnets)))
	for _, p := range n.Subnets {
		b = appendPrefix(b, p)
	}
	b = appendBool(appendBool(appendBool(appendUvarint(b, uint64(n.MTU)), n.Multicast), n.Internal), n.Retired)
	b = appendBool(b, n.Host)
	return appendDocker(append(b, n.Creator[:]...), n.Docker)
}

func appendSubnet(b []byte, s Subnet) []byte {
	b = appendAddr(appendUvarint(b, uint64(s.BlockBits)), s.Gateway)
	return appendPrefix(appendAddrs(b, s.Reserved), s.Range)
}

func appendGrant(b []byte, subnet netip.Prefix, owner HostID, epoch uint64) []byte {
	return appendUvarint(append(appendPrefix(b, subnet), owner[:]...), epoch)
}
