package netmap

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what one record may hold. Whatever is larger is refused when it is
// encoded and when it is decoded, so no peer can make a host hold more.
const (
	MaxKeyBytes   = 160      // identity in binary
	MaxValueBytes = 48 << 10 // one encoded noun
	maxString     = 4 << 10  // one name, option or value, bytes
	maxList       = 512      // options, labels, reserved addresses or subnets
)

// ErrMalformed is wrapped by every decoder of this package: the bytes are not
// what they claim to be.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("netmap: %w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func appendUvarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendString(b []byte, s string) []byte { return append(appendUvarint(b, uint64(len(s))), s...) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendAddr writes a length (0 for the zero address, 4 or 16) and the bytes.
// Zones are local to a host and never travel.
func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.Unmap().WithZone("").AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	if !p.IsValid() {
		return append(b, 0)
	}
	return append(appendAddr(b, p.Addr()), byte(p.Bits()))
}

// reader takes a buffer apart. The first error sticks and every later read
// answers the zero value, so that callers check once at the end.
type reader struct {
	b   []byte
	err error
	// text is the whole buffer once more, if its strings are to share its memory.
	text string
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(format, args...)
	}
	r.b = nil
}

// take returns the next n bytes, still part of the buffer, or nil.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("want %d more bytes, have %d", n, len(r.b))
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) bool() bool {
	b := r.byte()
	if b > 1 {
		r.fail("%d is not a yes or no", b)
	}
	return b == 1
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("not a number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// number reads a number of at most limit.
func (r *reader) number(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail("%d is more than %d", v, limit)
		return 0
	}
	return v
}

func (r *reader) count(limit int) int { return int(r.number(uint64(limit))) }

func (r *reader) bytes(limit int) []byte { return r.take(r.count(limit)) }

func (r *reader) string() string {
	b := r.bytes(maxString)
	if r.text == "" {
		return string(b)
	}
	end := len(r.text) - len(r.b)
	return r.text[end-len(b) : end]
}

// MaxCounter bounds sequence numbers, start numbers and generations of other hosts, so
// that one more never overflows nor exceeds it for good.
const MaxCounter = 1 << 62

func (r *reader) counter() uint64 { return r.number(MaxCounter) }

// name reads a string that people see: one that a terminal would carry out is refused.
func (r *reader) name() string {
	s := r.string()
	if !printable(s) {
		r.fail("a name of %q", s)
		return ""
	}
	return s
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func (r *reader) id() ID {
	var id ID
	copy(id[:], r.take(len(id)))
	return id
}

func (r *reader) addr() netip.Addr {
	n := r.byte()
	if n == 0 {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(r.take(int(n)))
	if !ok || a.Is4In6() {
		r.fail("an address of %d bytes", n)
		return netip.Addr{}
	}
	return a
}

func (r *reader) prefix() netip.Prefix {
	a := r.addr()
	if !a.IsValid() {
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(a, int(r.byte()))
	if !p.IsValid() || p != p.Masked() {
		r.fail("prefix %s/… has bits outside its mask or a length it cannot have", a)
		return netip.Prefix{}
	}
	return p
}

func (r *reader) endpointID() EndpointID {
	rest := r.b
	switch form := r.byte(); {
	case form == 0 && len(rest) == 33:
		return EndpointID(hex.EncodeToString(r.take(32)))
	case form == 1:
		id := string(r.take(len(r.b)))
		if !packs(id) && id != "" {
			return EndpointID(id)
		}
	}
	r.fail("endpoint id of %d bytes", len(rest))
	return ""
}
