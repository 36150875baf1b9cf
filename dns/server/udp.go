package server

import (
	"bytes"
	"net/netip"

	mdns "github.com/miekg/dns"
)

// serveUDP reads packets. It answers those about our own names itself, one after the other.
func (s *Server) serveUDP() {
	buffer := make([]byte, maxQuery+1)
	for {
		n, from, err := s.packets.ReadFromUDPAddrPort(buffer)
		switch {
		case err != nil && !s.failed("cannot read DNS queries", err):
			return
		case err != nil:
		case n > maxQuery:
			s.sendUDP(refusal(buffer[:headerSize], mdns.RcodeFormatError), from)
		default:
			s.packet(buffer[:n], from)
		}
	}
}

func (s *Server) packet(packet []byte, from netip.AddrPort) {
	q, reply, to := s.route(packet, false)
	if to == nil {
		s.sendUDP(reply, from)
		return
	}
	select {
	case s.forwarded <- struct{}{}:
	default:
		s.sendUDP(refusal(packet, mdns.RcodeServerFailure), from)
		return
	}
	q.bytes = bytes.Clone(packet)
	s.running.Go(func() {
		defer func() { <-s.forwarded }()
		s.sendUDP(s.forward(q, to), from)
	})
}

// sendUDP sends a reply, if there is one. A client that does not get it asks again.
func (s *Server) sendUDP(reply []byte, to netip.AddrPort) {
	if len(reply) > 0 {
		_, _, _ = s.packets.WriteMsgUDPAddrPort(reply, s.source, to)
	}
}

// forward asks another server. Whatever it replies is the reply.
func (s *Server) forward(q query, to upstream) []byte {
	reply, err := to.exchange(s.ctx, q)
	if err != nil {
		return refusal(q.bytes, mdns.RcodeServerFailure)
	}
	return reply
}
