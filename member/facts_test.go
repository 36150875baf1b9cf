package member

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

type viewed struct {
	Gossip
	view *netmap.View
}

func (v viewed) View() *netmap.View { return v.view }

// TestTheFactsHaveAllThatTheLedgerDecides: a ledger that is recovered from the facts of a host
// would forget what they leave out.
func TestTheFactsHaveAllThatTheLedgerDecides(t *testing.T) {
	cluster, host := netmap.ID{0xc}, netmap.ID{1}
	subnet := netip.MustParsePrefix("10.40.0.0/24")
	s, index := state.NewState(), uint64(0)
	do := func(c state.Command) state.Reply {
		index++
		c.Host, c.Start, c.Nonce = host, 1, 1
		r, _ := s.Apply(index, c)
		if r.Refusal != nil {
			t.Fatal(r.Refusal)
		}
		return r
	}
	do(state.Command{Kind: state.KindFound, Found: &state.Found{Cluster: cluster, Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}}})
	do(state.Command{Kind: state.KindAdmit, Admit: &state.Admit{Name: "a"}})
	do(state.Command{Kind: state.KindEnsureSubnet, EnsureSubnet: &state.EnsureSubnet{Want: subnet, BlockBits: 28}})
	do(state.Command{Kind: state.KindClaim, Claim: &state.Claim{Subnet: subnet, Addr: netip.MustParseAddr("10.40.0.99")}})
	do(state.Command{Kind: state.KindGrantBlock, GrantBlock: &state.GrantBlock{Subnet: subnet}})
	n := do(state.Command{Kind: state.KindEnsureNetwork, EnsureNetwork: &state.EnsureNetwork{Subnets: []netip.Prefix{subnet}, Name: "web"}}).Network
	do(state.Command{Kind: state.KindAddName, AddName: &state.AddName{Name: netmap.StaticName{Network: n.ID, Name: "nas", Addr: netip.MustParseAddr("192.0.2.7")}}})

	m := netmap.NewMap(cluster)
	records, err := netmap.RecordsOf(index, s.Changes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(netmap.Batch{Origin: cluster, Life: 1, Whole: true, Seq: index, Records: records}); err != nil {
		t.Fatal(err)
	}
	got := (&Member{cluster: Cluster{Gossip: viewed{view: m.View()}}}).ledgerFacts().Changes
	want := s.Changes()
	kinds := map[netmap.Kind]bool{}
	for _, list := range [][]netmap.Change{got, want} {
		slices.SortFunc(list, func(a, b netmap.Change) int { return a.Key.Compare(b.Key) })
		for _, c := range list {
			kinds[c.Key.Kind] = true
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the facts are\n%v\nand the ledger has decided\n%v", got, want)
	}
	for k := netmap.KindHostFact; k <= netmap.KindStaticName; k++ {
		if k.Decided() != kinds[k] {
			t.Errorf("records of kind %s: %v", k, kinds[k])
		}
	}
}
