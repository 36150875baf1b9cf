package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/weftnet/weft/ledger"
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

// ceding are the addresses that this host gave up and of which the ledger has not
// answered yet, with the heir of each. The zero value is empty. Safe for
// concurrent use.
type ceding struct {
	mu    sync.Mutex
	heirs map[netip.Addr]netmap.HostID
}

// begin is false if the address is being ceded already.
func (c *ceding) begin(addr netip.Addr, to netmap.HostID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, already := c.heirs[addr]; already {
		return false
	}
	if c.heirs == nil {
		c.heirs = map[netip.Addr]netmap.HostID{}
	}
	c.heirs[addr] = to
	return true
}

func (c *ceding) end(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.heirs, addr)
}

// to is the heir of an address that is being ceded.
func (c *ceding) to(addr netip.Addr) (heir netmap.HostID, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	heir, is = c.heirs[addr]
	return heir, is
}

// askOwner asks the host that owns an address, by block or by claim, to cede it.
func (a *Agent) askOwner(ctx context.Context, id netmap.HostID, q cedeQuestion) (netmap.Claim, error) {
	view := a.gossip.View()
	q.Owner = id
	owner := a.underlayOf(view, id)
	if !owner.IsValid() {
		return netmap.Claim{}, a.nameHolder(q.Addr, netmap.Refuse(netmap.Busy, "address %s belongs to host %s, which was not heard of; wait until it is back or choose another --ip", q.Addr, id.Short()))
	}
	body, err := json.Marshal(q)
	if err != nil {
		return netmap.Claim{}, fmt.Errorf("plugin: %w", err)
	}
	answer, err := a.port.Call(ctx, owner, cedeRequest, body)
	var refusal *netmap.Refusal
	switch {
	case errors.As(err, &refusal):
		return netmap.Claim{}, a.nameHolder(q.Addr, netmap.Refuse(refusal.Kind, "host %s keeps the address: %s", hostName(view, id), refusal.Text))
	case err != nil:
		return netmap.Claim{}, a.nameHolder(q.Addr, netmap.Refuse(netmap.Busy, "address %s belongs to host %s, which does not answer (%v); wait until it is back or choose another --ip", q.Addr, hostName(view, id), err))
	}
	var c netmap.Claim
	if err := json.Unmarshal(answer, &c); err != nil {
		return netmap.Claim{}, fmt.Errorf("plugin: host %s ceded %s unreadably: %w", hostName(view, id), q.Addr, err)
	}
	return c, nil
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

// serveCede answers another host that wants one address of this host's blocks:
// first it is out of our own reach on disk, then the ledger hears of it. Until the
// ledger's answer this host does not claim the address for itself: of requests
// that are under way at once the ledger decides any one first, and both would be
// granted. What is asked after the answer, also after none within the time, is
// decided after it (ledger.Do); and what an earlier start asked is refused.
func (a *Agent) serveCede(ctx context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q cedeQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the request to cede an address cannot be read: %v", err)
	}
	if q.Owner != a.self {
		return nil, netmap.Refuse(netmap.Busy, "host %s is not where it was, host %s has its underlay address; if it is gone for good, remove it (weft host rm)", q.Owner.Short(), a.self.Short())
	}
	if !a.ceding.begin(q.Addr, q.To) {
		return nil, netmap.Refuse(netmap.Busy, "%s is being ceded to another host at this moment; try again", q.Addr)
	}
	defer a.ceding.end(q.Addr)
	if err := a.ipam.Cede(q.Subnet, q.Addr, q.To); err != nil {
		return nil, err
	}
	r, err := a.decide(ctx, ledger.Command{Kind: ledger.KindCede, Cede: &ledger.Cede{Addr: q.Addr, To: q.To}})
	if err != nil {
		return nil, err
	}
	return json.Marshal(r.Claim)
}
