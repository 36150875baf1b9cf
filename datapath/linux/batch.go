package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// batchSize is how many entries go to the kernel with one system call. Their acknowledgements,
// some 800 bytes of socket memory each, wait in the receive buffer, and Plug waits for at most
// one batch.
const batchSize = 200

// entry is one change of a forwarding or neighbour table, as the kernel takes it
// (linux/neighbour.h): family, device, flags, address.
type entry struct {
	op     datapath.Op
	link   int // interface index
	family uint8
	state  uint16
	flags  uint8
	append bool
	mac    netmap.MAC
	dst    netip.Addr
}

// static entries neither age nor move. VXLAN refuses entries that are not reachable as well.
const static = unix.NUD_NOARP | unix.NUD_REACHABLE

// tableOf returns the device that an operation on an entry is about.
func tableOf(op datapath.Op) string {
	switch op.Object {
	case datapath.ABridging:
		return op.Port.Name
	case datapath.ANeighbour:
		return op.Device.Bridge
	}
	return op.Device.VXLAN
}

// newEntry translates an operation on a table. links are the overlay's devices by name. ok is
// false if the device does not exist, and its table neither.
func newEntry(op datapath.Op, links map[string]int) (e entry, ok bool) {
	e = entry{op: op, family: unix.AF_BRIDGE, state: static, flags: unix.NTF_SELF, mac: op.MAC, dst: op.Addr}
	switch op.Object {
	case datapath.AFlood:
		e.append = true
	case datapath.ABridging:
		e.flags = unix.NTF_MASTER
	case datapath.ANeighbour:
		e.flags, e.state = 0, unix.NUD_PERMANENT
		e.family = unix.AF_INET
		if op.Addr.Is6() {
			e.family = unix.AF_INET6
		}
	}
	e.link, ok = links[tableOf(op)]
	return e, ok
}

// appendMessage writes the netlink message of an entry.
func (e entry) appendMessage(b []byte, seq uint32) []byte {
	kind, flags := uint16(unix.RTM_NEWNEIGH), unix.NLM_F_REQUEST|unix.NLM_F_ACK
	switch {
	case e.op.Verb == datapath.Delete:
		kind = unix.RTM_DELNEIGH
	case e.append:
		flags |= unix.NLM_F_CREATE | unix.NLM_F_APPEND
	default:
		flags |= unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	start := len(b)
	n := binary.NativeEndian
	b = n.AppendUint32(b, 0) // length, below
	b = n.AppendUint16(n.AppendUint16(b, kind), uint16(flags))
	b = n.AppendUint32(n.AppendUint32(b, seq), 0)
	b = append(b, e.family, 0, 0, 0)
	b = n.AppendUint32(b, uint32(e.link))
	b = n.AppendUint16(b, e.state)
	b = append(b, e.flags, 0)
	if e.dst.IsValid() {
		b = appendAttr(b, unix.NDA_DST, e.dst.AsSlice())
	}
	if e.family == unix.AF_BRIDGE || e.op.Verb == datapath.Add {
		b = appendAttr(b, unix.NDA_LLADDR, e.mac[:])
	}
	n.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

func appendAttr(b []byte, kind uint16, value []byte) []byte {
	n := binary.NativeEndian
	b = n.AppendUint16(n.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value))), kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// send carries out entries with one system call and returns the kernel's answer to each, in
// order. The error means that the answers did not arrive.
func (s *space) send(entries []entry) ([]error, error) {
	sock := s.batch.Socket
	var b []byte
	first := s.batch.Seq + 1
	s.batch.Seq += uint32(len(entries))
	for i, e := range entries {
		b = e.appendMessage(b, first+uint32(i))
	}
	if err := unix.Sendto(sock.GetFd(), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("netlink: send %d entries: %w", len(entries), err)
	}
	answers := make([]error, len(entries))
	for waiting := len(entries); waiting > 0; {
		msgs, _, err := sock.Receive()
		if err != nil {
			return nil, fmt.Errorf("netlink: %d answers of %d did not come: %w", waiting, len(entries), err)
		}
		for _, m := range msgs {
			i := m.Header.Seq - first // old answers wrap around to large numbers
			if m.Header.Type != unix.NLMSG_ERROR || i >= uint32(len(entries)) || len(m.Data) < 4 {
				continue
			}
			waiting--
			if errno := int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
				answers[i] = entries[i].excuse(unix.Errno(-errno))
			}
		}
	}
	return answers, nil
}

// excuse drops errors that mean that the kernel is in the wanted state already.
func (e entry) excuse(err error) error {
	gone := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH)
	switch {
	case e.op.Verb == datapath.Delete && gone:
		return nil
	case e.append && errors.Is(err, unix.EEXIST):
		return nil
	case e.op.Object == datapath.ANeighbour && errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("the host's neighbour table is full, raise net.ipv4.neigh.default.gc_thresh3 and net.ipv6.neigh.default.gc_thresh3: %w", err)
	}
	return err
}
