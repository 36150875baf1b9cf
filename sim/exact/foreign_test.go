package exact_test

import (
	"net/netip"
	"time"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// foreign is the ledger of another cluster. Sometimes one of its keepers has the address that a
// keeper of this cluster had before.
type foreign struct {
	w     *world
	state *state.State
}

func (w *world) foundForeign() *foreign {
	f := &foreign{w: w, state: state.NewState()}
	found := &state.Found{Cluster: w.newID(), Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}}
	if r, _ := f.state.Apply(1, state.Command{Kind: state.KindFound, Host: w.newID(), Found: found}); r.Refusal != nil {
		w.wrong("the foreign cluster: %v", r.Refusal)
	}
	return f
}

// take answers a request that reached the wrong cluster. The asker ignores the answer of a
// foreign ledger and tries the next keeper, as ledger.Do does.
func (f *foreign) take(q *question) {
	r, _ := f.state.Apply(f.state.Applied()+1, q.cmd)
	f.w.meet("asked a foreign ledger")
	if r.Refusal != nil && r.Refusal.Kind == netmap.Foreign {
		return
	}
	f.w.after(f.w.between(200*time.Microsecond, 2*time.Millisecond), func() { f.w.ledger.answer(q, r) })
}
