package plugin

import (
	"context"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/history"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

func (a *Agent) openHistory() (err error) {
	a.history, err = history.Open(history.Config{
		Self: a.self, Disk: a.store.Bucket("history"), View: a.gossip.View, Call: a.decider.Call,
		Exists: func(id netmap.EndpointID) bool {
			r, ok := a.attach.Endpoint(id)
			return ok && r.Joined
		},
		Decided: func(ctx context.Context, q state.Query) (state.Past, error) { return a.ledger.History(ctx, q) },
		Problem: func(sentence string) { a.problem("history", sentence) },
	})
	if err == nil {
		a.port.Handle(history.Request, a.history.Serve)
	}
	return err
}

// History implements api.Agent.
func (a *Agent) History(ctx context.Context, q api.HistoryQuery) (*api.History, error) {
	return a.history.Query(ctx, q)
}
