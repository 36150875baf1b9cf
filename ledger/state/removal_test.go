package state

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/netmap"
)

func TestRemovalWaitsForTheLease(t *testing.T) {
	const long = lease.Length + lease.Slack
	for name, c := range map[string]struct {
		by, target int
		isOff      bool
		unheard    time.Duration
		renews     bool // after the leader's observation began
		want       netmap.RefusalKind
		names      []string
	}{
		"a lease that ran out":        {by: 1, target: 2, unheard: long},
		"one that did not":            {by: 1, target: 2, unheard: long - time.Hour, want: netmap.Held, names: []string{"host-2", "1h0m0s", "--is-off"}},
		"just not":                    {by: 1, target: 2, unheard: long - time.Millisecond, want: netmap.Held},
		"nothing is known":            {by: 1, target: 2, want: netmap.Held, names: []string{"24h10m0s"}},
		"a renewal came in between":   {by: 1, target: 2, unheard: long, renews: true, want: netmap.Held},
		"the operator's word":         {by: 1, target: 2, isOff: true},
		"his word, and it has spoken": {by: 1, target: 2, isOff: true, renews: true},
		"itself":                      {by: 2, target: 2, isOff: true, want: netmap.BadInput, names: []string{"another host"}},
		"nobody":                      {by: 1, target: 9, isOff: true, want: netmap.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 2)
			r := &Remove{Target: hostID(c.target), IsOff: c.isOff, Unheard: c.unheard.Milliseconds(), Since: cl.state.hosts[hostID(2)].Heard}
			if c.renews {
				cl.ok(Command{Kind: KindRenew, Host: hostID(2)})
			}
			cmd := Command{Kind: KindRemove, Host: hostID(c.by), Remove: r}
			if c.want != "" {
				cl.refused(cmd, c.want, c.names...)
				cl.ok(Command{Kind: KindRenew, Host: hostID(2)}) // it is still there
				return
			}
			cl.ok(cmd)
			cl.ok(cmd) // by another operator at the same moment: one decision
			if len(cl.last) != 0 {
				t.Errorf("the second removal changed %v", cl.last)
			}
			cl.refused(Command{Kind: KindRenew, Host: hostID(2)}, netmap.Removed)
		})
	}
}

// TestWhatARemovedHostHeldIsGivenOutLast: the next owner of its block is told, however
// often it asks, also by a keeper that was restored; not the one after that.
func TestWhatARemovedHostHeldIsGivenOutLast(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, "10.40.0.0/24"))
	c.ok(ensure(2, "10.40.0.0/24"))
	b := c.ok(grant(2, "10.40.0.0/24")).Blocks[0]
	other := c.ok(grant(1, "10.40.0.0/24")).Blocks[0]
	inside, elsewhere := b.Prefix.Addr().Next().Next(), other.Prefix.Addr().Next().Next()
	c.ok(Command{Kind: KindRemove, Host: hostID(1), Remove: &Remove{Target: hostID(2), IsOff: true, Held: []netip.Addr{inside, elsewhere, ip("192.0.2.1")}}})
	for range 2 {
		raw, err := c.state.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c.state, err = DecodeState(raw); err != nil {
			t.Fatal(err)
		}
		again := grant(1, "10.40.0.0/24")
		again.GrantBlock.Within, again.GrantBlock.Have = b.Prefix, true
		r := c.ok(again)
		if len(r.Blocks) != 1 || r.Blocks[0].Prefix != b.Prefix || !slices.Equal(r.Late, []netip.Addr{inside}) {
			t.Errorf("granted %v, late %v; want %s and late %s", r.Blocks, r.Late, b.Prefix, inside)
		}
	}
	c.ok(Command{Kind: KindReturnBlock, Host: hostID(1), ReturnBlock: &ReturnBlock{Block: b.Prefix, Epoch: c.state.subnets[pfx("10.40.0.0/24")].blocks[b.Prefix].Epoch}})
	once := grant(1, "10.40.0.0/24")
	once.GrantBlock.Within = b.Prefix
	if r := c.ok(once); len(r.Late) != 0 {
		t.Errorf("late is %v still", r.Late)
	}
}
