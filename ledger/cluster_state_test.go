package ledger

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// cluster decides one command after the other, as a keeper that is never behind.
type cluster struct {
	t     testing.TB
	state *state.State
	index uint64
}

const web = "10.40.0.0/24"

var clusterID = netmap.ClusterID{0xc1, 0x02, 0x03, 0x04, 0x05, 0x06}

func hostID(n int) netmap.HostID { return netmap.HostID{byte(n), 0xaa} }

// newCluster is founded, with hosts 1 to n admitted.
func newCluster(t testing.TB, n int) *cluster {
	c := &cluster{t: t, state: state.NewState()}
	c.ok(state.Command{Kind: state.KindFound, Host: hostID(1), Found: &state.Found{Cluster: clusterID, Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}}})
	for i := 1; i <= n; i++ {
		c.ok(state.Command{Kind: state.KindAdmit, Host: hostID(i), Admit: &state.Admit{Name: "host"}})
	}
	return c
}

func (c *cluster) do(cmd state.Command) state.Reply {
	c.index++
	cmd.Start, cmd.Nonce = 1, 7
	r, _ := c.state.Apply(c.index, cmd)
	return r
}

func (c *cluster) ok(cmd state.Command) state.Reply {
	c.t.Helper()
	r := c.do(cmd)
	if r.Refusal != nil {
		c.t.Fatalf("%s: %v", cmd.Kind, r.Refusal)
	}
	return r
}

func (c *cluster) refused(cmd state.Command, kind netmap.RefusalKind, word string) {
	c.t.Helper()
	if r := c.do(cmd); r.Refusal == nil || r.Refusal.Kind != kind || !strings.Contains(r.Refusal.Text, word) {
		c.t.Errorf("%s: %v, want %s with %q", cmd.Kind, r.Refusal, kind, word)
	}
}

func ensure(n int, subnet string) state.Command {
	return state.Command{Kind: state.KindEnsureSubnet, Host: hostID(n), EnsureSubnet: &state.EnsureSubnet{Want: netip.MustParsePrefix(subnet)}}
}

func grant(n int, subnet string) state.Command {
	return state.Command{Kind: state.KindGrantBlock, Host: hostID(n), GrantBlock: &state.GrantBlock{Subnet: netip.MustParsePrefix(subnet)}}
}

// TestNothingIsToldBeforeTheFounding: a request may overtake the founder's.
func TestNothingIsToldBeforeTheFounding(t *testing.T) {
	told := 0
	l := &Ledger{cfg: Config{OnChange: func(Decision) { told++ }}}
	l.publish(Decision{Index: 2})
	l.publish(Decision{Index: 3, Cluster: netmap.ClusterID{1}, Generation: 1})
	if told != 1 {
		t.Errorf("%d decisions were told, want the founding alone", told)
	}
}
