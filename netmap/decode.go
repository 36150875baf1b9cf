package netmap

import (
	"math"
	"net/netip"
)

// maxMTU bounds an MTU and a prefix length in records; no device has more.
const maxMTU = 1 << 20

// MaxLevel bounds a feature level: no cluster comes so far.
const MaxLevel = 1 << 16

// maxRanges bounds the order of a range.
const maxRanges = 1 << 20

// Decode reads the value of a record. A kind that this version does not know
// gives nil and no error: the record is carried as it is. Bytes after the last
// known field are left alone, so that a newer version may add fields. The error
// wraps ErrMalformed.
func Decode(key Key, value []byte) (any, error) { return decode(key, value, string(value)) }

// decode gets the value as bytes and as a text, whose memory the strings of the result share.
func decode(key Key, value []byte, text string) (any, error) {
	if len(key.ID) > MaxKeyBytes || len(value) > MaxValueBytes {
		return nil, malformed("a record with a key of %d and a value of %d bytes", len(key.ID), len(value))
	}
	v := reader{b: value, text: text}
	if key.ofEndpoint() {
		return decodeOf(key, &v)
	}
	id := reader{b: []byte(key.ID)}
	noun := decodeNoun(key.Kind, &id, &v)
	if noun == nil {
		return nil, nil
	}
	if len(id.b) > 0 {
		id.fail("%d bytes after the identity", len(id.b))
	}
	for _, err := range []error{id.err, v.err} {
		if err != nil {
			return nil, err
		}
	}
	if again, ok := KeyOf(noun); key.Kind != KindHostFact && (!ok || again != key) {
		return nil, malformed("%s is not written as its identity", key)
	}
	return noun, nil
}

// decodeOf decodes what is known of an endpoint.
func decodeOf(key Key, v *reader) (noun any, err error) {
	if key.ID == "" {
		return nil, malformed("a record of an endpoint without an id")
	}
	if key.Kind == KindEndpoint {
		noun = v.endpoint(EndpointID(key.ID))
	} else {
		name := v.endpointName(EndpointID(key.ID))
		if noun = name; name.Name == "" && v.err == nil {
			v.fail("%s is empty", key)
		}
	}
	if v.err != nil {
		return nil, v.err
	}
	return noun, nil
}

func decodeNoun(kind Kind, id, v *reader) any {
	switch kind {
	case KindHostFact:
		id.id()
		return v.hostFact()
	case KindHostEntry:
		return HostEntry{ID: id.id(), Name: v.name(), Index: uint32(v.number(math.MaxUint32)), Removed: v.bool(), Level: v.count(MaxLevel)}
	case KindNetwork:
		return v.network(NetworkID(id.uvarint()))
	case KindSubnet:
		return v.subnet(id.prefix())
	case KindBlock:
		subnet, owner, epoch := v.grant()
		return Block{Prefix: id.prefix(), Subnet: subnet, Owner: owner, Epoch: epoch}
	case KindClaim:
		subnet, owner, epoch := v.grant()
		return Claim{Addr: id.addr(), Subnet: subnet, Owner: owner, Epoch: epoch}
	case KindRange:
		return v.addressRange(id.prefix())
	case KindStaticName:
		return id.staticName()
	}
	return nil
}

func (r *reader) hostFact() HostFact {
	f := HostFact{Name: r.name()}
	addr, port := r.addr(), uint16(r.number(math.MaxUint16))
	if addr.IsValid() {
		f.Underlay = netip.AddrPortFrom(addr, port)
	}
	f.MTU = r.count(maxMTU)
	f.Version, f.Keeper = r.name(), r.bool()
	if len(r.b) > 0 { // an older release writes nothing here
		f.Overlays = r.name()
	}
	return f
}

func (r *reader) endpoint(id EndpointID) Endpoint {
	e := Endpoint{ID: id, Network: NetworkID(r.uvarint()), V4: r.addr(), V6: r.addr()}
	if e.V4.IsValid() && !e.V4.Is4() || e.V6.IsValid() && !e.V6.Is6() {
		r.fail("%s and %s are not an IPv4 and an IPv6 address", e.V4, e.V6)
	}
	switch form := r.byte(); {
	case form == macNone:
	case form == macOfV4 && e.V4.IsValid():
		e.MAC = MACOf(e.V4)
	case form == macOfV6 && e.V6.IsValid():
		e.MAC = MACOf(e.V6)
	case form == macChosen:
		copy(e.MAC[:], r.take(len(e.MAC)))
	default:
		r.fail("form %d of a MAC", form)
	}
	return e
}

func (r *reader) network(id NetworkID) Network {
	n := Network{ID: id, Name: r.name(), VNI: VNI(r.number(1<<24 - 1))}
	for range r.count(maxList) {
		n.Subnets = append(n.Subnets, r.prefix())
	}
	n.MTU, n.Multicast, n.Internal, n.Retired, n.Host = r.count(maxMTU), r.bool(), r.bool(), r.bool(), r.bool()
	n.Creator, n.Docker = r.id(), r.docker()
	return n
}

func (r *reader) subnet(p netip.Prefix) Subnet {
	return Subnet{Prefix: p, BlockBits: r.count(128), Gateway: r.addr(), Reserved: r.addrs(), Range: r.prefix()}
}

// addressRange has no order where an older version wrote it.
func (r *reader) addressRange(p netip.Prefix) Range {
	out := Range{Prefix: p}
	if len(r.b) > 0 {
		out.Order = r.count(maxRanges)
	}
	return out
}

// staticName reads what is in the key alone.
func (r *reader) staticName() StaticName {
	return StaticName{Network: NetworkID(r.uvarint()), Addr: r.addr(), Name: string(r.take(len(r.b)))}
}

func (r *reader) grant() (subnet netip.Prefix, owner HostID, epoch uint64) {
	return r.prefix(), r.id(), r.uvarint()
}
