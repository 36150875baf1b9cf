package underlay

import (
	"fmt"
	"net/netip"
)

// MaxDatagram is the largest datagram that is sent, in bytes. What should
// survive every network stays below 1,200: longer ones are cut into fragments.
const MaxDatagram = 8 << 10

// Packets is the datagram side of a Port.
type Packets struct{ conn PacketConn }

// ReadFrom waits for one datagram. What does not fit into b is lost. After Close
// it returns an error that is net.ErrClosed. Any number of callers may wait.
func (p *Packets) ReadFrom(b []byte) (int, netip.AddrPort, error) { return p.conn.ReadFrom(b) }

// WriteTo sends one datagram; that it left is all that a nil error says. More
// than MaxDatagram bytes are refused. b may be used again at once.
func (p *Packets) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	if len(b) > MaxDatagram {
		return 0, fmt.Errorf("underlay: a datagram of %d bytes to %s is over the limit of %d", len(b), to, MaxDatagram)
	}
	return p.conn.WriteTo(b, to)
}

// LocalAddr is the address that datagrams are received on.
func (p *Packets) LocalAddr() netip.AddrPort { return p.conn.LocalAddr() }

func (p *Packets) close() error { return p.conn.Close() }
