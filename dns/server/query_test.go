package server

import (
	"bytes"
	"testing"

	mdns "github.com/miekg/dns"
)

// question is a query as bytes, of the parts of a name.
func question(flags, count byte, rest ...byte) []byte {
	return append([]byte{0xab, 0xcd, flags, 0, 0, count, 0, 0, 0, 0, 0, 0}, rest...)
}

func TestBadPackets(t *testing.T) {
	const dropped = -1
	name := []byte{2, 'd', 'b', 0, 0, 1, 0, 1}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   int
	}{
		{"empty", nil, dropped},
		{"half a header", question(1, 1)[:11], dropped},
		{"a reply", question(1<<7, 1, name...), dropped},
		{"good", question(1, 1, name...), mdns.RcodeSuccess},
		{"no question", question(1, 0), mdns.RcodeFormatError},
		{"two questions", question(1, 2, append(name, name...)...), mdns.RcodeFormatError},
		{"an update", question(5<<3, 1, name...), mdns.RcodeNotImplemented},
		{"question cut off", question(1, 1, name[:5]...), mdns.RcodeFormatError},
		{"name cut off", question(1, 1, 63, 'a'), mdns.RcodeFormatError},
		{"a name that points to itself", question(1, 1, 0xc0, 12, 0, 1, 0, 1), mdns.RcodeFormatError},
		{"a name that points behind the end", question(1, 1, 0xc0, 200, 0, 1, 0, 1), mdns.RcodeFormatError},
		{"two names that point to each other", question(1, 1, 0xc0, 14, 0xc0, 12, 0, 1, 0, 1), mdns.RcodeFormatError},
		{"a reserved label", question(1, 1, 0x80, 'a', 0, 0, 1, 0, 1), mdns.RcodeFormatError},
		{"a name of 300 bytes", question(1, 1, append(bytes.Repeat([]byte{9, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 30), name...)...), mdns.RcodeFormatError},
	} {
		s := newServer(config(nil))
		_, reply, to := s.route(tt.packet, false)
		if to != nil || (len(reply) == 0) != (tt.want == dropped) {
			t.Errorf("%s: reply %x, to %v", tt.name, reply, to)
			continue
		}
		if tt.want == dropped {
			continue
		}
		msg := new(mdns.Msg)
		if err := msg.Unpack(reply); err != nil || msg.Rcode != tt.want || !msg.Response || msg.Id != 0xabcd {
			t.Errorf("%s: %v %v", tt.name, msg, err)
		}
	}
}

// Whatever is sent, there is no crash; a reply has the query's id and is no larger than
// allowed, and what is forwarded is what was received.
func FuzzRoute(f *testing.F) {
	query := new(mdns.Msg).SetQuestion("db.", mdns.TypeA)
	query.SetEdns0(4096, true)
	packed, err := query.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, false)
	f.Add(question(1, 1, 0xc0, 12, 0, 1, 0, 1), true)
	f.Add(question(1, 1, 3, 'f', 'o', 'o', 3, 'b', 'a', 'r', 0, 0, 255, 0, 1), false)
	cfg := config(nil)
	cfg.Answer = func(query *mdns.Msg) *mdns.Msg {
		if mdns.CountLabel(query.Question[0].Name)%2 == 0 {
			return nil
		}
		return large(30)(query)
	}
	s := newServer(cfg)
	s.docker = &docker{}
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		received := bytes.Clone(packet)
		q, reply, to := s.route(packet, tcp)
		if !bytes.Equal(packet, received) || to != nil && !bytes.Equal(q.bytes, received) {
			t.Fatal("the packet was changed")
		}
		if len(reply) > 0 && (!bytes.Equal(reply[:2], received[:2]) || reply[2]&(1<<7) == 0) {
			t.Errorf("%x is no reply to %x", reply, received)
		}
		if !tcp && len(reply) > maxUDP {
			t.Errorf("a reply of %d bytes", len(reply))
		}
		if to != nil {
			q.replies(reply)
			if r := refusal(packet, mdns.RcodeServerFailure); !q.replies(r) {
				t.Errorf("%x does not reply to %x", r, packet)
			}
		}
	})
}
