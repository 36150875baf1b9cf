package underlay

import (
	"fmt"

	"github.com/weftnet/weft/netmap"
)

// Kinds of stream. A kind is the fourth byte of the preface.
const (
	KindGossip  byte = 'g' // memberlist's push/pull and reliable messages
	KindLedger  byte = 'l' // raft
	KindRequest byte = 'r' // host-to-host requests, served by the Port itself
)

// The preface opens every stream: two bytes of magic, a version, the kind.
// memberlist's own streams begin with a message type (0 to 13) or 244 for a
// label, HTTP and TLS with other bytes than these two. So the first byte tells whether a peer
// runs Weft.
const prefaceLen = 4

// protocol has the versions of the preface.
var protocol = netmap.Forms{Oldest: 1, Written: 1, Newest: 1}

type preface [prefaceLen]byte

func prefaceOf(kind byte) preface { return preface{'W', 0xf7, protocol.Written, kind} }

// kind reads a preface that came from outside.
func (p preface) kind() (byte, error) {
	if p[0] != 'W' || p[1] != 0xf7 {
		return 0, fmt.Errorf("begins with % x, which no Weft agent sends", p[:])
	}
	if !protocol.Reads(p[2]) {
		return 0, fmt.Errorf("speaks version %d of the underlay protocol, this agent reads %s", p[2], protocol)
	}
	return p[3], nil
}
