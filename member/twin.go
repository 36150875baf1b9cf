package member

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
)

// whoRequest is the name of the host-to-host request that asks an agent who it is.
const whoRequest = "host/who"

// twinWait is how long a host whose disk may be a copy looks for the machine that it was copied
// from, before it becomes a keeper with the copied log.
const twinWait = 3 * time.Second

// serveWho tells another host which incarnation this agent is.
func (m *Member) serveWho(context.Context, netip.AddrPort, []byte) ([]byte, error) {
	return json.Marshal(incarnation{Host: m.self, Start: m.identity.Start, Nonce: m.identity.Nonce})
}

// copied reports whether another machine runs with this identity. The gossip's members are no
// proof, since an earlier start of this host may look alive for a while, so the other agent is
// asked.
func (m *Member) copied(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, twinWait)
	defer cancel()
	for range follow.Facts(limited, m.cluster.Gossip, follow.When{Every: twinWait, Of: nothing}) {
		if twin, seen := m.cluster.Gossip.Twin(); seen && m.answersAsThis(ctx, twin.Addr) {
			return true
		}
		if m.cluster.Gossip.Synced() { // it is alone, or has met a host that knows every member
			return false
		}
	}
	return false
}

// nothing of the facts tells of a twin: the gossip's members do.
func nothing(netmap.Changes) bool { return false }

// answersAsThis reports whether an agent with this identity that is not this one answers at an
// address.
func (m *Member) answersAsThis(ctx context.Context, at netip.AddrPort) bool {
	if at == m.cluster.At {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	raw, err := m.cluster.Port.Call(ctx, at, whoRequest, nil)
	var other incarnation
	return err == nil && json.Unmarshal(raw, &other) == nil && other.Host == m.self && other.Nonce != m.identity.Nonce
}
