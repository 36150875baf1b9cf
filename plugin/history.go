package plugin

import (
	"context"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/history"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

func (a *Agent) openHistory() (err error) {
	a.history, err = history.Open(history.Config{
		Self: a.self, Disk: a.store.Bucket("history"), View: a.gossip.View, Call: a.callHost,
		Exists: func(id netmap.EndpointID) bool {
			r, ok := a.attach.Endpoint(id)
			return ok && r.Joined
		},
		Decided: func(ctx context.Context, q ledger.Query) (ledger.Past, error) { return a.ledger.History(ctx, q) },
		Problem: func(sentence string) { a.problem("history", sentence) },
	})
	if err == nil {
		a.port.Handle(history.Request, a.history.Serve)
	}
	return err
}

// callHost sends a request to another host, wherever it is now.
func (a *Agent) callHost(ctx context.Context, id netmap.HostID, request string, body []byte) ([]byte, error) {
	at := a.underlayOf(a.gossip.View(), id)
	if !at.IsValid() {
		return nil, netmap.Refuse(netmap.Unknown, "host %s was not heard of; see weft status", id.Short())
	}
	return a.port.Call(ctx, at, request, body)
}

// History implements api.Agent.
func (a *Agent) History(ctx context.Context, q api.HistoryQuery) (*api.History, error) {
	return a.history.Query(ctx, q)
}
