package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

// maxServices is how many records of a service an answer has at most. That many fit into a TCP
// message with their addresses, however long the names are.
const maxServices = 64

// header is that of a record of ours.
func (n *Names) header(name string, rrtype uint16) wire.RR_Header {
	return wire.RR_Header{Name: name, Rrtype: rrtype, Class: wire.ClassINET, Ttl: uint32(n.cfg.TTL.Seconds())}
}

// soa is the authority that a negative answer is from: RFC 2308.
func (n *Names) soa(a answer) *wire.SOA {
	domain := n.cfg.Domain + "."
	return &wire.SOA{
		Hdr: n.header(a.zone, wire.TypeSOA), Ns: domain, Mbox: "hostmaster." + domain,
		Serial: a.serial, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: uint32(n.cfg.TTL.Seconds()),
	}
}

// any is the answer for a name that exists to a question for whatever it has: RFC 8482 §4.2.
func (n *Names) any(name string) []wire.RR {
	return []wire.RR{&wire.HINFO{Hdr: n.header(name, wire.TypeHINFO), Cpu: "RFC8482"}}
}

func (n *Names) address(name string, addr netip.Addr) wire.RR {
	if addr.Is4() {
		return &wire.A{Hdr: n.header(name, wire.TypeA), A: addr.AsSlice()}
	}
	return &wire.AAAA{Hdr: n.header(name, wire.TypeAAAA), AAAA: addr.AsSlice()}
}

// apex answers for the domain itself.
func (n *Names) apex(q wire.Question) answer {
	a := answer{outcome: exists}
	switch q.Qtype {
	case wire.TypeSOA:
		a.records = []wire.RR{n.soa(answer{zone: q.Name, serial: n.serial})}
	case wire.TypeANY:
		a.records = n.any(q.Name)
	}
	return a
}

// host answers for NAME.hosts: the addresses of all hosts that are called so.
func (n *Names) host(from Asker, name string, q wire.Question) answer {
	name, ok := strings.CutSuffix(name, ".hosts")
	if !ok {
		return answer{outcome: between}
	}
	hosts := n.hosts[name]
	switch {
	case len(hosts) == 0 && n.below[name] == 0:
		return answer{outcome: noName}
	case len(hosts) == 0:
		return answer{outcome: between}
	case q.Qtype == wire.TypeANY:
		return answer{outcome: exists, records: n.any(q.Name)}
	}
	a := answer{outcome: exists}
	for _, h := range hosts {
		for _, addr := range n.reached(from, h) {
			if isAddress(q.Qtype) && addr.Is4() == (q.Qtype == wire.TypeA) && len(a.records) < maxAddrs {
				a.records = append(a.records, n.address(q.Name, addr))
			}
		}
	}
	return a
}

// reached are the addresses at which an asker reaches a host: those that the host has on the first
// network that it shares with a container, else that of the underlay.
func (n *Names) reached(from Asker, h namedHost) []netip.Addr {
	if !from.Everything {
		for w := range n.visible(from) {
			if own := w.own(h.id); len(own) > 0 {
				return own
			}
		}
	}
	return []netip.Addr{h.addr}
}

func isAddress(qtype uint16) bool { return qtype == wire.TypeA || qtype == wire.TypeAAAA }

// named answers for the name of containers, relative to the domain.
func (n *Names) named(from Asker, name string, q wire.Question) answer {
	if s, ok := serviceOf(name); ok {
		return n.service(from, s, q)
	}
	all, known := n.find(from, name)
	switch {
	case len(all) > 0 && q.Qtype == wire.TypeANY:
		return answer{outcome: exists, records: n.any(q.Name)}
	case len(all) > 0 && isAddress(q.Qtype):
		return answer{outcome: exists, records: n.addresses(all, q)}
	case len(all) > 0:
		return answer{outcome: exists}
	case known || n.hasServices(from, name):
		return answer{outcome: between}
	}
	return answer{outcome: noName}
}

func (n *Names) addresses(all []found, q wire.Question) []wire.RR {
	v6 := q.Qtype == wire.TypeAAAA
	chosen := n.choose(all, maxAddrs, func(f found) bool { return f.addr(v6).IsValid() })
	out := make([]wire.RR, 0, len(chosen))
	for i, f := range chosen {
		same := func(other found) bool { return other.addr(v6) == f.addr(v6) }
		if f.source == ByHand && slices.ContainsFunc(chosen[:i], same) {
			continue // it has the name on several networks
		}
		out = append(out, n.address(q.Name, f.addr(v6)))
	}
	return out
}

// service is what a question such as _80._tcp.web asks for.
type service struct {
	netmap.Service
	name string // who has it, relative to the domain
}

// serviceOf reads the form of a service.
func serviceOf(name string) (s service, ok bool) {
	port, rest, _ := strings.Cut(name, ".")
	proto, rest, _ := strings.Cut(rest, ".")
	digits, under := strings.CutPrefix(port, "_")
	number, err := strconv.ParseUint(digits, 10, 16)
	s.Port, s.Protocol, s.name = uint16(number), protocols[proto], rest
	return s, under && err == nil && number > 0 && digits[0] != '0' && digits[0] != '+' && s.Protocol != 0
}

var protocols = map[string]netmap.Protocol{"_tcp": netmap.TCP, "_udp": netmap.UDP, "_sctp": netmap.SCTP}

func (f found) offers(s netmap.Service) bool {
	return f.Names != nil && slices.Contains(f.Names.Services, s)
}

// hasServices reports whether a name is one such as _tcp.web, with services beneath it.
func (n *Names) hasServices(from Asker, name string) bool {
	proto, rest, _ := strings.Cut(name, ".")
	if protocols[proto] == 0 {
		return false
	}
	all, _ := n.find(from, rest)
	return slices.ContainsFunc(all, func(f found) bool {
		return f.Names != nil && slices.ContainsFunc(f.Names.Services, func(s netmap.Service) bool { return s.Protocol == protocols[proto] })
	})
}

// service answers for a port of those who have a name. With PreferLocal this host's have a
// priority ahead of others.
func (n *Names) service(from Asker, s service, q wire.Question) answer {
	all, _ := n.find(from, s.name)
	all = slices.DeleteFunc(all, func(f found) bool { return !f.offers(s.Service) || n.target(f.network, f.EndpointView) == "" })
	switch {
	case len(all) == 0:
		return answer{outcome: noName}
	case q.Qtype == wire.TypeANY:
		return answer{outcome: exists, records: n.any(q.Name)}
	case q.Qtype != wire.TypeSRV:
		return answer{outcome: exists}
	}
	a := answer{outcome: exists}
	targets := map[string]bool{}
	for _, f := range n.choose(all, maxServices, func(found) bool { return true }) {
		r := &wire.SRV{Hdr: n.header(q.Name, wire.TypeSRV), Port: s.Port, Target: n.target(f.network, f.EndpointView)}
		if n.cfg.PreferLocal {
			r.Priority = n.distance(f)
		}
		if !targets[r.Target] {
			targets[r.Target] = true
			a.records = append(a.records, r)
		}
		for _, addr := range []netip.Addr{f.addr(false), f.addr(true)} {
			if addr.IsValid() {
				a.extra = append(a.extra, n.address(r.Target, addr))
			}
		}
	}
	return a
}

// pointer answers for the name of an address in a network of the asker.
func (n *Names) pointer(from Asker, name string, q wire.Question) answer {
	addr, ok := reversed(name)
	_, zone, _ := strings.Cut(q.Name, ".")
	for w := range n.visible(from) {
		if !ok || !w.has(addr) {
			continue
		}
		e := w.holders[addr]
		switch {
		case e == nil && w.nameByHand(addr) != "":
			return n.pointerTo(w.nameByHand(addr)+n.zone(w), q, zone)
		case e == nil || n.absent(w, bearer{EndpointView: e}) != "":
			return answer{outcome: noName, zone: zone}
		case ofHost(e) && n.hostNames[e.Host] != "":
			return n.pointerTo(n.hostNames[e.Host]+".hosts."+n.cfg.Domain+".", q, zone)
		case e.Names == nil:
			return answer{} // Docker may know it
		}
		return n.pointerTo(n.target(w, e), q, zone)
	}
	return answer{}
}

func (n *Names) pointerTo(target string, q wire.Question, zone string) answer {
	switch {
	case target == "" || len(target) > netmap.MaxNameInDNS+1:
		return answer{outcome: noName, zone: zone}
	case q.Qtype == wire.TypeANY:
		return answer{outcome: exists, records: n.any(q.Name)}
	case q.Qtype != wire.TypePTR:
		return answer{outcome: exists, zone: zone}
	}
	return answer{outcome: exists, records: []wire.RR{&wire.PTR{Hdr: n.header(q.Name, wire.TypePTR), Ptr: target}}}
}

// reversed reads an address from its name under in-addr.arpa or ip6.arpa.
func reversed(name string) (netip.Addr, bool) {
	text, v4 := strings.CutSuffix(name, ".in-addr.arpa")
	if !v4 {
		text, _ = strings.CutSuffix(name, ".ip6.arpa")
	}
	digits := strings.Split(text, ".")
	slices.Reverse(digits)
	switch {
	case v4 && len(digits) == 4:
		text = strings.Join(digits, ".")
	case !v4 && len(digits) == 32 && len(text) == 63:
		all := strings.Join(digits, "")
		text = all[:4]
		for i := 4; i < len(all); i += 4 {
			text += ":" + all[i:i+4]
		}
	default:
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(text)
	return addr, err == nil && addr.Is4() == v4
}
