package decide

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/netmap"
)

// inUseRequest is the name of the host-to-host request for the MAC at which an address of a network answers.
const inUseRequest = "network/whohas"

// whoHasWithin bounds the request to another host. A container waits for it.
const whoHasWithin = 300 * time.Millisecond

type inUseQuestion struct {
	Subnet netip.Prefix `json:"subnet"`
	Addr   netip.Addr   `json:"addr"`
}

// InUse implements ipam.Config.InUse. It says who uses an address of a network without having it from Weft, and is
// empty if nobody does, or nobody can be asked.
func (d *Decider) InUse(ctx context.Context, subnet netip.Prefix, addr netip.Addr) string {
	view := d.cfg.Gossip.View()
	n, ok := view.NetworkOf(subnet)
	if !ok {
		return ""
	}
	mac := d.whoHas(ctx, view, n, inUseQuestion{subnet, addr})
	if mac.IsZero() || mac == netmap.MACOf(addr) { // of an endpoint that is gone, which not all hosts have heard
		return ""
	}
	for e := range view.EndpointsOf(n.ID) {
		switch {
		case e.MAC != mac:
		case e.V4 == addr || e.V6 == addr:
			return "" // the same
		default:
			return fmt.Sprintf("%s on host %s", e.Label(), view.HostName(e.Host))
		}
	}
	return fmt.Sprintf("a device with the MAC %s, which no container has from Docker (macvlan, keepalived's use_vmac)", mac)
}

// whoHas asks the containers of a network, by a host that has one: this host may be about to start its first.
func (d *Decider) whoHas(ctx context.Context, view *netmap.View, n netmap.Network, q inUseQuestion) (mac netmap.MAC) {
	for e := range view.EndpointsOn(d.cfg.Self) {
		if e.Network == n.ID {
			mac, _ = d.cfg.WhoHas(ctx, n.VNI, q.Addr) // an address is handed out all the same
			return mac
		}
	}
	var last netmap.HostID
	for e := range view.EndpointsOf(n.ID) {
		if e.Host == last || !d.cfg.Member.Alive(e.Host) {
			last = e.Host
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, whoHasWithin)
		defer cancel()
		body, err := json.Marshal(q)
		if err != nil {
			return mac
		}
		answer, err := d.cfg.Port.Call(ctx, d.underlayOf(view, e.Host), inUseRequest, body)
		if err != nil || json.Unmarshal(answer, &mac) != nil {
			return netmap.MAC{}
		}
		return mac
	}
	return mac
}

// serveInUse answers another host that has no container on the network.
func (d *Decider) serveInUse(ctx context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q inUseQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the question who has an address cannot be read: %v", err)
	}
	n, ok := d.cfg.Gossip.View().NetworkOf(q.Subnet)
	if !ok || !q.Subnet.Contains(q.Addr) {
		return nil, netmap.Refuse(netmap.Unknown, "%s is an address of no network that this host knows; try again", q.Addr)
	}
	mac, err := d.cfg.WhoHas(ctx, n.VNI, q.Addr)
	if err != nil {
		return nil, err
	}
	return json.Marshal(mac)
}
