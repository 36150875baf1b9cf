package takeover

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tableName = "weft-dns"
	chainName = "output"
	mapName   = "live"
	dnsPort   = 53
)

// docker is the address of Docker's resolver in every container.
var docker = []byte{127, 0, 0, 11}

// transport is what differs between UDP and TCP.
type transport struct {
	protocol byte
	checksum uint32 // its place in the header
	port     uint16 // of the server
}

// ruleset is, in the words of nft(8), for servers at ports U and T:
//
//	table ip weft-dns {
//	  map live { type inet_proto : inet_service; flags timeout; elements = { udp timeout 15s : U, tcp timeout 15s : T } }
//	  chain output {
//	    type filter hook output priority -300; policy accept
//	    ip saddr 127.0.0.11 udp sport U udp sport set 53 notrack accept
//	    ip saddr 127.0.0.11 tcp sport T tcp sport set 53 notrack accept
//	    meta mark 0x77656674 accept
//	    ip daddr 127.0.0.11 udp dport 53 udp dport set meta l4proto map @live notrack
//	    ip daddr 127.0.0.11 tcp dport 53 tcp dport set meta l4proto map @live notrack
//	  }
//	}
//
// Priority -300 is ahead of conntrack and of Docker's rules. A rule whose map has no element
// ends there, so that the packet stays as it is and goes to Docker.
type ruleset struct {
	table      *nftables.Table
	chain      *nftables.Chain
	live       *nftables.Set
	transports []transport
	lifetime   time.Duration
}

func newRuleset(udp, tcp uint16, lifetime time.Duration) ruleset {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
	return ruleset{
		table: table,
		chain: &nftables.Chain{
			Table: table, Name: chainName, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw,
		},
		live: &nftables.Set{
			ID:    1, // the library would count them for all connections, without a lock
			Table: table, Name: mapName, IsMap: true, HasTimeout: true,
			KeyType: nftables.TypeInetProto, DataType: nftables.TypeInetService,
		},
		transports: []transport{{unix.IPPROTO_UDP, 6, udp}, {unix.IPPROTO_TCP, 16, tcp}},
		lifetime:   lifetime,
	}
}

// add adds the table, in place of one that may be there.
func (r ruleset) add(c *nftables.Conn) error {
	c.AddTable(r.table)
	c.DelTable(r.table)
	c.AddTable(r.table)
	c.AddChain(r.chain)
	var elements []nftables.SetElement
	for _, t := range r.transports {
		elements = append(elements, nftables.SetElement{Key: []byte{t.protocol}, Val: port(t.port), Timeout: r.lifetime})
	}
	if err := c.AddSet(r.live, elements); err != nil {
		return err
	}
	rule := func(exprs ...expr.Any) {
		c.AddRule(&nftables.Rule{Table: r.table, Chain: r.chain, Exprs: exprs})
	}
	for _, t := range r.transports {
		rule(t.answer()...)
	}
	rule(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(binaryutil.NativeEndian.PutUint32(Mark)), accept)
	for _, t := range r.transports {
		rule(t.query(r.live)...)
	}
	return nil
}

// answer makes the server's answers come from port 53.
func (t transport) answer() []expr.Any {
	const saddr, sport = 12, 0 // offsets
	return append(t.match(saddr, sport, t.port),
		&expr.Immediate{Register: 1, Data: port(dnsPort)},
		t.setPort(sport), &expr.Notrack{}, accept)
}

// query makes queries to port 53 go to the server's port, as long as the map has it.
func (t transport) query(live *nftables.Set) []expr.Any {
	const daddr, dport = 16, 2 // offsets
	return append(t.match(daddr, dport, dnsPort),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: live.Name, SetID: live.ID},
		t.setPort(dport), &expr.Notrack{})
}

func (t transport) match(addrOffset, portOffset uint32, number uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: addrOffset, Len: 4},
		equal(docker),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		equal([]byte{t.protocol}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
		equal(port(number)),
	}
}

// setPort writes the port in register 1 into the header.
func (t transport) setPort(offset uint32) expr.Any {
	return &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1,
		Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2,
		CsumType: expr.CsumTypeInet, CsumOffset: t.checksum,
	}
}

var accept = &expr.Verdict{Kind: expr.VerdictAccept}

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}
}

func port(n uint16) []byte { return binaryutil.BigEndian.PutUint16(n) }
