package dns

import "testing"

const world = `
	host a 192.168.0.1
	host b fd99::2
	network overlay 10.1.0.0/24 fd00:1::/64
	network back 10.2.0.0/24
	network six fd00:3::/64
	network my.net 10.4.0.0/24
	on overlay a db 10.1.0.2 fd00:1::2 alias=store hostname=dbhost short=0123456789ab app=/web/customer1/site1 port=5432/tcp port=53/udp
	on overlay b web 10.1.0.3 alias=store
	on back b web 10.2.0.3
	on six b six fd00:3::9
	on my.net a a.b 10.4.0.2
	from overlay
`

func TestAddressesOfNames(t *testing.T) {
	tell(t, world+`
	? db A
		db. 5 IN A 10.1.0.2
	? db AAAA
		db. 5 IN AAAA fd00:1::2
	? db.overlay A
		db.overlay. 5 IN A 10.1.0.2
	? db.overlay.weft.local A
		db.overlay.weft.local. 5 IN A 10.1.0.2
	? db.weft.local A
		db.weft.local. 5 IN A 10.1.0.2
	? dbhost A
		dbhost. 5 IN A 10.1.0.2
	? 0123456789ab.overlay A
		0123456789ab.overlay. 5 IN A 10.1.0.2
	? store A
		store. 5 IN A 10.1.0.2
		store. 5 IN A 10.1.0.3
	? store AAAA
		store. 5 IN AAAA fd00:1::2
	? DB.Overlay.WEFT.local A
		DB.Overlay.WEFT.local. 5 IN A 10.1.0.2
	? web AAAA
		nodata web.
	? db MX
		nodata db.
	? web.overlay.weft.local AAAA
		nodata weft.local.
	from six
	? six A
		nodata six.
	? six AAAA
		six. 5 IN AAAA fd00:3::9
	from my.net
	? a.b A
		a.b. 5 IN A 10.4.0.2
	? a.b.my.net A
		a.b.my.net. 5 IN A 10.4.0.2
	? a.b.my.net.weft.local A
		a.b.my.net.weft.local. 5 IN A 10.4.0.2`)
}

func TestWhatIsNotThere(t *testing.T) {
	tell(t, world+`
	? nothing A
		pass
	? nothing.overlay A
		pass
	? example.com A
		pass
	? nothing.weft.local A
		nxdomain weft.local.
	? nothing.overlay.weft.local AAAA
		nxdomain weft.local.
	# a container sees the networks that it is on, and no others
	? web.back A
		pass
	? web.back.weft.local A
		nxdomain weft.local.
	? back.weft.local A
		nxdomain weft.local.
	? weft.local A
		nodata weft.local.
	? weft.local SOA
		weft.local. 5 IN SOA weft.local. hostmaster.weft.local. 1 3600 600 86400 5
	? overlay.weft.local A
		nodata weft.local.
	? overlay A
		pass
	? hosts.weft.local A
		nodata weft.local.
	? notweft.local A
		pass
	? dbweft.local A
		pass
	? local A
		pass
	? customer1.web.weft.local A
		nodata weft.local.
	? customer1.web.overlay.weft.local A
		nodata weft.local.
	? customer1.web A
		pass
	from my.net
	? net.weft.local A
		nodata weft.local.
	? b.weft.local A
		nodata weft.local.
	? et.weft.local A
		nxdomain weft.local.`)
}

func TestNamesOnSeveralNetworks(t *testing.T) {
	s := tell(t, world+`
	from back overlay
	? web A
		web. 5 IN A 10.1.0.3
		web. 5 IN A 10.2.0.3
	? web.overlay A
		web.overlay. 5 IN A 10.1.0.3
	? web.back A
		web.back. 5 IN A 10.2.0.3
	? web.back.weft.local A
		web.back.weft.local. 5 IN A 10.2.0.3
	from *
	? web.back A
		web.back. 5 IN A 10.2.0.3
	? db A
		db. 5 IN A 10.1.0.2
	# several networks have it
	? web A
		pass
	? web.weft.local A
		nodata weft.local.`)
	s.from = Asker{Networks: []netID{2, 1}}
	if got := firstAddr(s, "web"); got != "10.2.0.3" {
		t.Errorf("an asker whose first network is back gets %s first", got)
	}
	s.from = Asker{Networks: []netID{1, 2}}
	if got := firstAddr(s, "web"); got != "10.1.0.3" {
		t.Errorf("an asker whose first network is overlay gets %s first", got)
	}
}

func TestTheFirstSourceAnswers(t *testing.T) {
	tell(t, `
	host a 192.168.0.1
	host b 192.168.0.2
	network n 10.1.0.0/24
	from n
	on n a one 10.1.0.1
	on n b two 10.1.0.2 alias=one
	on n b three 10.1.0.3 hostname=one
	on n b four 10.1.0.4 app=/one
	on n b four-two 10.1.0.5 short=one
	? one A
		one. 5 IN A 10.1.0.1
	off n a one
	? one A
		one. 5 IN A 10.1.0.2
	off n b two
	? one A
		one. 5 IN A 10.1.0.3
		one. 5 IN A 10.1.0.5
	off n b three
	off n b four-two
	? one A
		one. 5 IN A 10.1.0.4
	# what is declared down has no name
	on n a one 10.1.0.1
	down b
	off n a one
	? one A
		pass
	? one.weft.local A
		nxdomain weft.local.
	on n a five 10.1.0.6 alias=one
	? one A
		one. 5 IN A 10.1.0.6`)
}

func TestAppIDs(t *testing.T) {
	tell(t, world+`
	? site1.customer1.web A
		site1.customer1.web. 5 IN A 10.1.0.2
	? site1-customer1-web A
		site1-customer1-web. 5 IN A 10.1.0.2
	? site1.customer1.web.overlay A
		site1.customer1.web.overlay. 5 IN A 10.1.0.2
	? site1.customer1.web.weft.local A
		site1.customer1.web.weft.local. 5 IN A 10.1.0.2
	? site1-customer1-web.overlay.weft.local A
		site1-customer1-web.overlay.weft.local. 5 IN A 10.1.0.2`)
}

func TestServices(t *testing.T) {
	tell(t, world+`
	? _5432._tcp.db SRV
		_5432._tcp.db. 5 IN SRV 0 0 5432 db.overlay.weft.local.
		+ db.overlay.weft.local. 5 IN A 10.1.0.2
		+ db.overlay.weft.local. 5 IN AAAA fd00:1::2
	? _5432._tcp.store.overlay.weft.local SRV
		_5432._tcp.store.overlay.weft.local. 5 IN SRV 0 0 5432 db.overlay.weft.local.
		+ db.overlay.weft.local. 5 IN A 10.1.0.2
		+ db.overlay.weft.local. 5 IN AAAA fd00:1::2
	? _53._udp.db SRV
		_53._udp.db. 5 IN SRV 0 0 53 db.overlay.weft.local.
		+ db.overlay.weft.local. 5 IN A 10.1.0.2
		+ db.overlay.weft.local. 5 IN AAAA fd00:1::2
	? _53._udp.db A
		nodata _53._udp.db.
	? _53._tcp.db SRV
		pass
	? _53._tcp.db.weft.local SRV
		nxdomain weft.local.
	? _tcp.db.weft.local SRV
		nodata weft.local.
	? _sctp.db.weft.local SRV
		nxdomain weft.local.
	? _05432._tcp.db.weft.local SRV
		nxdomain weft.local.
	? _http._tcp.example.com SRV
		pass`)
	tell(t, `set local
	host a 192.168.0.1
	host b 192.168.0.2
	network n 10.1.0.0/24
	from n
	on n b one 10.1.0.1 alias=web port=80/tcp
	on n a two 10.1.0.2 alias=web port=80/tcp
	? _80._tcp.web SRV
		_80._tcp.web. 5 IN SRV 0 0 80 two.n.weft.local.
		_80._tcp.web. 5 IN SRV 1 0 80 one.n.weft.local.
		+ two.n.weft.local. 5 IN A 10.1.0.2
		+ one.n.weft.local. 5 IN A 10.1.0.1`)
}

func TestReverse(t *testing.T) {
	tell(t, world+`
	? 2.0.1.10.in-addr.arpa PTR
		2.0.1.10.in-addr.arpa. 5 IN PTR db.overlay.weft.local.
	? 2.0.1.10.IN-ADDR.arpa A
		nodata 0.1.10.IN-ADDR.arpa.
	? 2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa PTR
		2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. 5 IN PTR db.overlay.weft.local.
	? 99.0.1.10.in-addr.arpa PTR
		nxdomain 0.1.10.in-addr.arpa.
	# of another network, of nobody, no address
	? 3.0.2.10.in-addr.arpa PTR
		pass
	? 8.8.8.8.in-addr.arpa PTR
		pass
	? 02.0.1.10.in-addr.arpa PTR
		pass
	? 1.10.in-addr.arpa PTR
		pass
	? 1.2.ip6.arpa PTR
		pass
	from *
	? 3.0.2.10.in-addr.arpa PTR
		3.0.2.10.in-addr.arpa. 5 IN PTR web.back.weft.local.
	from overlay
	on overlay a unknown 10.1.0.9 nameless
	? 9.0.1.10.in-addr.arpa PTR
		pass
	down b
	? 3.0.1.10.in-addr.arpa PTR
		nxdomain 0.1.10.in-addr.arpa.`)
}

func TestHosts(t *testing.T) {
	tell(t, world+`
	host node1.corp 192.168.0.3
	host a 192.168.0.4
	network hosts 10.9.0.0/24
	on hosts a web 10.9.0.1
	from hosts
	? b.hosts.weft.local AAAA
		b.hosts.weft.local. 5 IN AAAA fd99::2
	? b.hosts.weft.local A
		nodata weft.local.
	? a.hosts.weft.local A
		a.hosts.weft.local. 5 IN A 192.168.0.1
		a.hosts.weft.local. 5 IN A 192.168.0.4
	? node1.corp.hosts.weft.local A
		node1.corp.hosts.weft.local. 5 IN A 192.168.0.3
	? corp.hosts.weft.local A
		nodata weft.local.
	? c.hosts.weft.local A
		nxdomain weft.local.
	? a.hosts A
		pass
	# beneath hosts there are hosts only
	? web.hosts A
		web.hosts. 5 IN A 10.9.0.1
	? web.hosts.weft.local A
		nxdomain weft.local.`)
}

func TestANYIsHINFO(t *testing.T) {
	tell(t, world+`
	? db ANY
		db. 5 IN HINFO "RFC8482" ""
	? weft.local ANY
		weft.local. 5 IN HINFO "RFC8482" ""
	? a.hosts.weft.local ANY
		a.hosts.weft.local. 5 IN HINFO "RFC8482" ""
	? _5432._tcp.db ANY
		_5432._tcp.db. 5 IN HINFO "RFC8482" ""
	? 2.0.1.10.in-addr.arpa ANY
		2.0.1.10.in-addr.arpa. 5 IN HINFO "RFC8482" ""
	? example.com ANY
		pass
	? nothing.weft.local ANY
		nxdomain weft.local.
	? overlay.weft.local ANY
		nodata weft.local.`)
}

func TestHealth(t *testing.T) {
	const two = `
	host a 192.168.0.1
	network n 10.1.0.0/24 fd00:1::/64
	from n
	on n a one 10.1.0.1 fd00:1::1 alias=web unhealthy
	on n a two 10.1.0.2 alias=web
	`
	tell(t, two+`
	? web A
		web. 5 IN A 10.1.0.1
		web. 5 IN A 10.1.0.2`)
	tell(t, `set health`+two+`
	? web A
		web. 5 IN A 10.1.0.2
	? one A
		one. 5 IN A 10.1.0.1
	? web AAAA
		web. 5 IN AAAA fd00:1::1`)
}

func TestNetworksWithoutAName(t *testing.T) {
	tell(t, `
	host a 192.168.0.1
	network . 10.1.0.0/24
	network old 10.2.0.0/24
	on . a db 10.1.0.2
	on old a web 10.2.0.2
	from . old
	? db A
		db. 5 IN A 10.1.0.2
	? db.weft.local A
		db.weft.local. 5 IN A 10.1.0.2
	? 2.0.1.10.in-addr.arpa PTR
		2.0.1.10.in-addr.arpa. 5 IN PTR db.weft.local.
	? web.old A
		web.old. 5 IN A 10.2.0.2
	retire old
	? web.old A
		pass
	? web A
		web. 5 IN A 10.2.0.2
	? web.weft.local A
		web.weft.local. 5 IN A 10.2.0.2`)
}
