package exact_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/founding"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/turn"
)

// asker is one agent's connection to the ledger. It implements plugin.Ledger.
type asker struct {
	plugin.Ledger // what is not used here
	life          *life
	cfg           ledger.Config
	admit         turn.Turn
	admitted      bool
	cluster       netmap.ClusterID

	// Used by the world's goroutine only:
	last uint64
	open []uint64
	keep int // decisions that this keeper applied, -1: it is none
	ears map[netmap.HostID]hearing
}

// question is one request on its way.
type question struct {
	life *life
	cmd  state.Command
	open bool
	done chan state.Reply
}

// doLimit is that of ledger.Do.
const doLimit = 4500 * time.Millisecond

var errNobody = netmap.Refuse(netmap.NoQuorum, "nothing can be decided now: a majority of the keepers did not answer")

// Do implements plugin.Ledger with the promises of ledger.Do.
func (a *asker) Do(ctx context.Context, cmd state.Command) (state.Reply, error) {
	if err := a.beAdmitted(ctx); err != nil {
		return state.Reply{}, err
	}
	return a.ask(ctx, cmd)
}

func (a *asker) beAdmitted(ctx context.Context) error {
	end, err := a.admit.WaitWithin(ctx)
	if err != nil {
		return errNobody
	}
	defer end()
	if !a.admitted {
		_, err = a.Admit(ctx)
	}
	return err
}

// Admit implements plugin.Ledger.
func (a *asker) Admit(ctx context.Context) (state.Reply, error) {
	r, err := a.ask(ctx, state.Command{Kind: state.KindAdmit, Admit: &state.Admit{Name: a.cfg.Name, Addr: a.cfg.Addr, Level: state.Level, Earlier: a.cfg.Earlier}})
	if err == nil {
		a.admitted = true
	}
	return r, err
}

// Found implements plugin.Ledger.
func (a *asker) Found(ctx context.Context, cluster netmap.ClusterID, ranges []netip.Prefix) (state.Reply, error) {
	return a.FoundTogether(ctx, founding.Plan{Cluster: cluster, Ranges: ranges, Keepers: []founding.Keeper{{ID: a.cfg.Self}}})
}

// FoundTogether implements plugin.Ledger.
func (a *asker) FoundTogether(ctx context.Context, p founding.Plan) (state.Reply, error) {
	w, m := a.life.m.w, a.life.m
	a.cluster = p.Cluster
	began := make(chan struct{})
	w.arrive(m.n, "0 founds "+p.Cluster.String(), func() {
		w.ledger.found(m, p)
		close(began)
	})
	<-began
	if _, err := a.ask(ctx, state.Command{Kind: state.KindFound, Found: &state.Found{Cluster: p.Cluster, Ranges: p.Ranges}}); err != nil {
		return state.Reply{}, err
	}
	return a.Admit(ctx)
}

// Cluster implements plugin.Ledger.
func (a *asker) Cluster() netmap.ClusterID { return a.cluster }

// Announced implements plugin.Ledger: whoever keeps the ledger is known here.
func (a *asker) Announced([]netmap.HostID) {}

// Status implements plugin.Ledger.
func (a *asker) Status() ledger.Status {
	role := "none"
	if a.life.m.keeps {
		role = "follower"
	}
	return ledger.Status{Cluster: a.cluster, Role: role}
}

// Close implements plugin.Ledger.
func (a *asker) Close() error { return nil }

func (a *asker) ask(ctx context.Context, cmd state.Command) (state.Reply, error) {
	if ctx.Err() != nil {
		return state.Reply{}, errNobody
	}
	if _, ok := ctx.Deadline(); !ok {
		limited, cancel := context.WithTimeout(ctx, doLimit)
		defer cancel()
		ctx = limited
	}
	w := a.life.m.w
	cmd.Host, cmd.Start, cmd.Nonce, cmd.Cluster = a.cfg.Self, a.cfg.Start, a.cfg.Nonce, a.cluster
	q := &question{life: a.life, cmd: cmd, open: true, done: make(chan state.Reply, 1)}
	words, err := json.Marshal(cmd)
	if err != nil {
		return state.Reply{}, err
	}
	w.arrive(a.life.m.n, "ledger "+string(words), func() { w.ledger.take(q) })
	select {
	case r := <-q.done:
		if a.cluster.IsZero() && r.Refusal == nil {
			a.cluster = r.Cluster
		}
		return r, r.Err()
	case <-ctx.Done():
		w.arrive(a.life.m.n, fmt.Sprintf("ledger: gives up %s", words), func() { a.close(q) })
		return state.Reply{}, errNobody
	case <-a.life.off:
		return state.Reply{}, errNobody
	}
}

// AskRemoved implements plugin.Ledger: the keepers answer from what they have applied.
func (a *asker) AskRemoved(ctx context.Context) (ledger.Answer, error) {
	w, m := a.life.m.w, a.life.m
	heard := make(chan [2]int, len(w.machines))
	keepers := make(chan int, 1)
	w.arrive(m.n, "asks whether it was removed", func() {
		keepers <- len(w.ledger.keepers)
		for _, k := range w.ledger.keepers {
			if k.serves() && k.keeps && w.both(m, k) && !w.chance(w.style.loss) {
				w.after(w.latency(m, k)+w.latency(k, m), func() { heard <- w.ledger.says(k, a.cfg.Self) })
			}
		}
	})
	limit := time.NewTimer(1500 * time.Millisecond)
	defer limit.Stop()
	var count [2]int
	for all := <-keepers; ; {
		select {
		case one := <-heard:
			count[0], count[1] = count[0]+one[0], count[1]+one[1]
		case <-limit.C:
			return ledger.Unknown, errNobody
		case <-ctx.Done():
			return ledger.Unknown, errNobody
		case <-a.life.off:
			return ledger.Unknown, errNobody
		}
		switch {
		case 2*count[0] > all:
			return ledger.Confirmed, nil
		case 2*count[1] > all:
			return ledger.Denied, nil
		}
	}
}

func (a *asker) close(q *question) {
	q.open = false
	a.open = slices.DeleteFunc(a.open, func(r uint64) bool { return r == q.cmd.Request })
}
