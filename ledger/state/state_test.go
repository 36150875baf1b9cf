package state

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
)

// cluster drives a State with one command after the other.
type cluster struct {
	t     testing.TB
	state *State
	index uint64
	at    int64
	last  []netmap.Change
}

var clusterID = netmap.ClusterID{0xc1, 0x02, 0x03, 0x04, 0x05, 0x06}

func hostID(n int) netmap.HostID { return netmap.HostID{byte(n), 0xaa, byte(n >> 8)} }

func pfx(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// newCluster is founded, with hosts 1 to n admitted as host-1 and so on.
func newCluster(t testing.TB, n int, ranges ...string) *cluster {
	c := &cluster{t: t, state: NewState()}
	var f Found
	f.Cluster = clusterID
	for _, r := range ranges {
		f.Ranges = append(f.Ranges, pfx(r))
	}
	if len(ranges) == 0 {
		f.Ranges = []netip.Prefix{pfx("10.32.0.0/12")}
	}
	c.ok(Command{Kind: KindFound, Host: hostID(1), Found: &f})
	for i := 1; i <= n; i++ {
		c.admit(i)
	}
	return c
}

func (c *cluster) admit(i int) Reply {
	return c.ok(Command{Kind: KindAdmit, Host: hostID(i), Start: 1, Nonce: 7, Admit: &Admit{Name: "host-" + string(rune('0'+i))}})
}

// do applies a command and checks that the facts told add up to the state.
func (c *cluster) do(cmd Command) Reply {
	c.t.Helper()
	before := factsOf(c.state.Changes())
	if cmd.Start == 0 && cmd.Kind != KindFound {
		cmd.Start, cmd.Nonce = 1, 7
	}
	if cmd.At == 0 {
		cmd.At = c.at
	}
	if cmd.Leader == 0 {
		cmd.Leader = netmap.MaxLevel
	}
	c.index += 3 // raft's own entries take indexes as well
	reply, changes := c.state.Apply(c.index, cmd)
	c.last = changes
	for _, ch := range changes {
		if ch.Value == nil {
			delete(before, ch.Key)
		} else {
			before[ch.Key] = ch.Value
		}
	}
	if diff := cmp.Diff(factsOf(c.state.Changes()), before, exact); diff != "" {
		c.t.Fatalf("%s: changes do not lead to the state (-state +told):\n%s", cmd.Kind, diff)
	}
	if err := c.state.Verify(); err != nil {
		c.t.Fatalf("%s: %v", cmd.Kind, err)
	}
	if reply.Refusal != nil && len(changes) > 0 {
		c.t.Fatalf("%s was refused and changed %v", cmd.Kind, changes)
	}
	return reply
}

var exact = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func factsOf(changes []netmap.Change) map[netmap.Key]any {
	out := map[netmap.Key]any{}
	for _, c := range changes {
		out[c.Key] = c.Value
	}
	return out
}

func (c *cluster) ok(cmd Command) Reply {
	c.t.Helper()
	r := c.do(cmd)
	if r.Refusal != nil {
		c.t.Fatalf("%s was refused: %s (%s)", cmd.Kind, r.Refusal.Text, r.Refusal.Kind)
	}
	return r
}

// refused checks the kind of a refusal and that it names what it should.
func (c *cluster) refused(cmd Command, kind netmap.RefusalKind, names ...string) Reply {
	c.t.Helper()
	r := c.do(cmd)
	if r.Refusal == nil || r.Refusal.Kind != kind {
		c.t.Fatalf("%s: got %+v, want a refusal %q", cmd.Kind, r.Refusal, kind)
	}
	for _, n := range names {
		if !strings.Contains(r.Refusal.Text, n) {
			c.t.Errorf("%s: %q does not name %q", cmd.Kind, r.Refusal.Text, n)
		}
	}
	return r
}

// ensure wants a subnet. A /24 has sixteen blocks of /28, which tests name.
func ensure(h int, want string) Command {
	e := EnsureSubnet{Want: pfx(want)}
	if e.Want.Bits() == 24 {
		e.BlockBits = 28
	}
	return Command{Kind: KindEnsureSubnet, Host: hostID(h), EnsureSubnet: &e}
}

func grant(h int, subnet string) Command {
	return Command{Kind: KindGrantBlock, Host: hostID(h), GrantBlock: &GrantBlock{Subnet: pfx(subnet)}}
}

func claimOf(h int, subnet, addr string) Command {
	return Command{Kind: KindClaim, Host: hostID(h), Claim: &Claim{Subnet: pfx(subnet), Addr: ip(addr)}}
}

func reserveOf(h int, subnet, name, addr string) Command {
	r := &Reserve{Subnet: pfx(subnet), Name: name}
	if addr != "" {
		r.Addr = ip(addr)
	}
	return Command{Kind: KindReserve, Host: hostID(h), Reserve: r}
}

func networkOf(h int, e EnsureNetwork) Command {
	return Command{Kind: KindEnsureNetwork, Host: hostID(h), EnsureNetwork: &e}
}

func TestFounding(t *testing.T) {
	c := newCluster(t, 0)
	ranges := factsOf(c.state.Changes())
	if _, ok := ranges[netmap.RangeKey(pfx("fdc1:203:405::/48"))]; !ok || len(ranges) != 2 {
		t.Errorf("ranges after founding: %v, want a ULA derived from the cluster id", ranges)
	}
	f := &Found{Cluster: clusterID, Ranges: []netip.Prefix{pfx("10.32.0.0/12")}}
	c.ok(Command{Kind: KindFound, Host: hostID(2), Found: f})
	other := netmap.ClusterID{9}
	c.refused(Command{Kind: KindFound, Host: hostID(2), Found: &Found{Cluster: other}}, netmap.Foreign, other.String(), clusterID.String())
	c.refused(Command{Kind: KindAdmit, Cluster: other, Host: hostID(2), Start: 1, Admit: &Admit{}}, netmap.Foreign, other.String(), clusterID.String())
}

func TestFoundingIsRefused(t *testing.T) {
	for name, f := range map[string]Found{
		"no id":              {},
		"overlapping ranges": {Cluster: clusterID, Ranges: []netip.Prefix{pfx("10.0.0.0/8"), pfx("10.32.0.0/12")}},
		"host bits":          {Cluster: clusterID, Ranges: []netip.Prefix{netip.PrefixFrom(ip("10.32.0.1"), 12)}},
		"multicast":          {Cluster: clusterID, Ranges: []netip.Prefix{pfx("239.0.0.0/8")}},
		"no prefix":          {Cluster: clusterID, Ranges: []netip.Prefix{{}}},
	} {
		c := &cluster{t: t, state: NewState()}
		if r := c.do(Command{Kind: KindFound, Host: hostID(1), Found: &f}); r.Refusal == nil {
			t.Errorf("%s: founded", name)
		}
		c.refused(Command{Kind: KindRenew, Host: hostID(1)}, netmap.Unknown)
	}
}

func TestMembership(t *testing.T) {
	c := newCluster(t, 2)
	if h := c.ok(Command{Kind: KindRenew, Host: hostID(2)}).Host; h.Index != 2 || h.Name != "host-2" {
		t.Errorf("host 2 is %+v", h)
	}
	c.refused(Command{Kind: KindRenew, Host: hostID(3)}, netmap.Unknown, hostID(3).Short())
	c.admit(2)
	if len(c.last) != 0 {
		t.Errorf("admitted again, and it changed %v", c.last)
	}
	c.refused(Command{Kind: KindAdmit, Host: hostID(3), Start: 1, Admit: &Admit{Name: "a\nb"}}, netmap.BadInput)
	if h := c.admit(3).Host; h.Index != 3 {
		t.Errorf("index %d", h.Index)
	}
}

func TestClonesAndOldDisksAreFenced(t *testing.T) {
	c := newCluster(t, 1)
	start := func(kind Kind, start, nonce uint64, earlier ...Incarnation) Command {
		cmd := Command{Kind: kind, Host: hostID(1), Start: start, Nonce: nonce}
		if kind == KindAdmit {
			cmd.Admit = &Admit{Name: "host-1", Earlier: earlier}
		}
		return cmd
	}
	c.refused(start(KindRenew, 1, 8), netmap.Fenced, "host-1", "start 1", "nonce")
	c.refused(start(KindAdmit, 1, 8), netmap.Fenced, "two machines")
	c.refused(start(KindRenew, 2, 9), netmap.Unknown, "admitted again")
	c.ok(start(KindAdmit, 2, 9, Incarnation{1, 7}))
	c.refused(start(KindRenew, 1, 7), netmap.Fenced, "old copy")
	c.refused(start(KindAdmit, 1, 7), netmap.Fenced, "old copy")
	c.ok(start(KindRenew, 2, 9))
	// An old disk that is started until its number is the greatest.
	c.refused(start(KindAdmit, 3, 5, Incarnation{2, 6}, Incarnation{1, 7}), netmap.Fenced, "does not know start 2")
	c.ok(start(KindAdmit, 5, 1, Incarnation{4, 4}, Incarnation{3, 3}, Incarnation{2, 9}))
	c.ok(start(KindAdmit, 6, 1)) // earlier starts unknown
}

func TestRemovedHostsOwnNothing(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, "10.40.0.0/24"))
	c.ok(ensure(2, "10.40.0.0/24"))
	n := c.ok(networkOf(2, EnsureNetwork{Subnets: []netip.Prefix{pfx("10.40.0.0/24")}})).Network
	b := c.ok(grant(2, "10.40.0.0/24")).Block
	c.ok(claimOf(2, "10.40.0.0/24", "10.40.0.200"))
	remove := Command{Kind: KindRemove, Host: hostID(1), Remove: &Remove{Target: hostID(2)}}
	c.refused(remove, netmap.Held, "host-2", "lease", "--is-off")
	remove.Remove.Since, remove.Remove.Unheard = c.state.hosts[hostID(2)].Heard, (lease.Length + lease.Slack).Milliseconds()
	c.ok(remove)
	c.ok(remove) // twice is one decision
	if len(c.last) != 0 {
		t.Errorf("removing twice changed %v", c.last)
	}
	c.refused(Command{Kind: KindRenew, Host: hostID(2)}, netmap.Removed, "host-2", "new host")
	c.refused(Command{Kind: KindAdmit, Host: hostID(2), Start: 9, Admit: &Admit{Name: "back"}}, netmap.Removed)
	c.refused(grant(2, "10.40.0.0/24"), netmap.Removed)
	c.refused(Command{Kind: KindRemove, Host: hostID(1), Remove: &Remove{Target: hostID(5)}}, netmap.Unknown)
	facts := factsOf(c.state.Changes())
	for _, key := range []netmap.Key{netmap.NetworkKey(n.ID), netmap.BlockKey(b.Prefix), netmap.ClaimKey(ip("10.40.0.200"))} {
		if facts[key] != nil {
			t.Errorf("%s is still there", key)
		}
	}
	// What was a removed host's is given out last.
	if got := c.ok(grant(1, "10.40.0.0/24")).Block; got.Prefix == b.Prefix {
		t.Errorf("block %s of the removed host was given out while others were never used", got.Prefix)
	}
}

func TestIsOffRemovesAtOnce(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(Command{Kind: KindRemove, Host: hostID(1), Remove: &Remove{Target: hostID(2), IsOff: true}})
}

func TestRequestsHaveNoSecondEffect(t *testing.T) {
	c := newCluster(t, 1)
	c.ok(ensure(1, "10.40.0.0/24"))
	first := grant(1, "10.40.0.0/24")
	first.Request, first.LowestOpen = 1, 1
	one := c.ok(first)
	if diff := cmp.Diff(one, c.ok(first), exact); diff != "" || len(c.last) != 0 {
		t.Errorf("a repeated request was answered differently:\n%s", diff)
	}
	second := grant(1, "10.40.0.0/24")
	second.Request, second.LowestOpen = 2, 1
	if two := c.ok(second); two.Block.Prefix == one.Block.Prefix {
		t.Error("a new request got the old answer")
	}
	third := Command{Kind: KindReturnBlock, Host: hostID(1), Request: 3, LowestOpen: 3, ReturnBlock: &ReturnBlock{Block: one.Block.Prefix, Epoch: one.Block.Epoch}}
	c.ok(third)
	c.refused(first, netmap.BadInput, "too late")
	// A new start numbers from 1 again.
	c.ok(Command{Kind: KindAdmit, Host: hostID(1), Start: 2, Nonce: 1, Admit: &Admit{Name: "host-1"}})
	first.Start, first.Nonce = 2, 1
	c.ok(first)
	for i := range uint64(2 * MaxAnswered) {
		c.ok(Command{Kind: KindRenew, Host: hostID(1), Start: 2, Nonce: 1, Request: i + 2})
	}
	if n := len(c.state.hosts[hostID(1)].session.answered); n > MaxAnswered {
		t.Errorf("%d answers kept", n)
	}
}

func TestReplayedIndexChangesNothing(t *testing.T) {
	c := newCluster(t, 1)
	before, err := c.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, changes := c.state.Apply(c.index, ensure(1, "10.40.0.0/24"))
	after, err := c.state.Encode()
	if err != nil || r.Refusal == nil || changes != nil || string(before) != string(after) {
		t.Errorf("a replay was answered %+v and changed %v, %v", r, changes, err)
	}
}

func TestCommandsThatMakeNoSense(t *testing.T) {
	c := newCluster(t, 1)
	for _, cmd := range []Command{
		{Kind: "steal", Host: hostID(1)}, {Kind: KindGrantBlock, Host: hostID(1)}, {Kind: KindRenew}, {},
	} {
		c.refused(cmd, netmap.BadInput)
	}
}

func TestReplyErr(t *testing.T) {
	if err := (Reply{}).Err(); err != nil {
		t.Errorf("no refusal is the error %v", err)
	}
	err := Reply{Refusal: netmap.Refuse(netmap.Held, "x")}.Err()
	if !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}) {
		t.Errorf("got %v", err)
	}
}
