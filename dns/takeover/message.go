package takeover

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// message is a netlink message with struct nfgenmsg, whose resource is the subsystem in
// messages about batches.
func message(kind, flags, resource uint16, attrs ...[]byte) []byte {
	body := join(attrs...)
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+4+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence number and port: one request at a time
	b = append(b, unix.AF_INET, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	return append(b, body...)
}

func nftType(kind uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

func attr(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

func nested(kind uint16, attrs ...[]byte) []byte { return attr(kind|unix.NLA_F_NESTED, join(attrs...)) }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func text(s string) []byte { return append([]byte(s), 0) }

// align rounds up to what the next attribute begins at.
func align(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
