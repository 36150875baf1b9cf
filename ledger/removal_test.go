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

// applied is a keeper's machine that applies commands in order.
type applied struct {
	*machine
	t     *testing.T
	index uint64
}

func newMachine() *machine {
	return &machine{state: state.NewState(), publish: func(Decision) {}, leads: func() bool { return false }}
}

func (a *applied) apply(c state.Command) state.Reply {
	a.t.Helper()
	a.index++
	c.Start, c.Nonce = 1, 7
	b, err := state.EncodeCommand(c)
	if err != nil {
		a.t.Fatal(err)
	}
	r, ok := a.Apply(&raft.Log{Index: a.index, Type: raft.LogCommand, Data: b}).(state.Reply)
	if !ok {
		a.t.Fatalf("%s was not applied", c.Kind)
	}
	return r
}

// silence is for how long the keeper has not heard of a host.
func (a *applied) silence(h int) time.Duration {
	r := a.witness(&state.Remove{Target: hostID(h), Unheard: 1 << 40, Since: 99})
	return time.Duration(r.Unheard) * time.Millisecond
}

// overdueIs checks that of the members one host alone is overdue.
func (a *applied) overdueIs(h int, after time.Duration) {
	a.t.Helper()
	if got := a.overdue(after); len(got) != 1 || got[0] != hostID(h) {
		a.t.Errorf("overdue are %v, want host %d", got, h)
	}
}

// restore has a machine go on from a snapshot.
func restore(t *testing.T, m *machine, snap raft.FSMSnapshot) {
	t.Helper()
	if err := m.Restore(pipe(t, snap)); err != nil {
		t.Fatal(err)
	}
}

// TestKeepersCountSilenceByThemselves: from when they applied the last renewal, on
// the clock that nobody sets; a keeper that starts again counts anew.
func TestKeepersCountSilenceByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &applied{machine: newMachine(), t: t}
		a.apply(state.Command{Kind: state.KindFound, Host: hostID(1), Found: &state.Found{Cluster: clusterID}})
		for h := 1; h <= 2; h++ {
			a.apply(state.Command{Kind: state.KindAdmit, Host: hostID(h), Admit: &state.Admit{Name: "h"}})
		}
		time.Sleep(time.Hour)
		a.apply(state.Command{Kind: state.KindRenew, Host: hostID(1)})
		a.apply(state.Command{Kind: state.KindEnsureSubnet, Host: hostID(2), EnsureSubnet: &state.EnsureSubnet{}}) // no renewal
		time.Sleep(time.Hour)
		if one, two, unknown := a.silence(1), a.silence(2), a.silence(3); one != time.Hour || two != 2*time.Hour || unknown != 0 {
			t.Errorf("silent for %v, %v and, unknown, %v; want 1h, 2h and 0", one, two, unknown)
		}
		a.overdueIs(2, 2*time.Hour)

		snap, err := a.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		restore(t, a.machine, snap)
		if got := a.silence(2); got != 2*time.Hour {
			t.Errorf("a keeper that knew it all counts %v after a snapshot", got)
		}
		a.machine = newMachine()
		restore(t, a.machine, snap)
		if got := a.silence(2); got != 0 {
			t.Errorf("a new keeper counts %v", got)
		}
		time.Sleep(lease.Length + lease.Slack)
		r := a.witness(&state.Remove{Target: hostID(2)})
		if got := a.apply(state.Command{Kind: state.KindRemove, Host: hostID(1), Remove: r}); got.Refusal != nil {
			t.Errorf("after its lease: %v", got.Refusal)
		}
		a.overdueIs(1, 0)
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
