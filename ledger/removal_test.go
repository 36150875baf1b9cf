package ledger

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

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

// TestKeepersCountSilenceByThemselves: from when they applied the last renewal, on
// the clock that nobody sets; a keeper that starts again counts anew.
func TestKeepersCountSilenceByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{state: NewState(), publish: func(Decision) {}, leads: func() bool { return false }}
		index := uint64(0)
		apply := func(c Command) Reply {
			t.Helper()
			index++
			c.Start, c.Nonce = 1, 7
			b, err := EncodeCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			r, ok := m.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: b}).(Reply)
			if !ok {
				t.Fatalf("%s was not applied", c.Kind)
			}
			return r
		}
		silence := func(h int) time.Duration {
			r := m.witness(&Remove{Target: hostID(h), Unheard: 1 << 40, Since: 99})
			return time.Duration(r.Unheard) * time.Millisecond
		}
		apply(Command{Kind: KindFound, Host: hostID(1), Found: &Found{Cluster: clusterID}})
		for h := 1; h <= 2; h++ {
			apply(Command{Kind: KindAdmit, Host: hostID(h), Admit: &Admit{Name: "h"}})
		}
		time.Sleep(time.Hour)
		apply(Command{Kind: KindRenew, Host: hostID(1)})
		apply(Command{Kind: KindEnsureSubnet, Host: hostID(2), EnsureSubnet: &EnsureSubnet{}}) // no renewal
		time.Sleep(time.Hour)
		if a, b, c := silence(1), silence(2), silence(3); a != time.Hour || b != 2*time.Hour || c != 0 {
			t.Errorf("silent for %v, %v and, unknown, %v; want 1h, 2h and 0", a, b, c)
		}
		if got := m.overdue(2 * time.Hour); len(got) != 1 || got[0] != hostID(2) {
			t.Errorf("overdue are %v", got)
		}

		snap, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		restored := &machine{state: NewState(), publish: func(Decision) {}, leads: func() bool { return false }}
		if err := restored.Restore(pipe(t, snap)); err != nil {
			t.Fatal(err)
		}
		if err := m.Restore(pipe(t, snap)); err != nil {
			t.Fatal(err)
		}
		if got := silence(2); got != 2*time.Hour {
			t.Errorf("a keeper that knew it all counts %v after a snapshot", got)
		}
		m = restored
		if got := silence(2); got != 0 {
			t.Errorf("a new keeper counts %v", got)
		}
		time.Sleep(lease.Length + lease.Slack)
		r := m.witness(&Remove{Target: hostID(2)})
		if got := apply(Command{Kind: KindRemove, Host: hostID(1), Remove: r}); got.Refusal != nil {
			t.Errorf("after its lease: %v", got.Refusal)
		}
		if got := m.overdue(0); len(got) != 1 || got[0] != hostID(1) {
			t.Errorf("of the members that are left, overdue are %v", got)
		}
	})
}

// pipe is a snapshot as raft hands it to Restore.
func pipe(t *testing.T, snap raft.FSMSnapshot) io.ReadCloser {
	t.Helper()
	b, ok := snap.(frozen)
	if !ok {
		t.Fatalf("a snapshot of another kind: %T", snap)
	}
	return io.NopCloser(bytes.NewReader(b))
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
