package ledger

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
)

// TestKeepersCountSilenceByThemselves: from when they applied the last renewal, on
// the clock that nobody sets; a keeper that starts again counts anew.
func TestKeepersCountSilenceByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{state: state.NewState(), publish: func(Decision) {}, leads: func() bool { return false }}
		index := uint64(0)
		apply := func(c state.Command) state.Reply {
			t.Helper()
			index++
			c.Start, c.Nonce = 1, 7
			b, err := state.EncodeCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			r, ok := m.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: b}).(state.Reply)
			if !ok {
				t.Fatalf("%s was not applied", c.Kind)
			}
			return r
		}
		silence := func(h int) time.Duration {
			r := m.witness(&state.Remove{Target: hostID(h), Unheard: 1 << 40, Since: 99})
			return time.Duration(r.Unheard) * time.Millisecond
		}
		apply(state.Command{Kind: state.KindFound, Host: hostID(1), Found: &state.Found{Cluster: clusterID}})
		for h := 1; h <= 2; h++ {
			apply(state.Command{Kind: state.KindAdmit, Host: hostID(h), Admit: &state.Admit{Name: "h"}})
		}
		time.Sleep(time.Hour)
		apply(state.Command{Kind: state.KindRenew, Host: hostID(1)})
		apply(state.Command{Kind: state.KindEnsureSubnet, Host: hostID(2), EnsureSubnet: &state.EnsureSubnet{}}) // no renewal
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
		restored := &machine{state: state.NewState(), publish: func(Decision) {}, leads: func() bool { return false }}
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
		r := m.witness(&state.Remove{Target: hostID(2)})
		if got := apply(state.Command{Kind: state.KindRemove, Host: hostID(1), Remove: r}); got.Refusal != nil {
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
	b, ok := snap.(raftlog.Frozen)
	if !ok {
		t.Fatalf("a snapshot of another kind: %T", snap)
	}
	return io.NopCloser(bytes.NewReader(b))
}
