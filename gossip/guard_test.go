package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// compound is memberlist's datagram of several messages.
func compound(messages ...string) []byte {
	b := []byte{typeCompound, byte(len(messages))}
	for _, m := range messages {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	}
	return append(b, strings.Join(messages, "")...)
}

func withCRC(b []byte) []byte { return append([]byte{typeCRC, 0, 0, 0, 0}, b...) }

func TestDatagramsThatMemberlistDoesNotSee(t *testing.T) {
	const ping, alive = "\x00ping", "\x04alive"
	bomb := string([]byte{typeCompress}) + "bomb"
	for name, b := range map[string][]byte{
		"a ping": []byte(ping), "a compound": compound(ping, alive), "with a checksum": withCRC(compound(ping, alive)),
	} {
		if err := checkMessage(b); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "compressed": []byte(bomb), "compressed with a checksum": withCRC([]byte(bomb)),
		"compressed in a compound": withCRC(compound(ping, bomb)), "a compound in a compound": compound(string(compound(bomb))),
		"encrypted": {typeEncrypt, 1}, "of a user": {typeUser, 1}, "a checksum twice": withCRC(withCRC([]byte(bomb))),
		"a compound that ends early": compound(ping, alive)[:12], "lengths that end early": {typeCompound, 9, 0},
	} {
		if checkMessage(b) == nil {
			t.Errorf("%s reaches memberlist", name)
		}
	}
	long := append([]byte{packetMagic, protocol.Written, packetMemberlist}, make([]byte, maxDatagram)...)
	if _, err := decodePacket(long); err == nil {
		t.Error("a datagram longer than any agent sends is taken")
	}
}

// exchangeHead is the beginning of an exchange as memberlist writes it.
func exchangeHead(nodes, state uint32) []byte {
	b := append([]byte{typePushPull, 0x83}, "\xa4Join\xc3\xa5Nodes\xce"...)
	b = binary.BigEndian.AppendUint32(b, nodes)
	b = append(b, "\xacUserStateLen\xce"...)
	return binary.BigEndian.AppendUint32(b, state)
}

func TestStreamsThatMemberlistDoesNotSee(t *testing.T) {
	head := exchangeHead(1<<20, 0)
	for name, c := range map[string]struct {
		sent []byte
		fine bool
	}{
		"a ping":                  {[]byte{typePing, 0x82}, true},
		"an exchange":             {append(exchangeHead(maxNodes, 600), "more"...), true},
		"an error":                {[]byte{typeError, 0x81}, true},
		"an ack":                  {[]byte{typeAck, 0x82}, true},
		"a million nodes":         {head, false},
		"much state":              {exchangeHead(3, 20<<20), false},
		"compressed":              {[]byte{typeCompress, 0x82, 0xa4, 'A', 'l', 'g', 'o'}, false},
		"encrypted":               {[]byte{typeEncrypt, 0, 0, 0, 9}, false},
		"a message of a user":     {[]byte{typeUser, 0x81}, false},
		"a label":                 {[]byte{244, 1, 'x', typePing}, false},
		"nodes declared twice":    {append(exchangeHead(3, 0)[:15], head[2:]...), false},
		"nodes as an array":       {[]byte{typePushPull, 0x93, 3, 3, 3}, false},
		"a negative number":       {append([]byte{typePushPull, 0x83}, "\xa5Nodes\xff"...), false},
		"a negative 32-bit":       {append([]byte{typePushPull, 0x83}, "\xa5Nodes\xd2\xff\xff\xff\xff"...), false},
		"a float":                 {append([]byte{typePushPull, 0x83}, "\xa5Nodes\xcb00000000"...), false},
		"a long key":              {append([]byte{typePushPull, 0x83}, 0xd9, 200), false},
		"another key":             {append([]byte{typePushPull, 0x83}, "\xa5nodes\x01"...), false},
		"half a header":           {exchangeHead(3, 0)[:9], false},
		"nothing":                 {nil, false},
		"a number of eight bytes": {append([]byte{typePushPull, 0x83}, "\xa5Nodes\xcf\x00\x00\x00\x01\x00\x00\x00\x00"...), false},
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(c.sent)
			_ = theirs.Close()
		}()
		told := 0
		got, err := io.ReadAll(newCheckedConn(ours, func(error) { told++ }))
		if c.fine && (err != nil || !bytes.Equal(got, c.sent) || told > 0) {
			t.Errorf("%s: memberlist reads % x, %v", name, got, err)
		}
		if !c.fine && len(got) > 0 {
			t.Errorf("%s: memberlist reads % x, %v", name, got, err)
		}
		_ = ours.Close()
	}
}

// inIncarnation is what memberlist's encoder writes of a host's incarnation.
func inIncarnation(n uint32) string {
	return "\xabIncarnation\xce" + string(binary.BigEndian.AppendUint32(nil, n))
}

// TestNobodyIsAccusedInTheLastIncarnations: he could not take a later one to deny it.
func TestNobodyIsAccusedInTheLastIncarnations(t *testing.T) {
	for message, fine := range map[string]bool{
		"\x03\x83" + inIncarnation(7): true, "\x05\x83" + inIncarnation(maxAccused): true, "\x04\x86" + inIncarnation(1<<32-1): true,
		"\x03\x83" + inIncarnation(1<<32-1): false, "\x05\x83" + inIncarnation(maxAccused+1): false,
	} {
		if err := checkMessage(compound("\x00ping", message)); (err == nil) != fine {
			t.Errorf("%q: %v", message, err)
		}
	}
	for node, fine := range map[string]bool{
		inIncarnation(1<<32-1) + "\xa5State\x00": true, inIncarnation(9) + "\xa5State\x02": true,
		inIncarnation(1<<32-1) + "\xa5State\x02": false, inIncarnation(9) + "\xa5State\x00" + inIncarnation(1<<31+1) + "\xa5State\x01": false,
	} {
		ours, theirs := net.Pipe()
		go func() {
			for _, b := range append(exchangeHead(2, 0), node...) { // each byte by itself
				_, _ = theirs.Write([]byte{b})
			}
			_ = theirs.Close()
		}()
		told := 0
		if _, err := io.ReadAll(newCheckedConn(ours, func(error) { told++ })); (err == nil) != fine || (told == 0) != fine {
			t.Errorf("%q: %v, told %d times", node, err, told)
		}
		_ = ours.Close()
	}
}

// endless is a stream that begins like an exchange and never ends.
type endless struct {
	net.Conn
	head io.Reader
}

func (e endless) Read(b []byte) (int, error) {
	if n, err := e.head.Read(b); n > 0 || err == nil {
		return n, err
	}
	return len(b), nil
}

func TestAnExchangeEnds(t *testing.T) {
	c := newCheckedConn(endless{head: bytes.NewReader(exchangeHead(3, 0))}, func(error) {})
	n, err := io.Copy(io.Discard, c)
	if n != maxStreamBytes || !errors.Is(err, errUnsent) {
		t.Errorf("memberlist reads %d bytes, %v", n, err)
	}
}

func FuzzCheckMessage(f *testing.F) {
	f.Add(compound("\x00ping", "\x04alive"))
	f.Add(withCRC([]byte("\x09bomb")))
	f.Add(exchangeHead(3, 600))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = checkMessage(b)
		_, err := readHead(bytes.NewReader(b))
		_ = fmt.Sprint(err)
	})
}
