package dns

import (
	"slices"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

// TestMessages: what is no ordinary question gets an error if it is about the domain, and is left
// to Docker otherwise.
func TestMessages(t *testing.T) {
	s := tell(t, world)
	s.apply()
	edns := func(version uint8) *wire.OPT {
		o := &wire.OPT{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeOPT, Class: 4096}}
		o.SetVersion(version)
		o.SetDo()
		return o
	}
	for what, c := range map[string]struct {
		make   func(*wire.Msg)
		domain string // outcome for db.weft.local.
		short  string // and for db.
	}{
		"a question":      {func(*wire.Msg) {}, "NOERROR", "NOERROR"},
		"class ANY":       {func(m *wire.Msg) { m.Question[0].Qclass = wire.ClassANY }, "NOERROR", "NOERROR"},
		"class CH":        {func(m *wire.Msg) { m.Question[0].Qclass = wire.ClassCHAOS }, "REFUSED", ""},
		"a response":      {func(m *wire.Msg) { m.Response = true }, "", ""},
		"an update":       {func(m *wire.Msg) { m.Opcode = wire.OpcodeUpdate }, "NOTIMP", ""},
		"no question":     {func(m *wire.Msg) { m.Question = nil }, "", ""},
		"two questions":   {func(m *wire.Msg) { m.Question = append(m.Question, m.Question[0]) }, "FORMERR", ""},
		"a zone transfer": {func(m *wire.Msg) { m.Question[0].Qtype = wire.TypeAXFR }, "REFUSED", ""},
		"EDNS":            {func(m *wire.Msg) { m.Extra = []wire.RR{edns(0)} }, "NOERROR", "NOERROR"},
		"EDNS of 1":       {func(m *wire.Msg) { m.Extra = []wire.RR{edns(1)} }, "BADVERS", "BADVERS"},
		"EDNS twice":      {func(m *wire.Msg) { m.Extra = []wire.RR{edns(0), edns(0)} }, "FORMERR", "FORMERR"},
		"an escaped dot":  {func(m *wire.Msg) { m.Question[0].Name = `d\.b.` + m.Question[0].Name }, "NXDOMAIN", ""},
	} {
		for name, want := range map[string]string{"db.weft.local.": c.domain, "db.": c.short} {
			m := new(wire.Msg).SetQuestion(name, wire.TypeA)
			c.make(m)
			got, reply := "", s.names.Answer(s.from, m)
			if reply != nil {
				checkReply(t, m, reply)
				got = wire.RcodeToString[reply.Rcode]
			}
			if got == "BADSIG" {
				got = "BADVERS" // one number has both names
			}
			if got != want {
				t.Errorf("%s for %s gets %q, wanted %q", what, name, got, want)
			}
		}
	}
	m := new(wire.Msg).SetQuestion(`x\.weft.local.`, wire.TypeA)
	if reply := s.names.Answer(s.from, m); reply != nil {
		t.Errorf("a label with a dot in it is taken for the domain: %v", reply)
	}
}

// checkReply checks what all replies have.
func checkReply(t *testing.T, query, reply *wire.Msg) {
	t.Helper()
	if reply.Id != query.Id || !reply.Response || !reply.RecursionAvailable || reply.Question[0] != query.Question[0] {
		t.Errorf("the reply to %v is %v", query, reply)
	}
	if reply.Authoritative != wire.IsSubDomain("weft.local.", query.Question[0].Name) {
		t.Errorf("authoritative: %v for %s", reply.Authoritative, query.Question[0].Name)
	}
	asked, opt := query.IsEdns0(), reply.IsEdns0()
	if (asked == nil) != (opt == nil) || asked != nil && (asked.Do() != opt.Do() || opt.Version() != 0 || opt.UDPSize() != payload) {
		t.Errorf("EDNS of the reply is %v, of the query %v", opt, asked)
	}
	packed, err := reply.Pack()
	if err != nil || len(packed) > 65535 {
		t.Errorf("the reply %v takes %d bytes, %v", reply, len(packed), err)
	}
}

// FuzzAnswer: whatever arrives leads to nil, or to a reply that can be sent.
func FuzzAnswer(f *testing.F) {
	s := tell(f, world)
	s.apply()
	for _, q := range []struct {
		name  string
		qtype uint16
	}{{"db.", wire.TypeA}, {"store.weft.local.", wire.TypeAAAA}, {"_5432._tcp.db.", wire.TypeSRV}, {"2.0.1.10.in-addr.arpa.", wire.TypePTR}, {"a.hosts.weft.local.", wire.TypeANY}} {
		packed, _ := new(wire.Msg).SetQuestion(q.name, q.qtype).SetEdns0(1232, true).Pack()
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		query := new(wire.Msg)
		if query.Unpack(packet) != nil {
			return
		}
		for _, from := range []Asker{s.from, {Everything: true}} {
			reply := s.names.Answer(from, query)
			if reply == nil {
				continue
			}
			checkReply(t, query, reply)
			s.names.Explain(from, query.Question[0].Name, query.Question[0].Qtype)
		}
	})
}

func TestShuffleAndLocalFirst(t *testing.T) {
	const three = `
	host a 192.168.0.1
	host b 192.168.0.2
	network n 10.1.0.0/24
	from n
	on n b one 10.1.0.1 alias=web
	on n b two 10.1.0.2 alias=web
	on n a three 10.1.0.3 alias=web
	`
	s := tell(t, three)
	s.cfg.Shuffle = func(n int, swap func(i, j int)) { swap(0, n-1) }
	if got := firstAddr(s, "web"); got != "10.1.0.2" {
		t.Errorf("the shuffle does not order the answer: %s is first", got)
	}
	s = tell(t, "set local"+three)
	s.cfg.Shuffle = func(n int, swap func(i, j int)) { swap(0, n-1) }
	if got := firstAddr(s, "web"); got != "10.1.0.3" {
		t.Errorf("%s is first, not this host's", got)
	}
}

// TestExplain: the answer, by whom, and why others are passed over.
func TestExplain(t *testing.T) {
	s := tell(t, `set health
	host a 192.168.0.1
	host b 192.168.0.2
	network n 10.1.0.0/24
	network m 10.2.0.0/24
	on n a db 10.1.0.2 port=80/tcp
	on n a other 10.1.0.3 alias=db
	on n b db 10.1.0.4
	on n a db2 10.1.0.5 alias=x
	on n a db3 10.1.0.6 alias=x unhealthy
	on m a db 10.2.0.2
	on m a db.n 10.2.0.3
	down b
	from n m
	`)
	s.apply()
	explained := func(from Asker, name string, qtype uint16) (out []string) {
		for _, e := range s.names.Explain(from, name, qtype).Entries {
			out = append(out, e.Addrs[0].String()+" by "+e.Source+": "+e.Passed)
		}
		slices.Sort(out)
		return out
	}
	for _, c := range []struct {
		from  Asker
		name  string
		qtype uint16
		want  []string
	}{
		{s.from, "db.n", wire.TypeA, []string{
			"10.1.0.2 by container name: ", "10.1.0.3 by alias: it is found by an earlier source: container name",
			"10.1.0.4 by container name: its host is declared down", "10.2.0.3 by container name: it is found as NAME.NETWORK before",
		}},
		{s.from, "x.weft.local", wire.TypeA, []string{"10.1.0.5 by alias: ", "10.1.0.6 by alias: its health check fails, and another one answers"}},
		{s.from, "X", wire.TypeAAAA, []string{"10.1.0.5 by alias: it has nothing of this type", "10.1.0.6 by alias: it has nothing of this type"}},
		{s.from, "_80._tcp.db", wire.TypeSRV, []string{
			"10.1.0.2 by container name: ", "10.1.0.3 by alias: it is found by an earlier source: container name",
			"10.1.0.4 by container name: its host is declared down", "10.2.0.2 by container name: it has nothing of this type",
		}},
		{s.from, "a.hosts.weft.local", wire.TypeA, []string{"192.168.0.1 by host: "}},
		{s.from, "3.0.2.10.in-addr.arpa", wire.TypePTR, []string{"10.2.0.3 by container name: "}},
		{Asker{Everything: true}, "db.weft.local", wire.TypeA, []string{
			"10.1.0.2 by container name: several networks have the name: ask for NAME.NETWORK", "10.1.0.3 by alias: several networks have the name: ask for NAME.NETWORK",
			"10.1.0.4 by container name: its host is declared down", "10.2.0.2 by container name: several networks have the name: ask for NAME.NETWORK",
		}},
		{s.from, "nothing", wire.TypeA, nil},
		{s.from, "dbn", wire.TypeA, nil},
	} {
		if got := explained(c.from, c.name, c.qtype); !slices.Equal(got, c.want) {
			t.Errorf("%s is explained by\n%q, wanted\n%q", c.name, got, c.want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	s := tell(t, `
	host a 192.168.0.1
	network n 10.1.0.0/24
	on n a db 10.1.0.2
	from n
	`)
	s.apply()
	for name, want := range map[string]string{
		"db": "answered", "nothing": "no name of the cluster: Docker's resolver answers", "nothing.weft.local": "there is no such name", "n.weft.local": "the name has nothing of this type",
	} {
		if got := s.names.Explain(s.from, name, wire.TypeA).Outcome; got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := s.names.List(netmap.NetworkID(9)); got != nil {
		t.Errorf("a network that is not there has %v", got)
	}
}

// TestReadWhileItChanges is for the race detector.
func TestReadWhileItChanges(t *testing.T) {
	s := tell(t, world)
	s.apply()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			s.names.Apply(s.view, (&netmap.View{}).Since(s.view))
			s.names.Apply(s.view, s.view.Since(nil))
		}
	}()
	for range 200 {
		s.names.Answer(s.from, new(wire.Msg).SetQuestion("store.", wire.TypeA))
		s.names.Explain(s.from, "store", wire.TypeA)
		s.names.List(1)
	}
	<-done
}
