package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/driver"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
)

// cedeRequest is the name of the host-to-host request for one address of the
// owner's block.
const cedeRequest = "ipam/cede"

type cedeQuestion struct {
	Subnet netip.Prefix  `json:"subnet"`
	Addr   netip.Addr    `json:"addr"`
	To     netmap.HostID `json:"to"`
}

// decide asks the ledger and waits until this host's own facts have reached the
// answer, so that whoever asked reads his own writes.
func (a *Agent) decide(ctx context.Context, c ledger.Command) (ledger.Reply, error) {
	if err := a.awaitMembership(ctx); err != nil {
		return ledger.Reply{}, err
	}
	r, err := a.ledger.Do(ctx, c)
	if err != nil {
		return r, err
	}
	if err := r.Err(); err != nil {
		return r, err
	}
	if err := a.gossip.WaitDecided(ctx, r.Index); err != nil {
		return r, fmt.Errorf("decision %d was made, its facts have not arrived: %w", r.Index, err)
	}
	return r, nil
}

// EnsureSubnet implements ipam.Decisions.
func (a *Agent) EnsureSubnet(ctx context.Context, r ipam.SubnetRequest) (netmap.Subnet, error) {
	reply, err := a.decide(ctx, ledger.Command{Kind: ledger.KindEnsureSubnet, EnsureSubnet: &ledger.EnsureSubnet{
		Want: r.Want, V6: r.V6, BlockBits: r.BlockBits, Avoid: r.Avoid,
	}})
	if err != nil {
		return netmap.Subnet{}, err
	}
	return *reply.Subnet, nil
}

// ReleaseSubnet implements ipam.Decisions.
func (a *Agent) ReleaseSubnet(ctx context.Context, p netip.Prefix) error {
	_, err := a.decide(ctx, ledger.Command{Kind: ledger.KindReleaseSubnet, ReleaseSubnet: &ledger.ReleaseSubnet{Prefix: p}})
	return err
}

// Reserve implements ipam.Decisions.
func (a *Agent) Reserve(ctx context.Context, subnet netip.Prefix, name string, addr netip.Addr) (netmap.Subnet, error) {
	r, err := a.decide(ctx, ledger.Command{Kind: ledger.KindReserve, Reserve: &ledger.Reserve{Subnet: subnet, Name: name, Addr: addr}})
	if err != nil {
		return netmap.Subnet{}, err
	}
	return *r.Subnet, nil
}

// GrantBlock implements ipam.Decisions.
func (a *Agent) GrantBlock(ctx context.Context, r ipam.BlockRequest) ([]netmap.Block, []netmap.Claim, error) {
	reply, err := a.decide(ctx, ledger.Command{Kind: ledger.KindGrantBlock, GrantBlock: &ledger.GrantBlock{
		Subnet: r.Subnet, Within: r.Within, Have: r.Have,
	}})
	if err != nil {
		return nil, nil, err
	}
	return reply.Blocks, reply.Claims, nil
}

// Claim implements ipam.Decisions: the ledger grants an address of a free block,
// the owner cedes one of its own.
func (a *Agent) Claim(ctx context.Context, subnet netip.Prefix, addr netip.Addr) (netmap.Claim, error) {
	r, err := a.decide(ctx, ledger.Command{Kind: ledger.KindClaim, Claim: &ledger.Claim{Subnet: subnet, Addr: addr}})
	if err == nil {
		return *r.Claim, nil
	}
	if r.Refusal == nil || r.Refusal.Kind != netmap.Held || r.Host == nil || r.Host.ID == a.self {
		return netmap.Claim{}, a.nameHolder(addr, err)
	}
	return a.askOwner(ctx, r.Host.ID, cedeQuestion{Subnet: subnet, Addr: addr, To: a.self})
}

// nameHolder puts the container that holds an address into the error, where the
// facts know it.
func (a *Agent) nameHolder(addr netip.Addr, err error) error {
	view := a.gossip.View()
	for _, e := range view.Endpoints {
		if e.V4 == addr || e.V6 == addr {
			return netmap.Refuse(netmap.Held, "address %s is held by %s on host %s; choose another --ip, or stop that container", addr, endpointName(e.Endpoint), hostName(view, e.Host))
		}
	}
	return err
}

func endpointName(e netmap.Endpoint) string {
	if e.Name != "" {
		return "container " + e.Name
	}
	return "endpoint " + string(e.ID[:min(12, len(e.ID))])
}

func hostName(view *netmap.View, id netmap.HostID) string {
	h, _ := view.Host(id)
	if h.Fact.Name != "" {
		return h.Fact.Name
	}
	if h.Entry.Name != "" {
		return h.Entry.Name
	}
	return id.Short()
}

// askOwner asks the host that owns an address, by block or by claim, to cede it.
func (a *Agent) askOwner(ctx context.Context, id netmap.HostID, q cedeQuestion) (netmap.Claim, error) {
	view := a.gossip.View()
	owner := a.underlayOf(view, id)
	if !owner.IsValid() {
		return netmap.Claim{}, a.nameHolder(q.Addr, netmap.Refuse(netmap.Held, "address %s belongs to host %s, which was not heard of; wait until it is back or choose another --ip", q.Addr, id.Short()))
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
		return netmap.Claim{}, a.nameHolder(q.Addr, netmap.Refuse(netmap.Held, "address %s belongs to host %s, which does not answer (%v); wait until it is back or choose another --ip", q.Addr, hostName(view, id), err))
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
// first it is out of our own reach on disk, then the ledger hears of it.
func (a *Agent) serveCede(ctx context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q cedeQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, netmap.Refuse(netmap.BadInput, "the request to cede an address cannot be read: %v", err)
	}
	if err := a.ipam.Cede(q.Subnet, q.Addr, q.To); err != nil {
		return nil, err
	}
	r, err := a.decide(ctx, ledger.Command{Kind: ledger.KindCede, Cede: &ledger.Cede{Addr: q.Addr, To: q.To}})
	if err != nil {
		return nil, err
	}
	return json.Marshal(r.Claim)
}

// EnsureNetwork implements driver.Networks. The ledger decides first; then the
// pools stay until the network goes.
func (a *Agent) EnsureNetwork(ctx context.Context, r driver.NetworkRequest) (netmap.Network, error) {
	bits, err := blockBits(r.Block)
	if err != nil {
		return netmap.Network{}, err
	}
	if err := a.ipam.NetworkCreated(ctx, r.Docker, r.Subnets, bits); err != nil {
		return netmap.Network{}, err
	}
	reply, err := a.decide(ctx, ledger.Command{Kind: ledger.KindEnsureNetwork, EnsureNetwork: &ledger.EnsureNetwork{
		Subnets: r.Subnets, Name: r.Name, MTU: r.MTU, VNI: r.VNI, Multicast: r.Multicast, Internal: r.Internal, DockerOptions: r.Options,
	}})
	if err != nil {
		return netmap.Network{}, errors.Join(err, a.ipam.NetworkDeleted(ctx, r.Docker))
	}
	a.wake()
	return *reply.Network, nil
}

func blockBits(option string) (ipam.BlockBits, error) {
	if option == "" {
		return ipam.BlockBits{}, nil
	}
	return ipam.ParseBlockBits(option)
}

// LeaveNetwork implements driver.Networks: first the network, then its subnets.
func (a *Agent) LeaveNetwork(ctx context.Context, r driver.NetworkRecord, last bool) error {
	if last {
		if _, err := a.decide(ctx, ledger.Command{Kind: ledger.KindLeaveNetwork, LeaveNetwork: &ledger.LeaveNetwork{ID: r.Network.ID}}); err != nil {
			return err
		}
	}
	a.wake()
	return a.ipam.NetworkDeleted(ctx, r.Docker)
}
