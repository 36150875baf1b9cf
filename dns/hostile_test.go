package dns

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

type netID = netmap.NetworkID

func firstAddr(s *story, name string) string {
	s.apply()
	reply := s.names.Answer(s.from, new(wire.Msg).SetQuestion(name+".", wire.TypeA))
	return reply.Answer[0].(*wire.A).A.String()
}

// TestAHostileHostAddsItsOwnAtMost: b announces what it likes, a is honest.
func TestAHostileHostAddsItsOwnAtMost(t *testing.T) {
	tell(t, `
	host a 192.168.0.1
	host b 192.168.0.2
	network mine 10.1.0.0/24
	network yours 10.2.0.0/24
	network public 10.3.0.0/24
	on mine a db 10.1.0.2
	on public a web 10.3.0.2
	# the name of somebody else's network, and a name in it
	on public b db.mine 10.3.0.66 alias=mine alias=db.mine.weft.local
	# outside the network's addresses
	on mine b trap 8.8.8.8 alias=db
	on mine b trap2 10.2.0.7 alias=db
	# no names
	on public b * 10.3.0.67 alias=a..b alias=.c alias=d. alias=e\000f alias=ä
	on public b tab\s 10.3.0.68 alias=localhost alias=x.localhost alias=9.0.3.10.in-addr.arpa alias=_80._tcp.web
	# a name that others have
	on public b web 10.3.0.69 alias=web
	from mine public
	? db.mine A
		db.mine. 5 IN A 10.1.0.2
	? db.mine.weft.local A
		db.mine.weft.local. 5 IN A 10.1.0.2
	? db A
		db. 5 IN A 10.1.0.2
	? db.mine.weft.local.weft.local A
		nxdomain weft.local.
	? trap A
		pass
	? * A
		pass
	? *.weft.local A
		nxdomain weft.local.
	? localhost A
		pass
	? x.localhost A
		pass
	? localhost.weft.local A
		nxdomain weft.local.
	? 9.0.3.10.in-addr.arpa A
		nxdomain 0.3.10.in-addr.arpa.
	? 9.0.3.10.in-addr.arpa.weft.local A
		nxdomain weft.local.
	? _80._tcp.web A
		pass
	? web A
		web. 5 IN A 10.3.0.2
		web. 5 IN A 10.3.0.69
	? 8.8.8.8.in-addr.arpa PTR
		pass
	? 7.0.2.10.in-addr.arpa PTR
		pass
	from mine
	? db.mine A
		db.mine. 5 IN A 10.1.0.2
	from yours
	? 7.0.2.10.in-addr.arpa PTR
		nxdomain 0.2.10.in-addr.arpa.`)
}

// TestTheIDOfSomebodyElsesEndpoint is announced by b, for an endpoint of its own.
func TestTheIDOfSomebodyElsesEndpoint(t *testing.T) {
	tell(t, `
	host a 192.168.0.1
	host b 192.168.0.2
	network mine 10.1.0.0/24
	from mine
	on mine a dup 10.1.0.8 id=1
	on mine b dup 10.1.0.9 id=1
	? dup A
		dup. 5 IN A 10.1.0.8
		dup. 5 IN A 10.1.0.9
	off mine b dup id=1
	? dup A
		dup. 5 IN A 10.1.0.8
	? 8.0.1.10.in-addr.arpa PTR
		8.0.1.10.in-addr.arpa. 5 IN PTR dup.mine.weft.local.`)
}

// TestNamesThatDNSCannotCarry: they are not answered and listed, the other names are answered.
func TestNamesThatDNSCannotCarry(t *testing.T) {
	long := strings.Repeat("x", 64)
	fits := strings.Repeat("x", 63)
	total := strings.Repeat(fits[:62]+".", 4)[:251] // of a name; with the network it is too long
	s := tell(t, `
	host a 192.168.0.1
	network n 10.1.0.0/24
	from n
	on n a `+long+` 10.1.0.2 alias=ok alias=under_score alias=UPPER alias=`+fits+` alias=sp(ace port=80/tcp
	on n a `+total+` 10.1.0.3 hostname=second
	? ok A
		ok. 5 IN A 10.1.0.2
	? under_score A
		under_score. 5 IN A 10.1.0.2
	? upper A
		upper. 5 IN A 10.1.0.2
	? `+fits+` A
		`+fits+`. 5 IN A 10.1.0.2
	? `+total+` A
		`+total+`. 5 IN A 10.1.0.3
	# what points to a container has the first name that fits
	? 2.0.1.10.in-addr.arpa PTR
		2.0.1.10.in-addr.arpa. 5 IN PTR ok.n.weft.local.
	? 3.0.1.10.in-addr.arpa PTR
		3.0.1.10.in-addr.arpa. 5 IN PTR second.n.weft.local.
	? _80._tcp.ok SRV
		_80._tcp.ok. 5 IN SRV 0 0 80 ok.n.weft.local.
		+ ok.n.weft.local. 5 IN A 10.1.0.2`)
	passed := map[string]string{}
	for _, e := range s.names.List(1) {
		passed[e.Name] = e.Passed
	}
	if passed[long] != "it has a label of more than 63 bytes" || passed["sp(ace"] != `'(' is no byte of a name` || passed["ok"] != "" || len(passed) != 8 {
		t.Errorf("the list says %q", passed)
	}
}

// TestLongNamesTakeLittleMemory: a name of many labels is above few others.
func TestLongNamesTakeLittleMemory(t *testing.T) {
	s := tell(t, `
	host a 192.168.0.1
	network n 10.1.0.0/24
	from n
	on n a `+strings.Repeat("x.", 100)+`b.c.d 10.1.0.2
	? c.d.weft.local A
		nxdomain weft.local.
	? `+strings.Repeat("x.", 99)+`b.c.d.weft.local A
		nodata weft.local.`)
	if n := len(s.names.networks[1].below); n != mostAbove {
		t.Errorf("it is counted above %d names", n)
	}
}

// TestOneNameOfVeryMany: the answer is bounded and fits into a TCP message.
func TestOneNameOfVeryMany(t *testing.T) {
	var text strings.Builder
	text.WriteString("host a 192.168.0.1\nnetwork n 10.0.0.0/8 fd00::/64\nfrom n\n")
	s := tell(t, text.String())
	pad := strings.Repeat(strings.Repeat("p", 60)+".", 3)
	for i := range 3000 {
		e := s.endpoint([]string{"n", "a", pad + "c" + strings.Repeat("0", i/1000) + string(rune('a'+i%26)) + word(i), "10.0.0.1", "fd00::1", "alias=all", "port=80/tcp"})
		e.V4, e.V6 = numbered(i)
		s.ends = append(s.ends, e)
	}
	s.changed, s.told = s.changed.WithEndpoints(s.ends...), false
	s.apply()
	for name, most := range map[string]int{"all": maxAddrs, "_80._tcp.all": maxServices} {
		for _, qtype := range []uint16{wire.TypeA, wire.TypeAAAA, wire.TypeSRV} {
			reply := s.names.Answer(s.from, new(wire.Msg).SetQuestion(name+".", qtype))
			if packed, err := reply.Pack(); err != nil || len(packed) > 65535 || len(reply.Answer) > most {
				t.Errorf("%s: %d records in %d bytes, %v", name, len(reply.Answer), len(packed), err)
			}
		}
	}
	s.names.cfg.Shuffle = rand.Shuffle
	answered := map[string]bool{}
	for range 100 {
		if all, _ := s.names.find(s.from, "all"); len(all) > mostFound {
			t.Fatalf("%d are found for one answer", len(all))
		}
		for _, rr := range s.names.Answer(s.from, new(wire.Msg).SetQuestion("all.", wire.TypeA)).Answer {
			answered[rr.String()] = true
		}
	}
	if len(answered) != len(s.ends) {
		t.Errorf("%d of %d ever answer", len(answered), len(s.ends))
	}
	passed := 0
	for _, e := range s.names.Explain(s.from, "all", wire.TypeA).Entries {
		if e.Passed == "very many have the name, and others answer this time" {
			passed++
		}
	}
	if passed != len(s.ends)-mostFound {
		t.Errorf("%d are said to be passed over", passed)
	}
	for _, e := range slices.Backward(s.ends) {
		s.names.Apply(s.view, netmap.Changes{Endpoints: []netmap.Changed[netmap.EndpointView]{{Old: &e}}})
	}
	w := s.names.networks[1]
	if len(w.bearers)+len(w.below)+len(w.holders) != 0 {
		t.Errorf("%d names, %d beneath others and %d addresses are left of containers that are gone", len(w.bearers), len(w.below), len(w.holders))
	}
}
