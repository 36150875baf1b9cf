package dns

import "testing"

// TestHostsThatAreOnNetworks answer with their addresses on the network that the asker shares with
// them, and are found by these.
func TestHostsThatAreOnNetworks(t *testing.T) {
	tell(t, world+`
	network hosts 10.9.0.0/24 fd09::/64
	network next 10.10.0.0/24
	on hosts a itself 10.9.0.254 fd09::254 itself
	on next a itself 10.10.0.254 itself
	on next b itself 10.77.0.1 itself
	from next hosts
	? a.hosts.weft.local A
		a.hosts.weft.local. 5 IN A 10.10.0.254
	? a.hosts.weft.local AAAA
		nodata weft.local.
	from hosts
	? a.hosts.weft.local A
		a.hosts.weft.local. 5 IN A 10.9.0.254
	? a.hosts.weft.local AAAA
		a.hosts.weft.local. 5 IN AAAA fd09::254
	? 254.0.9.10.in-addr.arpa PTR
		254.0.9.10.in-addr.arpa. 5 IN PTR a.hosts.weft.local.
	# an address outside the network is not believed
	from next
	? b.hosts.weft.local AAAA
		b.hosts.weft.local. 5 IN AAAA fd99::2
	# who is on no network with the host asks the underlay, as the host itself does
	from overlay
	? a.hosts.weft.local A
		a.hosts.weft.local. 5 IN A 192.168.0.1
	from *
	? a.hosts.weft.local A
		a.hosts.weft.local. 5 IN A 192.168.0.1
	off hosts a itself itself
	from hosts
	? a.hosts.weft.local A
		a.hosts.weft.local. 5 IN A 192.168.0.1
	? 254.0.9.10.in-addr.arpa PTR
		nxdomain 0.9.10.in-addr.arpa.`)
}
