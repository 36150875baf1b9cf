package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// guard is a table of nftables in the overlay namespace that drops what a container says about the address of another endpoint, by ARP or
// by ND. In the words of nft(8):
//
//	table bridge weft {
//	  set held4 { type ipv4_addr }            # the addresses of all endpoints that this host knows
//	  set held6 { type ipv6_addr }
//	  set own4 { type ifname . ipv4_addr }    # those of this host, with the port that each is behind
//	  set own6 { type ifname . ipv6_addr }
//	  chain said { type filter hook prerouting priority -300
//	    meta protocol arp     iifname "wfp*" iifname . arp saddr ip != @own4 arp saddr ip @held4 drop
//	    meta protocol ip6     iifname "wfp*" icmpv6 type 136 iifname . icmpv6 taddr != @own6 icmpv6 taddr @held6 drop
//	    meta protocol ip6     iifname "wfp*" icmpv6 type 135 iifname . ip6 saddr != @own6 ip6 saddr @held6 drop
//	    meta protocol 8021q   iifname "wfp*" drop
//	    meta protocol 8021ad  iifname "wfp*" drop
//	  }
//	}
//
// The kernel takes a frame's outer tag off before. One with two would reach the container as it is, which takes off tags of VLAN 0.
// Frames of other hosts come by the tunnel and were looked at there.
type guard struct {
	conn *nftables.Conn
	sets map[string]*nftables.Set
}

const guardTable = "weft"

// guardBatch is how many elements are sent with one transaction.
const guardBatch = 500

// openGuard finds the table, or makes it if it may: then it must be filled. Without one it returns nil.
func openGuard(ns int, mayMake bool) (g *guard, err error) {
	conn, err := nftables.New(nftables.WithNetNSFd(ns), nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	g = &guard{conn: conn, sets: map[string]*nftables.Set{}}
	missing, err := g.missing()
	if err == nil && missing && !mayMake {
		return nil, g.close()
	}
	if err == nil {
		err = g.make(missing)
	}
	if err == nil && missing {
		err = conn.Flush()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nftables table bridge %s: %w", guardTable, err), g.close())
	}
	return g, nil
}

func (g *guard) close() error { return g.conn.CloseLasting() }

// missing reports whether the table is not there.
func (g *guard) missing() (bool, error) {
	tables, err := g.conn.ListTablesOfFamily(nftables.TableFamilyBridge)
	return !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == guardTable }), err
}

// make describes the sets, and makes the table if it is to be fresh. A later release with other rules needs a table of another name.
func (g *guard) make(fresh bool) error {
	table := &nftables.Table{Name: guardTable, Family: nftables.TableFamilyBridge}
	if fresh {
		g.conn.AddTable(table)
	}
	for name, kind := range map[string]nftables.SetDatatype{"held4": nftables.TypeIPAddr, "held6": nftables.TypeIP6Addr} {
		own, err := nftables.ConcatSetType(nftables.TypeIFName, kind)
		if err != nil {
			return err
		}
		g.sets[name] = &nftables.Set{Table: table, Name: name, KeyType: kind}
		name = "own" + name[4:]
		g.sets[name] = &nftables.Set{Table: table, Name: name, KeyType: own, Concatenation: true}
	}
	if !fresh {
		return nil
	}
	for _, set := range g.sets {
		if err := g.conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	chain := g.conn.AddChain(&nftables.Chain{
		Table: table, Name: "said", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: new(nftables.ChainPriority(-300)),
	})
	for _, rule := range rules() {
		g.conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}
	return nil
}

// rules are those of guard.
func rules() (out [][]expr.Any) {
	network, transport := expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	is := func(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
	from := func(protocol uint16) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, is(byte(protocol>>8), byte(protocol)),
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, is([]byte(datapath.OuterPrefix)...),
		}
	}
	// Register 1 has 16 bytes, and so has a name; register 2 follows.
	others := func(family string, base expr.PayloadBase, offset, size uint32) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Payload{DestRegister: 2, Base: base, Offset: offset, Len: size},
			&expr.Lookup{SourceRegister: 1, SetName: "own" + family, Invert: true},
			&expr.Lookup{SourceRegister: 2, SetName: "held" + family},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}
	}
	message := func(kind byte) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, is(unix.IPPROTO_ICMPV6),
			&expr.Payload{DestRegister: 1, Base: transport, Offset: 0, Len: 1}, is(kind),
		}
	}
	return [][]expr.Any{
		slices.Concat(from(unix.ETH_P_ARP), others("4", network, 14, 4)),
		slices.Concat(from(unix.ETH_P_IPV6), message(advertisement), others("6", transport, 8, 16)),
		slices.Concat(from(unix.ETH_P_IPV6), message(solicitation), others("6", network, 8, 16)),
		append(from(unix.ETH_P_8021Q), &expr.Verdict{Kind: expr.VerdictDrop}),
		append(from(unix.ETH_P_8021AD), &expr.Verdict{Kind: expr.VerdictDrop}),
	}
}

// element is one of a set.
type element struct {
	set string
	key string
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

func heldElement(a netip.Addr) element { return element{"held" + family(a), string(a.AsSlice())} }

func ownElement(port string, a netip.Addr) element {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, port)
	return element{"own" + family(a), string(name) + string(a.AsSlice())}
}

// add and remove change sets. What is there already, or is not there, is no error.
func (g *guard) add(all []element) error { return g.change(all, g.conn.SetAddElements) }

func (g *guard) remove(all []element) error {
	err := g.change(all, g.conn.SetDeleteElements)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	var errs []error
	for _, one := range all { // the transaction has changed nothing
		if err := g.change([]element{one}, g.conn.SetDeleteElements); !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (g *guard) change(all []element, how func(*nftables.Set, []nftables.SetElement) error) error {
	for some := range slices.Chunk(all, guardBatch) {
		bySet := map[string][]nftables.SetElement{}
		for _, e := range some {
			bySet[e.set] = append(bySet[e.set], nftables.SetElement{Key: []byte(e.key)})
		}
		for name, elements := range bySet {
			if err := how(g.sets[name], elements); err != nil {
				return err
			}
		}
		if err := g.conn.Flush(); err != nil {
			return fmt.Errorf("nftables table bridge %s: %w", guardTable, err)
		}
	}
	return nil
}

// guarded returns the guard, nil if there is none. Only who fills it may make it: it would drop what is rightful of ports that it does not
// know. Where it cannot be made that is noted: forged announcements are not worth a network that does not work.
func (k *Kernel) guarded(mayMake bool) *guard {
	if k.guard != nil || k.unguarded || k.overlay == nil {
		return k.guard
	}
	g, err := openGuard(k.overlay.ns.Fd(), mayMake)
	if err != nil {
		k.unguarded = true
		k.notes = append(k.notes, fmt.Sprintf("linux: %v (a container can forge what others know about addresses)", err))
	}
	k.guard = g
	return g
}

// forgetGuard has the table looked for again, and filled with the next Set.
func (k *Kernel) forgetGuard() error {
	g := k.guard
	k.guard, k.unguarded, k.filled = nil, false, false
	if g == nil {
		return nil
	}
	return g.close()
}

// guardLost reports whether the guard has to be filled again, since the table is gone or could not be changed.
func (k *Kernel) guardLost() (bool, error) {
	if k.guard == nil {
		return k.lostGuard, nil
	}
	if gone, err := k.guard.missing(); !gone || err != nil {
		return false, err
	}
	k.lostGuard = true
	return true, k.forgetGuard()
}

// guardEntries does what operations on neighbours mean for the guard.
func (k *Kernel) guardEntries(ops []datapath.Op) {
	var add, remove []element
	for _, op := range ops {
		switch {
		case op.Object != datapath.ANeighbour:
		case op.Verb == datapath.Add:
			add = append(add, heldElement(op.Addr))
		default:
			remove = append(remove, heldElement(op.Addr))
		}
	}
	k.tellGuard(add, remove)
}

// guardPort says which addresses are behind a port, or are no longer.
func (k *Kernel) guardPort(verb datapath.Verb, p datapath.Port) {
	var own []element
	for _, a := range []netip.Addr{p.V4, p.V6} {
		if a.IsValid() {
			own = append(own, ownElement(datapath.OuterName(p.Endpoint), a))
		}
	}
	if verb == datapath.Add {
		k.tellGuard(own, nil)
		return
	}
	k.tellGuard(nil, own)
}

func (k *Kernel) tellGuard(add, remove []element) {
	if len(add)+len(remove) == 0 {
		return
	}
	g := k.guarded(false)
	if g == nil {
		return
	}
	if errors.Join(g.remove(remove), g.add(add)) != nil {
		k.lostGuard = true
		_ = k.forgetGuard() // what is wrong shows when it is filled
	}
}

// fillGuard has the guard know what a state says. What it knows beyond goes with the first state that is not partial: it is of an
// earlier agent.
func (k *Kernel) fillGuard(want datapath.State, report *Report) error {
	g := k.guarded(true)
	if g == nil {
		k.lostGuard = false
		return nil
	}
	if !want.Keep {
		for _, set := range g.sets {
			g.conn.FlushSet(set)
		}
	}
	var some []element
	flush := func(least int) error {
		if len(some) < least {
			return nil
		}
		err := g.add(some)
		some = some[:0]
		return err
	}
	for _, held := range []bool{false, true} { // the own ones first: without them nothing of theirs would pass
		for _, n := range want.Networks {
			ports := portsOf(n)
			for _, one := range n.Neighbours {
				if port, local := ports[one.MAC]; held {
					some = append(some, heldElement(one.Addr))
				} else if local {
					some = append(some, ownElement(port, one.Addr))
				}
				if err := flush(guardBatch); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(0); err != nil {
		return err
	}
	k.filled = !want.Keep
	if k.lostGuard {
		k.lostGuard = false
		report.Done++
	}
	return nil
}

// portsOf returns the ports of this host's endpoints on a network by MAC.
func portsOf(n datapath.Network) map[netmap.MAC]string {
	out := map[netmap.MAC]string{}
	for _, b := range n.Bridging {
		if b.Port != n.VXLAN {
			out[b.MAC] = b.Port
		}
	}
	return out
}
