package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// cedeRequest is the name of the host-to-host request for one address of the
// owner's block.
const cedeRequest = "ipam/cede"

type cedeQuestion struct {
	Owner  netmap.HostID `json:"owner"` // who is asked: at its address another host may be by now
	Subnet netip.Prefix  `json:"subnet"`
	Addr   netip.Addr    `json:"addr"`
	To     netmap.HostID `json:"to"`
}

// askOwner asks the host that owns an address, by block or by claim, to cede it.
func (a *Agent) askOwner(ctx context.Context, id netmap.HostID, q cedeQuestion) (netmap.Claim, error) {
	view := a.gossip.View()
	q.Owner = id
	owner := a.underlayOf(view, id)
	if !owner.IsValid() {
		return netmap.Claim{}, a.ownerIsAway(view, id, q.Addr, "was not heard of")
	}
	body, err := json.Marshal(q)
	if err != nil {
		return netmap.Claim{}, fmt.Errorf("plugin: %w", err)
	}
	answer, err := a.port.Call(ctx, owner, cedeRequest, body)
	var refusal *netmap.Refusal
	switch {
	case errors.As(err, &refusal):
		return netmap.Claim{}, a.nameHolder(q.Addr, netmap.Refuse(refusal.Kind, "host %s keeps the address: %s", view.HostName(id), refusal.Text))
	case err != nil:
		return netmap.Claim{}, a.ownerIsAway(view, id, q.Addr, fmt.Sprintf("does not answer (%v)", err))
	}
	var c netmap.Claim
	if err := json.Unmarshal(answer, &c); err != nil {
		return netmap.Claim{}, fmt.Errorf("plugin: host %s ceded %s unreadably: %w", view.HostName(id), q.Addr, err)
	}
	return c, nil
}

// ownerIsAway says that an address belongs to a host that cannot be asked, and who
// has it there as far as the facts tell. They may be late, so it is no final word.
func (a *Agent) ownerIsAway(view *netmap.View, id netmap.HostID, addr netip.Addr, how string) error {
	owner := "belongs to"
	if e, ok := a.heldElsewhere(view, addr); ok {
		owner = fmt.Sprintf("is held by %s on", e.Endpoint.Label())
	}
	name := view.HostName(id)
	return netmap.Refuse(netmap.Busy, "address %s %s host %s, which %s; wait until it is back or choose another --ip; if the host is gone for good, remove it (weft host rm %s)", addr, owner, name, how, name)
}

// underlayOf is where a host is reached: by its own word, or, before its facts have
// arrived here, by the gossip's. Not valid if nothing was heard of it.
func (a *Agent) underlayOf(view *netmap.View, id netmap.HostID) netip.AddrPort {
	if h, ok := view.Host(id); ok && h.Fact.Underlay.IsValid() {
		return h.Fact.Underlay
	}
	for _, m := range a.gossip.Members() {
		if m.ID == id {
			return m.Addr
		}
	}
	return netip.AddrPort{}
}

// serveCede answers another host that wants one address of this host.
func (a *Agent) serveCede(ctx context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q cedeQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the request to cede an address cannot be read: %v", err)
	}
	if q.Owner != a.self {
		return nil, netmap.Refuse(netmap.Busy, "host %s is not where it was, host %s has its underlay address; if it is gone for good, remove it (weft host rm)", q.Owner.Short(), a.self.Short())
	}
	c, err := a.ipam.Cede(ctx, q.Subnet, q.Addr, q.To)
	if err != nil {
		return nil, err
	}
	return json.Marshal(c)
}
