package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/weftnet/weft/netmap"
)

// memberlist allocates what a message declares before the bytes arrive, and unpacks
// compressed messages though compression is switched off. So what no agent sends is
// refused before memberlist sees it.

// The types of memberlist's messages that are looked at here.
const (
	typePing     byte = 0
	typeAck      byte = 2
	typeSuspect  byte = 3
	typeDead     byte = 5
	typePushPull byte = 6
	typeCompound byte = 7
	typeUser     byte = 8
	typeCompress byte = 9
	typeEncrypt  byte = 10
	typeCRC      byte = 12
	typeError    byte = 13
)

// Limits of one exchange of memberlist's. A node takes some 130 bytes on the wire and as
// many in memory.
const (
	maxNodes       = 8192    // that an exchange declares
	maxUserState   = 4 << 10 // bytes; a digest takes some 600
	maxStreamBytes = 2 << 20 // of a whole exchange
)

// errUnsent means that no agent sends such a message.
var errUnsent = errors.New("not a message that an agent sends")

// checkMessage checks one of memberlist's datagrams.
func checkMessage(b []byte) error {
	if len(b) > 5 && b[0] == typeCRC {
		b = b[5:]
	}
	if len(b) > 2 && b[0] == typeCompound {
		return checkParts(b[2:], int(b[1]))
	}
	return checkType(b)
}

// checkParts checks a compound message: the lengths, then each message.
func checkParts(b []byte, n int) error {
	if len(b) < 2*n {
		return fmt.Errorf("gossip: a compound of %d bytes for %d messages: %w", len(b), n, netmap.ErrMalformed)
	}
	lengths, rest := b[:2*n], b[2*n:]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		size := int(binary.BigEndian.Uint16(lengths))
		if size > len(rest) {
			return fmt.Errorf("gossip: a compound ends within a message: %w", netmap.ErrMalformed)
		}
		if err := checkType(rest[:size]); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

func checkType(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("gossip: an empty message of memberlist's: %w", netmap.ErrMalformed)
	}
	switch b[0] {
	case typePushPull, typeCompound, typeUser, typeCompress, typeEncrypt, typeCRC:
		return fmt.Errorf("gossip: memberlist's message of type %d: %w", b[0], errUnsent)
	case typeSuspect, typeDead:
		if n, _, found := incarnation(b); found && n > maxAccused {
			return fmt.Errorf("gossip: a host is said to be dead in its incarnation %d: %w", n, errUnsent)
		}
	}
	return nil
}

// maxAccused is the highest incarnation that a host may be called suspect or dead in. A host
// that is takes the next one and says so; of 32 bits, the next of the last is 0, which nobody
// would believe.
const maxAccused = 1 << 31

// incarnation finds the next incarnation in a message of memberlist's, and what follows it.
func incarnation(b []byte) (n uint64, rest []byte, found bool) {
	const key = "\xabIncarnation" // a string of MessagePack
	_, rest, found = bytes.Cut(b, []byte(key))
	if !found {
		return 0, nil, false
	}
	in := bytes.NewReader(rest)
	n, err := readNumber(in)
	return n, rest[len(rest)-in.Len():], err == nil
}

// accuses reports whether a part of an exchange calls a host suspect or dead in an
// incarnation above maxAccused: memberlist's encoder writes the state of a node next.
func accuses(b []byte) bool {
	for {
		n, rest, found := incarnation(b)
		if !found {
			return false
		}
		b = rest
		if state, is := bytes.CutPrefix(rest, []byte("\xa5State")); is && len(state) > 0 && state[0] != 0 && n > maxAccused {
			return true
		}
	}
}

// nodeBytes is the most that an incarnation and the state after it take in an exchange.
const nodeBytes = len("\xabIncarnation") + 9 + len("\xa5State") + 1

// checkedConn is a stream of memberlist's whose first bytes are looked at before
// memberlist reads them, and which ends after maxStreamBytes.
type checkedConn struct {
	net.Conn
	head    []byte // read here, not by memberlist yet
	left    int    // bytes until the limit
	checked bool
	err     error  // why it is refused
	tail    []byte // the last bytes that were read, for what lies on both sides of a border
	refused func(error)
}

func newCheckedConn(conn net.Conn, refused func(error)) *checkedConn {
	return &checkedConn{Conn: conn, left: maxStreamBytes, refused: refused}
}

// Read implements net.Conn. Only one goroutine reads a stream of memberlist's.
func (c *checkedConn) Read(b []byte) (int, error) {
	if !c.checked {
		c.checked = true
		c.head, c.err = readHead(c.Conn)
		if errors.Is(c.err, errUnsent) {
			c.refused(c.err)
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		return 0, fmt.Errorf("gossip: a stream of more than %d bytes: %w", maxStreamBytes, errUnsent)
	}
	b = b[:min(len(b), c.left)]
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		c.left -= n
		return n, nil
	}
	n, err := c.Conn.Read(b)
	c.left -= n
	c.tail = append(c.tail, b[:n]...)
	if accuses(c.tail) {
		c.err = fmt.Errorf("gossip: an exchange that calls a host dead in an incarnation above %d: %w", maxAccused, errUnsent)
		c.refused(c.err)
		return 0, c.err
	}
	c.tail = append(c.tail[:0], c.tail[max(0, len(c.tail)-nodeBytes):]...)
	return n, err
}

// readHead reads a message's type and, of an exchange, its header: MessagePack's map of
// three, as memberlist's encoder writes it. It returns the bytes that it read.
func readHead(r io.Reader) ([]byte, error) {
	var seen bytes.Buffer
	in := io.TeeReader(r, &seen)
	kind, err := readByte(in)
	if err != nil {
		return nil, err
	}
	switch kind {
	case typePing, typeAck, typeError: // an ack answers a ping whose datagrams were lost
		return seen.Bytes(), nil
	case typePushPull:
		err = readPushPull(in)
		return seen.Bytes(), err
	}
	return nil, fmt.Errorf("a stream with a message of type %d: %w", kind, errUnsent)
}

func readByte(r io.Reader) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

func readPushPull(r io.Reader) error {
	if b, err := readByte(r); err != nil || b != 0x83 {
		return errors.Join(err, errUnsent)
	}
	limits := map[string]uint64{"Nodes": maxNodes, "UserStateLen": maxUserState, "Join": 1}
	for len(limits) > 0 {
		key, err := readKey(r)
		if err != nil {
			return err
		}
		value, err := readNumber(r)
		if err != nil {
			return err
		}
		limit, known := limits[key]
		if !known || value > limit {
			return fmt.Errorf("an exchange with %q of %d, limit %d: %w", key, value, limit, errUnsent)
		}
		delete(limits, key)
	}
	return nil
}

// readKey reads a short string.
func readKey(r io.Reader) (string, error) {
	head, err := readByte(r)
	if err != nil || head&0xe0 != 0xa0 {
		return "", errors.Join(err, errUnsent)
	}
	b := make([]byte, head&0x1f)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

// readNumber reads a number that is not negative, or a truth as 0 or 1.
func readNumber(r io.Reader) (uint64, error) {
	head, err := readByte(r)
	if err != nil {
		return 0, err
	}
	var size int
	switch {
	case head < 0x80:
		return uint64(head), nil
	case head == 0xc2, head == 0xc3:
		return uint64(head & 1), nil
	case head >= 0xcc && head <= 0xcf: // unsigned, of 1, 2, 4 or 8 bytes
		size = 1 << (head - 0xcc)
	case head >= 0xd0 && head <= 0xd3: // signed; a negative one is larger than every limit
		size = 1 << (head - 0xd0)
	default:
		return 0, errUnsent
	}
	var b [8]byte
	if _, err := io.ReadFull(r, b[8-size:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint64(b[:])
	if head >= 0xd0 && size < 8 && n>>(8*size-1) == 1 {
		return 0, errUnsent
	}
	return n, nil
}
