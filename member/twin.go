package member

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/weftnet/weft/follow"
)

// whoRequest is the name of the host-to-host request that asks an agent who it is.
const whoRequest = "host/who"

// twinWait is how long a host whose disk may have come from another machine looks for
// that machine, before it keeps the ledger as that did.
const twinWait = 3 * time.Second

// serveWho answers another host that asks which incarnation this agent is.
func (m *Member) serveWho(context.Context, netip.AddrPort, []byte) ([]byte, error) {
	return json.Marshal(incarnation{Host: m.self, Start: m.identity.Start, Nonce: m.identity.Nonce})
}

// copied reports whether another machine runs as this host. The gossip's word is no
// proof: an earlier start of this host may look alive for a while. The other one is
// asked.
func (m *Member) copied(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, twinWait)
	defer cancel()
	for range follow.Facts(limited, m.cluster.Gossip, follow.When{Every: twinWait}) {
		if twin, seen := m.cluster.Gossip.Twin(); seen && m.answersAsThis(ctx, twin.Addr) {
			return true
		}
		if m.cluster.Gossip.Synced() { // it stands alone, or has met who knows all
			return false
		}
	}
	return false
}

// answersAsThis reports whether an agent of this identity that is not this one answers at
// an address.
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
