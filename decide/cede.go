package decide

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/netmap"
)

// cedeRequest is the name of the host-to-host request for one address that another host owns.
const cedeRequest = "ipam/cede"

type cedeQuestion struct {
	Owner  netmap.HostID `json:"owner"` // who is asked: another host may have its underlay address by now
	Subnet netip.Prefix  `json:"subnet"`
	Addr   netip.Addr    `json:"addr"`
	To     netmap.HostID `json:"to"`
}

// askOwner asks the host that owns an address, by block or by claim, to cede it.
func (d *Decider) askOwner(ctx context.Context, id netmap.HostID, q cedeQuestion) (netmap.Claim, error) {
	view := d.cfg.Gossip.View()
	q.Owner = id
	owner := d.underlayOf(view, id)
	if !owner.IsValid() {
		return netmap.Claim{}, d.ownerIsAway(view, id, q.Addr, "was not heard of")
	}
	body, err := json.Marshal(q)
	if err != nil {
		return netmap.Claim{}, fmt.Errorf("decide: %w", err)
	}
	answer, err := d.cfg.Port.Call(ctx, owner, cedeRequest, body)
	var refusal *netmap.Refusal
	switch {
	case errors.As(err, &refusal):
		return netmap.Claim{}, d.nameHolder(q.Addr, netmap.Refuse(refusal.Kind, "host %s keeps the address: %s", view.HostName(id), refusal.Text))
	case err != nil:
		return netmap.Claim{}, d.ownerIsAway(view, id, q.Addr, fmt.Sprintf("does not answer (%v)", err))
	}
	var c netmap.Claim
	if err := json.Unmarshal(answer, &c); err != nil {
		return netmap.Claim{}, fmt.Errorf("decide: host %s answers the request to cede %s with something that cannot be read: %w", view.HostName(id), q.Addr, err)
	}
	return c, nil
}

// ownerIsAway says that an address belongs to a host that cannot be asked, and which container
// has it there according to the facts. The facts may be late, so the refusal is not final.
func (d *Decider) ownerIsAway(view *netmap.View, id netmap.HostID, addr netip.Addr, how string) error {
	owner := "belongs to"
	if e, ok := d.heldElsewhere(view, addr); ok {
		owner = fmt.Sprintf("is held by %s on", e.Label())
	}
	name := view.HostName(id)
	return netmap.Refuse(netmap.Busy, "address %s %s host %s, which %s; wait until it is back or choose another --ip; if the host is gone for good, remove it (weft host rm %s)", addr, owner, name, how, name)
}

// nameHolder adds the container that holds an address to the error, if the facts know it. They
// may be late, so the kind of the refusal stays.
func (d *Decider) nameHolder(addr netip.Addr, err error) error {
	view := d.cfg.Gossip.View()
	e, held := d.heldElsewhere(view, addr)
	refusal, ok := errors.AsType[*netmap.Refusal](err)
	if !held || !ok {
		return err
	}
	return netmap.Refuse(refusal.Kind, "address %s is held by %s on host %s; choose another --ip, or stop that container", addr, e.Label(), view.HostName(e.Host))
}

// heldElsewhere returns the endpoint that holds an address according to the facts. It looks at the host
// that owns the address: nobody else announces it for long. It skips an endpoint of this host that another
// identity announces: this host had that identity before, or is a copy of it.
func (d *Decider) heldElsewhere(view *netmap.View, addr netip.Addr) (netmap.EndpointView, bool) {
	for e := range view.EndpointsOn(view.Owner(addr)) {
		if _, mine := d.own.Endpoint(e.ID); !mine && (e.V4 == addr || e.V6 == addr) {
			return e, true
		}
	}
	return netmap.EndpointView{}, false
}

// underlayOf returns the address at which a host is reached: from its facts or, before they
// have arrived here, from the gossip. It is not valid if nothing was heard of the host.
func (d *Decider) underlayOf(view *netmap.View, id netmap.HostID) netip.AddrPort {
	if h, ok := view.Host(id); ok && h.Fact.Underlay.IsValid() {
		return h.Fact.Underlay
	}
	for _, m := range d.cfg.Gossip.Members() {
		if m.ID == id {
			return m.Addr
		}
	}
	return netip.AddrPort{}
}

// Call sends a request to another host.
func (d *Decider) Call(ctx context.Context, id netmap.HostID, request string, body []byte) ([]byte, error) {
	at := d.underlayOf(d.cfg.Gossip.View(), id)
	if !at.IsValid() {
		return nil, netmap.Refuse(netmap.Unknown, "host %s was not heard of; see weft status", id.Short())
	}
	return d.cfg.Port.Call(ctx, at, request, body)
}

// serveCede answers another host that wants an address of this host.
func (d *Decider) serveCede(ctx context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q cedeQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the request to cede an address cannot be read: %v", err)
	}
	if q.Owner != d.cfg.Self {
		return nil, netmap.Refuse(netmap.Busy, "host %s is not where it was, host %s has its underlay address; if it is gone for good, remove it (weft host rm)", q.Owner.Short(), d.cfg.Self.Short())
	}
	c, err := d.ipam.Cede(ctx, q.Subnet, q.Addr, q.To)
	if err != nil {
		return nil, err
	}
	return json.Marshal(c)
}
