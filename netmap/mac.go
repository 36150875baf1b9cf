package netmap

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
)

// MAC is an Ethernet address as a comparable value.
type MAC [6]byte

// MACOf derives the MAC of an address: 02:57 and the four bytes of an IPv4
// address, 06 and a 40-bit hash of an IPv6 address. An address that moves keeps
// its MAC, so no neighbour entry anywhere can be stale (DESIGN §4).
func MACOf(addr netip.Addr) MAC {
	addr = addr.Unmap()
	if addr.Is4() {
		b := addr.As4()
		return MAC{0x02, 0x57, b[0], b[1], b[2], b[3]}
	}
	b := addr.As16()
	h := fnv.New64a()
	_, _ = h.Write(b[:]) // never fails (hash.Hash)
	s := h.Sum64()
	return MAC{0x06, byte(s >> 32), byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
}

// ParseMAC reads a unicast Ethernet address in any form net.ParseMAC takes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, fmt.Errorf("MAC %q: want six bytes such as 02:57:0a:20:00:02", s)
	}
	if hw[0]&1 == 1 {
		return MAC{}, fmt.Errorf("MAC %q: is a group address, want a unicast one", s)
	}
	return MAC(hw), nil
}

// String is the usual colon form; empty for the zero MAC.
func (m MAC) String() string {
	if m.IsZero() {
		return ""
	}
	return m.HardwareAddr().String()
}

// HardwareAddr is the same as net.HardwareAddr, a fresh slice.
func (m MAC) HardwareAddr() net.HardwareAddr { return net.HardwareAddr(m[:]) }

// IsZero reports whether there is none.
func (m MAC) IsZero() bool { return m == MAC{} }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	got, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = got
	return nil
}
