package exact_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/api"
)

// leave runs `weft host leave`. Later the machine becomes a new host, by `weft host new-identity` or
// with an empty disk.
func (w *world) leave(m *machine) bool {
	if !m.serves() || m.twin || m.shady || m.n == 1 || w.members() < 4 {
		return false
	}
	do, ctx := m.leaves(w.chance(60)), m.life.ctx
	go func() {
		err := do(ctx)
		w.arrive(m.n, "2 host leave", func() {
			w.note("%s: host leave: %v", m, err)
			if err == nil {
				w.meet("operator told that a host has left")
			}
		})
	}()
	return true
}

// leaves returns a function that runs `weft host leave`.
func (m *machine) leaves(force bool) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := m.life.agent.Leave(ctx, api.Departure{Force: force})
		return err
	}
}

// returns lets operators make a new host of one that has left.
func (m *machine) returns() {
	w, l := m.w, m.life
	if w.chance(50) || !w.ledger.spare(m) {
		go func() {
			_, err := l.agent.NewIdentity(l.ctx, api.IdentityReset{Force: true})
			w.arrive(m.n, "2 host new-identity", func() { w.note("%s: host new-identity: %v", m, err) })
		}()
		return
	}
	w.meet("cleaned up after it left")
	m.powerOff()
	m.wipe()
	w.after(w.between(10*time.Millisecond, time.Second), m.powerOn)
}

// left reports whether the identity of a machine has left the cluster.
func (m *machine) left() bool { return m.w.ledger.removed[m.identity()].left }

// vacateFor is how long the leader remembers that a keeper asked to be replaced.
const vacateFor = 10 * time.Second

// vacating reports whether a keeper has asked to be replaced.
func (l *ledgerLog) vacating(m *machine) bool {
	at, ok := l.vacate[m]
	return ok && l.w.now()-at < vacateFor
}

// Vacate implements plugin.Ledger.
func (a *asker) Vacate(ctx context.Context) error {
	w, m := a.life.m.w, a.life.m
	for n := 1; ; n++ {
		gone := make(chan bool, 1)
		w.arrive(m.n, fmt.Sprintf("ledger: wants to vacate, %d", n), func() {
			l := w.ledger
			if l.leader != nil && w.path(m, l.leader) && !w.chance(w.style.loss) {
				l.vacate[m] = w.now()
			}
			gone <- !slices.Contains(l.keepers, m) || len(l.heard)-len(l.removed) <= 1
		})
		select {
		case done := <-gone:
			if done {
				return nil
			}
		case <-a.life.off:
			return errPower
		}
		again := time.NewTimer(time.Second)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return errors.Join(errNobody, ctx.Err())
		case <-a.life.off:
			again.Stop()
			return errPower
		}
	}
}

// Leave implements plugin.Gossip.
func (f *facts) Leave() error {
	w, m := f.life.m.w, f.life.m
	w.arrive(m.n, "says goodbye", func() {
		f.gone = true
		for _, o := range w.machines {
			if o != m && o.serves() && w.path(m, o) {
				o.life.facts.failed[m] = 1
				o.life.facts.miss(m)
			}
		}
	})
	return nil
}
