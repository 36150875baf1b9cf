package gossip

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/weftnet/weft/netmap"
)

// protocol has the versions of what this package says to other hosts: identities,
// datagrams, digests and requests. Hosts that cannot read each other refuse each other.
var protocol = netmap.Forms{Oldest: 2, Written: 2, Newest: 2}

// maxMeta keeps what memberlist repeats in every message about a host small.
const maxMeta = 63

const metaHead = 1 + 1 + 16 + 16 + 8 + 8

// meta is what memberlist spreads about a host.
type meta struct {
	Host    netmap.HostID
	Cluster netmap.ClusterID
	Start   uint64
	Nonce   uint64
	Keeper  bool
	Name    string // as much of it as fits, for messages about hosts without facts
}

func (m meta) encode() []byte {
	b := append(make([]byte, 0, maxMeta), protocol.Written, 0)
	if m.Keeper {
		b[1] = 1
	}
	b = append(append(b, m.Host[:]...), m.Cluster[:]...)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, m.Start), m.Nonce)
	return append(b, m.Name[:min(len(m.Name), maxMeta-metaHead)]...)
}

// decodeMeta reads what encode wrote, in any later version too as far as the
// protocol number.
func decodeMeta(b []byte) (meta, error) {
	if len(b) < 1 {
		return meta{}, fmt.Errorf("gossip: a host without identity: %w", netmap.ErrMalformed)
	}
	if !protocol.Reads(b[0]) {
		return meta{}, &protocolError{theirs: b[0]}
	}
	if len(b) < metaHead || len(b) > maxMeta || b[1] > 1 {
		return meta{}, fmt.Errorf("gossip: an identity of %d bytes: %w", len(b), netmap.ErrMalformed)
	}
	m := meta{Keeper: b[1] == 1, Host: netmap.HostID(b[2:18]), Cluster: netmap.ClusterID(b[18:34])}
	m.Start, m.Nonce, m.Name = binary.BigEndian.Uint64(b[34:]), binary.BigEndian.Uint64(b[42:]), printable(b[metaHead:])
	if m.Host.IsZero() || m.Start == 0 || m.Start > netmap.MaxCounter {
		return meta{}, fmt.Errorf("gossip: an identity of zeros, or of start %d: %w", m.Start, netmap.ErrMalformed)
	}
	return m, nil
}

type protocolError struct{ theirs byte }

// Error implements error.
func (e *protocolError) Error() string {
	return fmt.Sprintf("speaks version %d of the gossip protocol, this agent reads %s; install the newer of the two releases on both", e.theirs, protocol)
}

// printable replaces what could harm a terminal or a log in a name from outside.
func printable(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c >= ' ' && c < 0x7f {
			out = append(out, c)
		}
	}
	return string(out)
}

// nodeName is the name that memberlist knows a start of a host by: another one
// for each start, so that a restart is a new member at once.
func nodeName(host netmap.HostID, nonce uint64) string {
	return host.String()[:12] + "-" + hex.EncodeToString(binary.BigEndian.AppendUint64(nil, nonce))[:6]
}
