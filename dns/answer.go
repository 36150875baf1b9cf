package dns

import (
	"strings"

	wire "github.com/miekg/dns"
)

// payload is the size in bytes of a UDP message that this side takes: RFC 9715.
const payload = 1232

// maxAddrs is how many addresses an answer has at most. That many fit into a TCP message.
const maxAddrs = 1000

// outcome says what is known of a name.
type outcome uint8

const (
	notOurs outcome = iota
	noName          // there is no such name
	between         // there are names beneath it
	exists          // there is, with the records in answer, if any
)

// answer is what a question leads to.
type answer struct {
	outcome outcome
	records []wire.RR
	extra   []wire.RR
	zone    string // that says that there are no records
	serial  uint32
}

// Answer returns the reply to a query, or nil if it is to be left to Docker's resolver. The reply
// may be larger than the asker takes in: Msg.Truncate makes it fit.
//
// Names under the domain are never left to others. Others are if nobody has them, and so is
// whatever is not an ordinary question.
func (n *Names) Answer(from Asker, query *wire.Msg) *wire.Msg {
	if rcode := n.irregular(query); rcode != wire.RcodeSuccess || len(query.Question) != 1 || query.Response {
		return n.refuse(query, rcode)
	}
	a := n.resolve(from, query.Question[0])
	if a.outcome == notOurs {
		return nil
	}
	reply := n.reply(query)
	if rcode := ednsProblem(query); rcode != wire.RcodeSuccess {
		reply.Rcode = rcode
		return reply
	}
	if a.outcome == noName {
		reply.Rcode = wire.RcodeNameError
	}
	reply.Answer, reply.Extra = a.records, append(a.extra, reply.Extra...)
	if len(a.records) == 0 {
		reply.Ns = []wire.RR{n.soa(a)}
	}
	return reply
}

// irregular is the error that a query gets that is no ordinary question.
func (n *Names) irregular(query *wire.Msg) int {
	switch {
	case query.Opcode != wire.OpcodeQuery:
		return wire.RcodeNotImplemented
	case len(query.Question) != 1:
		return wire.RcodeFormatError
	}
	q := query.Question[0]
	transfer := q.Qtype == wire.TypeAXFR || q.Qtype == wire.TypeIXFR
	if transfer || q.Qclass != wire.ClassINET && q.Qclass != wire.ClassANY {
		return wire.RcodeRefused
	}
	return wire.RcodeSuccess
}

// refuse answers with an error if that is certainly about the domain.
func (n *Names) refuse(query *wire.Msg, rcode int) *wire.Msg {
	for _, q := range query.Question {
		if n.underDomain(q.Name) && !query.Response {
			reply := n.reply(query)
			reply.Rcode = rcode
			return reply
		}
	}
	return nil
}

// ednsProblem is the error for what a query says in EDNS: RFC 6891 §6.1.1 and §6.1.3.
func ednsProblem(query *wire.Msg) int {
	options := 0
	for _, rr := range query.Extra {
		if rr.Header().Rrtype == wire.TypeOPT {
			options++
		}
	}
	if opt := query.IsEdns0(); opt != nil && opt.Version() > 0 {
		return wire.RcodeBadVers
	}
	if options > 1 {
		return wire.RcodeFormatError
	}
	return wire.RcodeSuccess
}

// reply is an empty reply to a query.
func (n *Names) reply(query *wire.Msg) *wire.Msg {
	reply := new(wire.Msg).SetReply(query)
	reply.RecursionAvailable, reply.Compress = true, true
	reply.Authoritative = n.underDomain(query.Question[0].Name)
	if opt := query.IsEdns0(); opt != nil {
		reply.SetEdns0(payload, opt.Do())
	}
	return reply
}

// underDomain reports whether a name as it is in a message is the domain or beneath it.
func (n *Names) underDomain(name string) bool {
	if strings.Contains(name, `\`) {
		return wire.IsSubDomain(n.cfg.Domain+".", name)
	}
	_, under := n.relative(strings.ToLower(strings.TrimSuffix(name, ".")))
	return under
}

// relative cuts the domain off a name in lower case. At the domain itself nothing is left, and a
// name that is not under it stays whole.
func (n *Names) relative(name string) (rest string, under bool) {
	if name == n.cfg.Domain {
		return "", true
	}
	return cutZone(name, n.cfg.Domain)
}

// cutZone cuts a zone off a name that is beneath it. Others stay whole.
func cutZone(name, zone string) (rest string, beneath bool) {
	rest, ends := strings.CutSuffix(name, zone)
	if ends && len(rest) > 1 && rest[len(rest)-1] == '.' {
		return rest[:len(rest)-1], true
	}
	return name, false
}

// resolve answers a question.
func (n *Names) resolve(from Asker, q wire.Question) (a answer) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	defer func() { a.serial = n.serial }()
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	rest, under := n.relative(name)
	switch {
	case strings.Contains(name, `\`): // bytes that no name has
		under = n.underDomain(q.Name)
		a.outcome = noName
	case strings.HasSuffix(name, ".arpa"):
		return n.pointer(from, name, q)
	case under && rest == "":
		a = n.apex(q)
	case under && (rest == "hosts" || strings.HasSuffix(rest, ".hosts")):
		a = n.host(from, rest, q)
	default:
		a = n.named(from, rest, q)
	}
	switch {
	case under:
		a.zone = n.cfg.Domain + "."
	case a.outcome == exists:
		a.zone = q.Name // which nobody above it knows
	default:
		a.outcome = notOurs
	}
	return a
}
