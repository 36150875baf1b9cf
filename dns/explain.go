package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

// Entry is a name, as one container or host has it.
type Entry struct {
	Name      string            `json:"name"`              // lower case, without the network and the domain
	Network   netmap.NetworkID  `json:"network,omitempty"` // 0: of a host
	Source    string            `json:"source"`            // see Source; of a host it is host
	Container string            `json:"container,omitempty"`
	Endpoint  netmap.EndpointID `json:"endpoint,omitempty"`
	Host      netmap.HostID     `json:"host,omitzero"`
	Addrs     []netip.Addr      `json:"addrs"`
	Passed    string            `json:"passed,omitempty"` // why it is passed over; "": it answers
}

// Explanation says how a question is answered.
type Explanation struct {
	Name    string   `json:"name"`    // that was asked for, as it was given
	Type    string   `json:"type"`    // such as AAAA
	Outcome string   `json:"outcome"` // in words
	Records []string `json:"records,omitempty"`
	Entries []Entry  `json:"entries,omitempty"` // all who have the name, those who answer first
}

// Explain says how a question is answered, and who has the name and is passed over.
func (n *Names) Explain(from Asker, name string, qtype uint16) Explanation {
	query := new(wire.Msg).SetQuestion(wire.Fqdn(name), qtype)
	reply := n.Answer(from, query)
	x := Explanation{Name: name, Type: wire.TypeToString[qtype], Outcome: outcomeOf(reply)}
	if reply != nil {
		for _, rr := range append(reply.Answer, reply.Extra...) {
			x.Records = append(x.Records, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	x.Entries = n.considered(from, strings.ToLower(strings.TrimSuffix(name, ".")), qtype)
	slices.SortStableFunc(x.Entries, func(a, b Entry) int {
		return cmp.Compare(min(len(a.Passed), 1), min(len(b.Passed), 1))
	})
	return x
}

func outcomeOf(reply *wire.Msg) string {
	switch {
	case reply == nil:
		return "no name of the cluster: Docker's resolver answers"
	case reply.Rcode == wire.RcodeNameError:
		return "there is no such name"
	case reply.Rcode != wire.RcodeSuccess:
		return "refused: " + wire.RcodeToString[reply.Rcode]
	case len(reply.Answer) == 0:
		return "the name has nothing of this type"
	}
	return "answered"
}

// considered lists who has a name that is asked for.
func (n *Names) considered(from Asker, name string, qtype uint16) []Entry {
	if addr, ok := reversed(name); ok {
		return n.consideredPointer(from, addr)
	}
	rest, under := n.relative(name)
	if !under {
		rest = name
	}
	if host, ok := strings.CutSuffix(rest, ".hosts"); ok && under {
		return n.consideredHosts(from, host)
	}
	answers := func(f found) bool { return !isAddress(qtype) || f.addr(qtype == wire.TypeAAAA).IsValid() }
	if s, ok := serviceOf(rest); ok {
		rest = s.name
		answers = func(f found) bool { return f.offers(s.Service) }
	}
	all, _ := n.find(from, rest)
	var out []Entry
	for w := range n.visible(from) {
		forms := []string{rest}
		if base, ok := w.relative(rest); ok {
			forms = []string{base, rest}
		}
		for _, name := range forms {
			for _, b := range w.bearers[name] {
				e := entry(w, name, b)
				e.Passed = n.passed(all, found{w, b}, answers)
				out = append(out, e)
			}
		}
	}
	return out
}

// passed says why one who has a name is passed over; all are those who were found.
func (n *Names) passed(all []found, f found, answers func(found) bool) string {
	healthy := func(f found) bool { return answers(f) && !f.unhealthy() }
	switch {
	case !slices.Contains(all, f):
		return cmp.Or(n.absent(f.network, f.bearer), hidden(all, f))
	case !answers(f):
		return "it has nothing of this type"
	case n.cfg.Health && f.unhealthy() && slices.ContainsFunc(all, healthy):
		return "its health check fails, and another one answers"
	}
	return ""
}

// hidden says why one who has a name, and is there, is not among those who were found.
func hidden(all []found, f found) string {
	if len(all) == 0 {
		return "several networks have the name: ask for NAME.NETWORK"
	}
	i := slices.IndexFunc(all, func(other found) bool { return other.network == f.network && other.source.rank() <= f.source.rank() })
	if i < 0 {
		return "it is found as NAME.NETWORK before"
	}
	if all[i].source.rank() == f.source.rank() {
		return "very many have the name, and others answer this time"
	}
	return "it is found by an earlier source: " + all[i].source.String()
}

func (n *Names) consideredPointer(from Asker, addr netip.Addr) []Entry {
	for w := range n.visible(from) {
		if name := w.nameByHand(addr); name != "" && w.holders[addr] == nil && w.has(addr) {
			b := bearer{w.byHand[netmap.StaticName{Network: w.id, Name: name, Addr: addr}], ByHand}
			return []Entry{entry(w, name+n.zone(w), b)}
		}
		if e := w.holders[addr]; e != nil && e.Names != nil && w.has(addr) {
			b := bearer{e, ByContainer}
			out := entry(w, n.target(w, e), b)
			out.Passed = n.absent(w, b)
			return []Entry{out}
		}
	}
	return nil
}

func (n *Names) consideredHosts(from Asker, name string) (out []Entry) {
	for _, h := range n.hosts[name] {
		out = append(out, Entry{Name: name + ".hosts", Source: "host", Host: h.id, Addrs: n.reached(from, h)})
	}
	return out
}

func entry(w *network, name string, b bearer) Entry {
	e := Entry{Name: name, Network: w.id, Source: b.source.String(), Endpoint: b.ID, Host: b.Host}
	if b.Names != nil {
		e.Container = b.Names.Name
	}
	for _, addr := range []netip.Addr{b.V4, b.V6} {
		if addr.IsValid() {
			e.Addrs = append(e.Addrs, addr)
		}
	}
	return e
}

// List lists all names on a network, sorted by name, with those that are never answered.
func (n *Names) List(id netmap.NetworkID) (out []Entry) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	w := n.networks[id]
	if w == nil {
		return nil
	}
	for s, e := range w.byHand {
		out = append(out, entry(w, s.Name, bearer{e, ByHand}))
	}
	for addr, holder := range w.holders {
		if addr != holder.V4 && holder.V4.IsValid() {
			continue // it is listed by its IPv4 address
		}
		for _, c := range n.called(holder) {
			b := bearer{holder, c.source}
			e := entry(w, c.name, b)
			e.Passed = cmp.Or(c.problem, n.absent(w, b))
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Source, b.Source),
			a.Host.Compare(b.Host), strings.Compare(string(a.Endpoint), string(b.Endpoint)))
	})
	return out
}
