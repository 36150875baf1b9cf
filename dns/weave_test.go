package dns

import "testing"

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
		nxdomain weft.local.`)
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
