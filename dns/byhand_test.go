package dns

import "testing"

func TestNamesAddedByHand(t *testing.T) {
	tell(t, world+`
	hand overlay nas 192.0.2.7
	hand overlay nas 2001:db8::7
	hand overlay nas 192.0.2.8
	hand back nas 192.0.2.7
	hand overlay db 192.0.2.9
	hand overlay vip 10.1.0.200
	? nas A
		nas. 5 IN A 192.0.2.7
		nas. 5 IN A 192.0.2.8
	? nas.overlay.weft.local AAAA
		nas.overlay.weft.local. 5 IN AAAA 2001:db8::7
	? nas TXT
		nodata nas.
	# the last of the sources
	? db A
		db. 5 IN A 10.1.0.2
	? 200.0.1.10.in-addr.arpa PTR
		200.0.1.10.in-addr.arpa. 5 IN PTR vip.overlay.weft.local.
	? 7.2.0.192.in-addr.arpa PTR
		pass
	? _80._tcp.nas.weft.local SRV
		nxdomain weft.local.
	? _tcp.nas.weft.local SRV
		nxdomain weft.local.
	from overlay back
	? nas A
		nas. 5 IN A 192.0.2.7
		nas. 5 IN A 192.0.2.8
	? nas.back A
		nas.back. 5 IN A 192.0.2.7
	from six
	? nas A
		pass
	from overlay
	off overlay a db
	? db A
		db. 5 IN A 192.0.2.9
	unhand overlay nas 192.0.2.7
	? nas A
		nas. 5 IN A 192.0.2.8
	unhand overlay nas 192.0.2.8
	unhand overlay nas 2001:db8::7
	? nas A
		pass`)
}

func TestNamesAddedByHandAreListed(t *testing.T) {
	s := tell(t, world+`
	off overlay a db
	hand overlay db 192.0.2.9
	hand overlay vip 10.1.0.200
	from overlay`)
	s.apply()
	if x := s.names.Explain(s.from, "db", 1); len(x.Entries) != 1 || x.Entries[0].Source != "added by hand" {
		t.Errorf("db is explained by %+v", x)
	}
	if x := s.names.Explain(s.from, "200.0.1.10.in-addr.arpa", 12); len(x.Entries) != 1 || x.Entries[0].Source != "added by hand" {
		t.Errorf("an address is explained by %+v", x)
	}
	var listed []string
	for _, e := range s.names.List(1) {
		if e.Source == "added by hand" {
			listed = append(listed, e.Name+" "+e.Addrs[0].String())
		}
	}
	if len(listed) != 2 || listed[0] != "db 192.0.2.9" || listed[1] != "vip 10.1.0.200" {
		t.Errorf("listed: %q", listed)
	}
}
