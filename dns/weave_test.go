package dns

import (
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

// The behaviour of Weave's DNS, by the numbers of its smoke tests, where it is a matter of names
// and answers.

func TestWeave200ForwardAndReverse(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one seetwo 10.2.1.34
	from weave
	? seetwo.weft.local A
		seetwo.weft.local. 5 IN A 10.2.1.34
	? 34.1.2.10.in-addr.arpa PTR
		34.1.2.10.in-addr.arpa. 5 IN PTR seetwo.weave.weft.local.`)
}

func TestWeave210OneNameOnThreeHosts(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	host two 192.168.0.2
	host three 192.168.0.3
	network weave 10.2.1.0/24
	on weave one c1 10.2.1.1 hostname=seetwo
	on weave two c1 10.2.1.2 hostname=seetwo
	on weave three c1 10.2.1.3 hostname=seetwo
	from weave
	? seetwo A
		seetwo. 5 IN A 10.2.1.1
		seetwo. 5 IN A 10.2.1.2
		seetwo. 5 IN A 10.2.1.3
	off weave two c1
	? seetwo A
		seetwo. 5 IN A 10.2.1.1
		seetwo. 5 IN A 10.2.1.3
	on weave two c1 10.2.1.2 hostname=seetwo
	? seetwo A
		seetwo. 5 IN A 10.2.1.1
		seetwo. 5 IN A 10.2.1.2
		seetwo. 5 IN A 10.2.1.3`)
}

// TestWeave215StaleFactsResurrectNobody: what was said before a name went comes late.
func TestWeave215StaleFactsResurrectNobody(t *testing.T) {
	cluster, host := netmap.ID{0xc}, netmap.ID{1}
	net := netmap.Network{ID: 5, Name: "weave", Subnets: []netip.Prefix{netip.MustParsePrefix("10.2.1.0/24")}}
	e := netmap.Endpoint{ID: "c2", Network: 5, V4: netip.MustParseAddr("10.2.1.34"), Name: "seetwo"}
	writer, m := netmap.NewMap(cluster), netmap.NewMap(cluster)
	n, from := New(Config{}), Asker{Networks: []netID{5}}
	var last *netmap.View
	apply := func(batches ...netmap.Batch) {
		for _, b := range batches {
			if _, err := m.Apply(b); err != nil {
				t.Fatal(err)
			}
		}
		n.Apply(m.View(), m.View().Since(last))
		last = m.View()
	}
	said := func(seq uint64, changes ...netmap.Change) netmap.Batch {
		records, err := netmap.RecordsOf(seq, changes)
		if err != nil {
			t.Fatal(err)
		}
		return netmap.Batch{Origin: host, Life: 1, Prev: seq - 1, Seq: seq, Records: records}
	}
	if _, err := writer.Append(cluster, 1, []netmap.Change{{Key: netmap.NetworkKey(5), Value: net}}); err != nil {
		t.Fatal(err)
	}
	records, err := netmap.RecordsOf(1, []netmap.Change{{Key: netmap.NetworkKey(5), Value: net}})
	if err != nil {
		t.Fatal(err)
	}
	apply(netmap.Batch{Origin: cluster, Life: 1, Whole: true, Seq: 1, Records: records})
	var facts []netmap.Change
	for key, value := range e.Facts() {
		facts = append(facts, netmap.Change{Key: key, Value: value})
	}
	first := said(1, facts...)
	apply(first)
	if got := addressesOf(n, from, "seetwo", false); got != "10.2.1.34" {
		t.Fatalf("seetwo is %q", got)
	}
	apply(said(2, netmap.Change{Key: netmap.EndpointKey("c2")}, netmap.Change{Key: netmap.NameKey("c2")}))
	apply(first)
	if got := addressesOf(n, from, "seetwo", false); got != "pass" {
		t.Errorf("seetwo is %q after its end", got)
	}
}

func TestWeave220CustomDomain(t *testing.T) {
	tell(t, `set domain=foo.bar
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one seetwo 10.2.1.34
	from weave
	? seetwo.foo.bar A
		seetwo.foo.bar. 5 IN A 10.2.1.34
	? 34.1.2.10.in-addr.arpa PTR
		34.1.2.10.in-addr.arpa. 5 IN PTR seetwo.weave.foo.bar.
	? nothing.foo.bar A
		nxdomain foo.bar.
	? seetwo.weft.local A
		pass
	? bar A
		pass`)
}

func TestWeave225Subdomain(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one c2 10.2.1.34 hostname=seetwo.sub
	from weave
	? seetwo.sub.weft.local A
		seetwo.sub.weft.local. 5 IN A 10.2.1.34
	? seetwo.sub A
		seetwo.sub. 5 IN A 10.2.1.34
	? sub.weft.local A
		nodata weft.local.`)
}

func TestWeave230Unqualified(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one seetwo 10.2.1.34
	from weave
	? seetwo A
		seetwo. 5 IN A 10.2.1.34`)
}

func TestWeave240NamesComeAndGo(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one c 10.2.1.34
	from weave
	? name1 A
		pass
	off weave one c
	on weave one c 10.2.1.34 alias=name1 alias=name2
	? name1 A
		name1. 5 IN A 10.2.1.34
	? name2 A
		name2. 5 IN A 10.2.1.34
	off weave one c
	on weave one c 10.2.1.34 alias=name2
	? name1 A
		pass
	? name2 A
		name2. 5 IN A 10.2.1.34`)
}

func TestWeave245Case(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one SeeTwo 10.2.1.34
	from weave
	? seetwo A
		seetwo. 5 IN A 10.2.1.34
	? SEETWO.Weft.Local A
		SEETWO.Weft.Local. 5 IN A 10.2.1.34`)
}

func TestWeave250Negative(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one seetwo 10.2.1.34
	from weave
	? seetwo.weft.local MX
		nodata weft.local.
	? seetwo.weft.local AAAA
		nodata weft.local.
	? foo.weft.local A
		nxdomain weft.local.
	? foo.weft.local MX
		nxdomain weft.local.`)
}

func TestWeave260RemovalOnDeath(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	host two 192.168.0.2
	network weave 10.2.1.0/24
	on weave one c1 10.2.1.1 alias=seetwo
	on weave two c2 10.2.1.2 alias=seetwo
	from weave
	down two
	? seetwo A
		seetwo. 5 IN A 10.2.1.1
	? c2.weft.local A
		nxdomain weft.local.
	# this host itself never is
	down one
	? seetwo A
		seetwo. 5 IN A 10.2.1.1`)
}

func TestWeave265ReverseOfSeveralNames(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one c2 10.2.1.34 alias=foo alias=bar hostname=baz
	from weave
	? 34.1.2.10.in-addr.arpa PTR
		34.1.2.10.in-addr.arpa. 5 IN PTR c2.weave.weft.local.`)
}

func TestWeave290Fallback(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	from weave
	? www.weave.works A
		pass
	? 8.8.8.8.in-addr.arpa PTR
		pass`)
}

func TestWeave270HostnameIsAName(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network weave 10.2.1.0/24
	on weave one c1 10.2.1.34 hostname=seeone.weft.local
	on weave one c2 10.2.1.35 hostname=db.example.com
	from weave
	? c1.weft.local A
		c1.weft.local. 5 IN A 10.2.1.34
	? db.example.com A
		db.example.com. 5 IN A 10.2.1.35
	? example.com A
		pass
	# a hostname that has the domain is the name without it
	? seeone A
		seeone. 5 IN A 10.2.1.34
	? seeone.weft.local A
		seeone.weft.local. 5 IN A 10.2.1.34`)
}

func TestWeave295LargeAnswers(t *testing.T) {
	view := crowd(120)
	n := New(Config{})
	for e := range view.Endpoints() {
		e.Names = &netmap.EndpointName{Endpoint: e.ID, Name: "large"}
		n.Apply(view, netmap.Changes{Endpoints: []netmap.Changed[netmap.EndpointView]{{New: &e}}})
	}
	n.Apply(view, netmap.Changes{Networks: view.Since(nil).Networks})
	reply := n.Answer(Asker{Networks: []netID{1}}, new(wire.Msg).SetQuestion("large.", wire.TypeA))
	if len(reply.Answer) != 120 || reply.Truncated {
		t.Errorf("%d addresses, truncated %v", len(reply.Answer), reply.Truncated)
	}
	whole, err := reply.Pack()
	if err != nil || len(whole) > 120*16+40 {
		t.Errorf("%d bytes, %v: names are to be compressed", len(whole), err)
	}
	reply.Truncate(512)
	if packed, err := reply.Pack(); err != nil || len(packed) > 512 || !reply.Truncated || len(reply.Answer) < 20 {
		t.Errorf("for UDP: %d bytes, truncated %v, %d addresses, %v", len(packed), reply.Truncated, len(reply.Answer), err)
	}
}

// What Docker documents of its own resolver: aliases are of one network, and several containers
// may have one.
func TestDockerAliasesAreOfOneNetwork(t *testing.T) {
	tell(t, `
	host one 192.168.0.1
	network front 10.1.0.0/24
	network back 10.2.0.0/24
	on front one c 10.1.0.2 alias=api
	on back one c 10.2.0.2 alias=db
	on back one d 10.2.0.3 alias=db
	from front
	? api A
		api. 5 IN A 10.1.0.2
	? db A
		pass
	? c A
		c. 5 IN A 10.1.0.2
	from back
	? db A
		db. 5 IN A 10.2.0.2
		db. 5 IN A 10.2.0.3
	? api A
		pass
	from front back
	? c.back A
		c.back. 5 IN A 10.2.0.2`)
}
