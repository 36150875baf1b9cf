package hostnet

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
)

// gateway is Docker's bridge for the egress and the published ports of containers on Weft's networks.
const gateway = "docker_gwbridge"

// tableName is that of Weft's table in the host's namespace.
const tableName = "weft"

// statusDNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const statusDNAT = 1 << 5

// chain is one chain with one rule.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rule     []expr.Any
}

// chains are, in the words of nft(8):
//
//	table inet weft {
//	  chain back    { type filter hook prerouting priority -150; ct mark 0x77656674 meta mark set 0x77656674 }
//	  chain publish { type filter hook prerouting priority -90; iifname "wfc*" ct status dnat ct mark set 0x77656674 meta mark set 0x77656674 }
//	  chain mask    { type nat hook postrouting priority 90; oifname "docker_gwbridge" meta mark 0x77656674 masquerade }
//	}
//
// Docker translates at -100 and 100. Packets of connections that were translated are routed by
// their mark.
func chains() []chain {
	marked := func(key expr.MetaKey) []expr.Any {
		return []expr.Any{&expr.Meta{Key: key, Register: 1}, equal(markBytes)}
	}
	setMark := []expr.Any{&expr.Immediate{Register: 1, Data: markBytes}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}
	return []chain{
		{"back", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150, append([]expr.Any{
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, equal(markBytes),
		}, setMark...)},
		{"publish", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -90, append([]expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal([]byte(datapath.InnerPrefix)),
			&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(statusDNAT), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			&expr.Immediate{Register: 1, Data: markBytes}, &expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1},
		}, setMark...)},
		{"mask", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 90, append([]expr.Any{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(append([]byte(gateway), make([]byte, unix.IFNAMSIZ-len(gateway))...)),
		}, append(marked(expr.MetaKeyMARK), &expr.Masq{})...)},
	}
}

var markBytes = binaryutil.NativeEndian.PutUint32(mark)

func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// publish makes the table exist, complete, or not exist.
func (h *Host) publish(wanted bool, r *Report) error {
	have, err := h.published()
	if err != nil && !wanted {
		return nil // a kernel without nftables has no table of ours
	}
	if wanted { // Docker makes its bridge when it likes
		changed, trust := h.trustMark(gateway)
		if changed {
			r.Done++
		}
		err = cmp.Or(err, trust)
	}
	if err != nil || have == wanted {
		return err
	}
	c, err := nftables.New(nftables.WithNetNSFd(h.ns.Fd()))
	if err != nil {
		return fmt.Errorf("hostnet: nftables: %w", err)
	}
	t := c.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
	c.DelTable(t)
	if wanted {
		c.AddTable(t)
		for _, one := range chains() {
			to := c.AddChain(&nftables.Chain{Table: t, Name: one.name, Type: one.kind, Hooknum: one.hook, Priority: new(one.priority)})
			c.AddRule(&nftables.Rule{Table: t, Chain: to, Exprs: one.rule})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("hostnet: nftables table inet %s: %w", tableName, err)
	}
	r.Done++
	return nil
}

// published reports whether the table is there with its chains, each with its rule. Parts of a
// table count as one that is not there.
func (h *Host) published() (complete bool, err error) {
	c, err := nftables.New(nftables.WithNetNSFd(h.ns.Fd()))
	if err != nil {
		return false, fmt.Errorf("hostnet: nftables: %w", err)
	}
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("hostnet: list chains: %w", err)
	}
	for _, want := range chains() {
		i := slices.IndexFunc(all, func(o *nftables.Chain) bool {
			return o.Table.Name == tableName && o.Name == want.name && o.Hooknum != nil
		})
		if i < 0 {
			return false, nil
		}
		rules, err := c.GetRules(all[i].Table, all[i])
		if err != nil || len(rules) != 1 || len(rules[0].Exprs) != len(want.rule) {
			return false, err
		}
	}
	return true, nil
}
