package underlay

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/weftnet/weft/secret"
)

// MaxDatagram is the largest datagram that is sent, in bytes. What should
// survive every network stays below 1,200: longer ones are cut into fragments.
const MaxDatagram = 8 << 10

// Packets is the datagram side of a Port.
type Packets struct {
	conn PacketConn
	port *Port
}

// sealed are buffers for datagrams as they come.
var sealed = sync.Pool{New: func() any { return new([MaxDatagram + secret.Overhead]byte) }}

// ReadFrom waits for one datagram of a host that has the secret, if there is one. What does not fit into b is lost. After Close
// it returns an error that is net.ErrClosed. Any number of callers may wait.
func (p *Packets) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	if p.port.keys == nil {
		return p.conn.ReadFrom(b)
	}
	buf, _ := sealed.Get().(*[MaxDatagram + secret.Overhead]byte)
	defer sealed.Put(buf)
	for {
		n, from, err := p.conn.ReadFrom(buf[:])
		if err != nil {
			return 0, from, err
		}
		opened, err := p.port.keys.Open(buf[:n], from)
		if err == nil {
			return copy(b, opened), from, nil
		}
		p.port.stats.unsealed.Add(1)
		p.port.limited.Warn("a datagram was dropped", "underlay: a datagram was dropped", "peer", from.String(), "err", err)
	}
}

// WriteTo sends one datagram; that it left is all that a nil error says. More
// than MaxDatagram bytes are refused. b may be used again at once.
func (p *Packets) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	if len(b) > MaxDatagram {
		return 0, fmt.Errorf("underlay: a datagram of %d bytes to %s is over the limit of %d", len(b), to, MaxDatagram)
	}
	if p.port.keys == nil {
		return p.conn.WriteTo(b, to)
	}
	if _, err := p.conn.WriteTo(p.port.keys.Seal(b, to), to); err != nil {
		return 0, err
	}
	return len(b), nil
}

// LocalAddr is the address that datagrams are received on.
func (p *Packets) LocalAddr() netip.AddrPort { return p.conn.LocalAddr() }

func (p *Packets) close() error { return p.conn.Close() }
