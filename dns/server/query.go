package server

import (
	"encoding/binary"
	"errors"
	"slices"

	mdns "github.com/miekg/dns"
)

const (
	headerSize = 12
	// maxQuery is the largest query that is read.
	maxQuery = 4096
	// maxUDP is the largest reply of ours over UDP, which needs no fragments on any path
	// (dnsflagday.net/2020).
	maxUDP = 1232
)

// query is one that was received.
type query struct {
	bytes []byte
	msg   *mdns.Msg // the same
	tcp   bool
}

// route says what becomes of a packet: it is answered with reply, or sent to a server, or,
// where both are nil, dropped. It is total, as anybody in the container may send anything.
func (s *Server) route(packet []byte, tcp bool) (q query, reply []byte, to upstream) {
	if len(packet) < headerSize {
		return query{}, nil, nil
	}
	switch mdns.DefaultMsgAcceptFunc(header(packet)) { // as Docker's resolver does
	case mdns.MsgIgnore:
		return query{}, nil, nil
	case mdns.MsgReject:
		return query{}, refusal(packet[:headerSize], mdns.RcodeFormatError), nil
	case mdns.MsgRejectNotImplemented:
		return query{}, refusal(packet[:headerSize], mdns.RcodeNotImplemented), nil
	}
	q = query{bytes: packet, msg: new(mdns.Msg), tcp: tcp}
	if err := q.msg.Unpack(packet); err != nil || len(q.msg.Question) != 1 {
		return query{}, refusal(packet[:headerSize], mdns.RcodeFormatError), nil
	}
	answer, to := s.ask(q.msg)
	if to == nil {
		reply = pack(q, answer)
	}
	return q, reply, to
}

// ask answers a query, or says which server does.
func (s *Server) ask(msg *mdns.Msg) (*mdns.Msg, upstream) {
	name := msg.Question[0].Name
	ours := mdns.IsSubDomain(s.cfg.Domain, name) && s.cfg.Domain != "."
	if ours {
		if reply := s.cfg.Answer(msg); reply != nil {
			return reply, nil
		}
	}
	if z := s.cfg.Zones.find(name); z != nil {
		return nil, z
	}
	if !ours {
		if reply := s.cfg.Answer(msg); reply != nil {
			return reply, nil
		}
	}
	if z := s.cfg.Rest.find(name); z != nil {
		return nil, z
	}
	if s.docker != nil {
		return nil, s.docker
	}
	return new(mdns.Msg).SetRcode(msg, mdns.RcodeRefused), nil
}

// pack encodes a reply, as much of it as the client takes.
func pack(q query, reply *mdns.Msg) []byte {
	size := mdns.MaxMsgSize
	offer := q.msg.IsEdns0()
	if offer != nil && reply.IsEdns0() == nil {
		reply.SetEdns0(maxUDP, offer.Do())
	}
	if !q.tcp {
		size = mdns.MinMsgSize
		if offer != nil {
			size = min(max(int(offer.UDPSize()), mdns.MinMsgSize), maxUDP)
		}
	}
	reply.Truncate(size)
	b, err := reply.Pack()
	if err != nil || len(b) > size {
		return refusal(q.bytes, mdns.RcodeServerFailure)
	}
	return b
}

// header is the header of a packet in the library's form.
func header(b []byte) mdns.Header {
	at := func(i int) uint16 { return binary.BigEndian.Uint16(b[i:]) }
	return mdns.Header{Id: at(0), Bits: at(2), Qdcount: at(4), Ancount: at(6), Nscount: at(8), Arcount: at(10)}
}

// refusal is a reply to a packet with nothing but an error. It repeats the question if there is
// one that can be read.
func refusal(packet []byte, rcode int) []byte {
	const response, recursionAvailable = 1 << 7, 1 << 7
	question := packet[:questionEnd(packet)]
	b := slices.Concat(question, make([]byte, max(0, headerSize-len(question))))
	if len(question) == 0 {
		copy(b, packet[:4])
	}
	b[2] |= response
	b[3] = recursionAvailable | byte(rcode)
	clear(b[4:headerSize])
	if len(question) > 0 {
		b[5] = 1
	}
	return b
}

// questionEnd is where the only question of a packet ends, 0 if there is none or several.
func questionEnd(packet []byte) int {
	if len(packet) < headerSize || binary.BigEndian.Uint16(packet[4:]) != 1 {
		return 0
	}
	for i := headerSize; i < len(packet); {
		switch size := int(packet[i]); {
		case size == 0 && i+5 <= len(packet):
			return i + 5
		case size == 0 || size >= 64: // no compression in a question
			return 0
		default:
			i += 1 + size
		}
	}
	return 0
}

var errOtherReply = errors.New("a reply to another query")

// replies reports whether a packet is the reply to a query. Case does not count, as servers may
// write the name in another one.
func (q query) replies(packet []byte) bool {
	if len(packet) < headerSize || packet[0] != q.bytes[0] || packet[1] != q.bytes[1] || packet[2]&(1<<7) == 0 {
		return false
	}
	if binary.BigEndian.Uint16(packet[4:]) == 0 {
		return packet[3]&0xf != mdns.RcodeSuccess // errors may have no question
	}
	asked, end := questionEnd(q.bytes), questionEnd(packet)
	return end > 0 && end == asked && equalFold(packet[headerSize:end], q.bytes[headerSize:asked])
}

// equalFold compares bytes but for the case of ASCII letters.
func equalFold(a, b []byte) bool {
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	return slices.EqualFunc(a, b, func(x, y byte) bool { return lower(x) == lower(y) })
}
