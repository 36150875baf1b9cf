package ledger

import (
	"context"
	"net/netip"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

const requestHistory = "ledger.history" // Query -> Past

// History asks a keeper, this host first if it is one, what happened. It needs no
// majority, so the newest events may be missing where a keeper is cut off.
func (l *Ledger) History(ctx context.Context, q state.Query) (state.Past, error) {
	ctx, cancel := context.WithTimeout(ctx, doLimit)
	defer cancel()
	if k := l.kept(); k != nil {
		return k.machine.past(q), nil
	}
	b, err := state.Encode(q)
	if err != nil {
		return state.Past{}, err
	}
	failures := map[netmap.HostID]string{}
	for _, to := range l.likely() {
		if ctx.Err() != nil {
			break
		}
		if past, err := l.askHistory(ctx, to, b); err == nil {
			return past, nil
		}
		failures[to.ID] = "does not answer"
	}
	return state.Past{}, l.noQuorum(failures)
}

func (l *Ledger) askHistory(ctx context.Context, to Peer, query []byte) (state.Past, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	answer, err := l.cfg.Underlay.Call(ctx, to.Addr, requestHistory, query)
	if err != nil {
		return state.Past{}, err
	}
	return state.Decode[state.Past](answer, state.MaxReply)
}

func (l *Ledger) handleHistory(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	q, err := state.Decode[state.Query](body, state.MaxCommand)
	if err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "%s", err)
	}
	k := l.kept()
	if k == nil {
		return nil, netmap.Refuse(netmap.Unknown, "this host does not keep the ledger; ask one that does (weft status lists them)")
	}
	return state.Encode(k.machine.past(q))
}

func (m *machine) past(q state.Query) state.Past {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Past(q)
}
