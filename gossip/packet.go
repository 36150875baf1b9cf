package gossip

import (
	"fmt"

	"github.com/weftnet/weft/netmap"
)

// Every datagram begins with a magic byte, the version of protocol and a type.
const (
	packetMagic = 0xf7

	packetMemberlist = 'm' // memberlist's own bytes follow
	packetBatch      = 'b' // cluster, batch
	packetHeads      = 'h' // cluster, sender, heads
	packetDigest     = 'd' // cluster, sender, want an answer (0 or 1), digest
)

// maxPacket bounds a datagram of ours so that it survives ordinary networks
// without being cut into fragments. memberlist's are as large at most, without the
// head and its checksum. Longer ones are refused: they would be held by the thousand.
const (
	maxPacket   = 1300
	maxDatagram = maxPacket + 3 + 5
	packetHead  = 3 + 16
	maxHeads    = (maxPacket - packetHead - 16 - 5) / netmap.MaxHeadBytes
)

// packet is a datagram taken apart: Body belongs to the type.
type packet struct {
	Type    byte
	Cluster netmap.ClusterID // zero for memberlist's
	Body    []byte
}

func encodePacket(kind byte, cluster netmap.ClusterID, room int) []byte {
	b := append(make([]byte, 0, packetHead+room), packetMagic, protocol.Written, kind)
	return append(b, cluster[:]...)
}

func decodePacket(b []byte) (packet, error) {
	if len(b) < 3 || b[0] != packetMagic {
		return packet{}, fmt.Errorf("gossip: a datagram of %d bytes that no Weft agent sends: %w", len(b), netmap.ErrMalformed)
	}
	if len(b) > maxDatagram {
		return packet{}, fmt.Errorf("gossip: a datagram of more than %d bytes: %w", maxDatagram, netmap.ErrMalformed)
	}
	if !protocol.Reads(b[1]) {
		return packet{}, fmt.Errorf("gossip: a datagram of version %d, this agent reads %s: %w", b[1], protocol, netmap.ErrMalformed)
	}
	p := packet{Type: b[2], Body: b[3:]}
	if p.Type == packetMemberlist {
		return p, nil
	}
	if len(p.Body) < len(p.Cluster) {
		return packet{}, fmt.Errorf("gossip: a datagram of %d bytes ends early: %w", len(b), netmap.ErrMalformed)
	}
	copy(p.Cluster[:], p.Body)
	p.Body = p.Body[len(p.Cluster):]
	return p, nil
}

// digestNote is a digest and whose it is; it also rides in memberlist's own
// exchanges.
type digestNote struct {
	Cluster netmap.ClusterID
	From    netmap.HostID
	Answer  bool // the sender would like to see the receiver's
	Digest  netmap.Digest
}

// body is the note without its cluster.
func (d digestNote) body() []byte {
	b := append(make([]byte, 0, 17+512), d.From[:]...)
	if d.Answer {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return netmap.AppendDigest(b, d.Digest)
}

func decodeDigestNote(cluster netmap.ClusterID, b []byte) (digestNote, error) {
	if len(b) < 17 {
		return digestNote{}, fmt.Errorf("gossip: a digest of %d bytes: %w", len(b), netmap.ErrMalformed)
	}
	d := digestNote{Cluster: cluster, From: netmap.HostID(b[:16]), Answer: b[16] == 1}
	var err error
	d.Digest, err = netmap.DecodeDigest(b[17:])
	return d, err
}
