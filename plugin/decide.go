package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/replicate"
	"github.com/weftnet/weft/store/synced"
)

// EnsureSubnet implements ipam.Decisions.
func (a *Agent) EnsureSubnet(ctx context.Context, r ipam.SubnetRequest) (netmap.Subnet, error) {
	reply, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindEnsureSubnet, EnsureSubnet: &ledger.EnsureSubnet{
		Want: r.Want, V6: r.V6, BlockBits: r.BlockBits, Range: r.Range, Avoid: r.Avoid,
	}})
	if err != nil {
		return netmap.Subnet{}, err
	}
	return *reply.Subnet, nil
}

// UseSubnets implements ipam.Decisions.
func (a *Agent) UseSubnets(ctx context.Context, used synced.Value[[]netip.Prefix]) error {
	_, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindUseSubnets, UseSubnets: &ledger.UseSubnets{Prefixes: used.Get()}})
	return err
}

// Reserve implements ipam.Decisions.
func (a *Agent) Reserve(ctx context.Context, subnet netip.Prefix, name string, addr netip.Addr) (netmap.Subnet, error) {
	r, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindReserve, Reserve: &ledger.Reserve{Subnet: subnet, Name: name, Addr: addr}})
	if err != nil {
		return netmap.Subnet{}, err
	}
	return *r.Subnet, nil
}

// GrantBlock implements ipam.Decisions.
func (a *Agent) GrantBlock(ctx context.Context, r ipam.BlockRequest) ([]netmap.Block, []netmap.Claim, error) {
	generation := a.member.Generation()
	reply, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindGrantBlock, GrantBlock: &ledger.GrantBlock{
		Subnet: r.Subnet, Within: r.Within, Have: r.Have,
	}})
	if errors.Is(err, &netmap.Refusal{Kind: netmap.Exhausted}) {
		// Whoever has the blocks is asked next: see who that is.
		if late := a.gossip.WaitDecided(ctx, reply.Index); late != nil {
			err = fmt.Errorf("%w (%w)", err, late)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if err := a.ipam.QueueLast(reply.Late); err != nil { // before any of them can be picked
		return nil, nil, err
	}
	return reply.Blocks, reply.Claims, a.member.StillIn(generation)
}

// heldBy are the addresses that a host's endpoints hold, by its own facts.
func (a *Agent) heldBy(id netmap.HostID) []netip.Addr {
	var out []netip.Addr
	for _, e := range a.gossip.View().Endpoints {
		for _, addr := range []netip.Addr{e.V4, e.V6} {
			if e.Host == id && addr.IsValid() {
				out = append(out, addr)
			}
		}
	}
	return out
}

// Claim implements ipam.Decisions: the ledger grants an address of a free block,
// the owner cedes one of its own.
func (a *Agent) Claim(ctx context.Context, subnet netip.Prefix, addr netip.Addr) (netmap.Claim, error) {
	generation := a.member.Generation()
	r, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindClaim, Claim: &ledger.Claim{Subnet: subnet, Addr: addr}})
	if err == nil {
		return *r.Claim, nil
	}
	if r.Refusal == nil || r.Refusal.Kind != netmap.Held || r.Host == nil || r.Host.ID == a.self {
		return netmap.Claim{}, a.nameHolder(addr, err)
	}
	c, err := a.askOwner(ctx, r.Host.ID, cedeQuestion{Subnet: subnet, Addr: addr, To: a.self})
	if err != nil {
		return netmap.Claim{}, err
	}
	return c, a.member.ReadOwn(ctx, generation, c.Epoch)
}

// Cede implements ipam.Decisions.
func (a *Agent) Cede(ctx context.Context, c synced.Value[ipam.Transfer]) (netmap.Claim, error) {
	given := c.Get()
	r, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindCede, Cede: &ledger.Cede{Addr: given.Addr, To: given.To}})
	if err != nil {
		return netmap.Claim{}, err
	}
	return *r.Claim, nil
}

// ReturnBlock implements ipam.Decisions.
func (a *Agent) ReturnBlock(ctx context.Context, r synced.Value[ipam.Returned]) error {
	b := r.Get()
	_, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindReturnBlock, ReturnBlock: &ledger.ReturnBlock{Block: b.Prefix, Epoch: b.Epoch, Late: b.Late}})
	return err
}

// Unclaim implements ipam.Decisions.
func (a *Agent) Unclaim(ctx context.Context, r synced.Value[netmap.Claim]) error {
	c := r.Get()
	_, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindUnclaim, Unclaim: &ledger.Unclaim{Addr: c.Addr, Epoch: c.Epoch}})
	return err
}

// nameHolder puts the container that holds an address into the error, where the
// facts know it. They may be late, so it is as final as it was.
func (a *Agent) nameHolder(addr netip.Addr, err error) error {
	view := a.gossip.View()
	e, held := a.heldElsewhere(view, addr)
	refusal, ok := errors.AsType[*netmap.Refusal](err)
	if !held || !ok {
		return err
	}
	return netmap.Refuse(refusal.Kind, "address %s is held by %s on host %s; choose another --ip, or stop that container", addr, e.Endpoint.Label(), view.HostName(e.Host))
}

// heldElsewhere is the endpoint that holds an address by the facts. An endpoint of
// this host that another identity announces is none: this host had that identity
// before, or has a copy.
func (a *Agent) heldElsewhere(view *netmap.View, addr netip.Addr) (netmap.EndpointView, bool) {
	for _, e := range view.Endpoints {
		if _, mine := a.attach.Endpoint(e.ID); !mine && (e.V4 == addr || e.V6 == addr) {
			return e, true
		}
	}
	return netmap.EndpointView{}, false
}

// EnsureNetwork implements attach.Networks. The ledger decides first; then the
// pools stay until the network goes. Only what this agent asked Docker for is a replica. An
// agent that is started meanwhile refuses it, and asks for it anew: Docker repeats no call
// for a network that it has.
func (a *Agent) EnsureNetwork(ctx context.Context, r attach.NetworkRequest) (netmap.Network, error) {
	if r.Owner == netmap.OwnerDocker && r.Replica != 0 && !a.replicas.Creating(r.Replica) {
		return netmap.Network{}, netmap.Refuse(netmap.BadInput, "option %s=%d is set by the agent, on the replicas that it makes here of networks of other hosts, and this is none of them; leave the option out", dockerapi.ReplicaOption, r.Replica)
	}
	bits, err := blockBits(r.Block)
	if err != nil {
		return netmap.Network{}, err
	}
	if err := a.useSubnets(ctx, r, bits); err != nil {
		return netmap.Network{}, err
	}
	reply, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindEnsureNetwork, EnsureNetwork: &ledger.EnsureNetwork{
		Subnets: r.Subnets, Name: r.Name, MTU: r.MTU, VNI: r.VNI, Multicast: r.Multicast, Internal: r.Internal, Replica: r.Replica,
	}})
	if err != nil {
		return netmap.Network{}, errors.Join(err, a.undo(ctx, r.ID))
	}
	return *reply.Network, nil
}

// useSubnets has this host use the subnets of a network. Docker has asked for them before.
func (a *Agent) useSubnets(ctx context.Context, r attach.NetworkRequest, bits ipam.BlockBits) error {
	if r.Owner == netmap.OwnerDocker {
		return a.ipam.NetworkCreated(ctx, r.ID, r.Subnets, bits)
	}
	for _, subnet := range r.Subnets {
		if _, err := a.ipam.Register(ctx, ipam.SubnetRequest{Want: subnet, V6: subnet.Addr().Is6()}, r.ID); err != nil {
			return errors.Join(err, a.undo(ctx, r.ID))
		}
	}
	return nil
}

// undoLimit is for giving up what nobody waits for any more.
const undoLimit = 5 * time.Second

// undo gives the pools of a network up that did not come to exist. What kept it from
// that may have been the end of ctx.
func (a *Agent) undo(ctx context.Context, docker string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	return a.ipam.NetworkDeleted(ctx, docker)
}

func blockBits(option string) (ipam.BlockBits, error) {
	if option == "" {
		return ipam.BlockBits{}, nil
	}
	return ipam.ParseBlockBits(option)
}

// RejoinNetwork implements attach.Networks. The network may have gone with its last
// member; then it is made as it was, under its old VNI if that is free.
func (a *Agent) RejoinNetwork(ctx context.Context, r attach.NetworkRecord) (netmap.Network, error) {
	for _, subnet := range r.Network.Subnets {
		if err := a.ipam.Retake(ctx, subnet); err != nil {
			return netmap.Network{}, err
		}
	}
	n := r.Network
	ask := &ledger.EnsureNetwork{
		Subnets: n.Subnets, Name: n.Name, VNI: n.VNI, MTU: n.MTU, Multicast: n.Multicast, Internal: n.Internal, Docker: n.Docker,
	}
	reply, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindEnsureNetwork, EnsureNetwork: ask})
	if err != nil && netmap.Final(err) {
		ask.Name, ask.VNI = "", 0
		reply, err = a.member.Decide(ctx, ledger.Command{Kind: ledger.KindEnsureNetwork, EnsureNetwork: ask})
	}
	if err != nil {
		return netmap.Network{}, err
	}
	return *reply.Network, nil
}

// Joinable implements attach.Networks. A network that a user removed on another host
// goes from this one with its last container: new ones would keep it for ever, and
// would not reach those on the network that has its name now.
func (a *Agent) Joinable(id netmap.NetworkID) error {
	view := a.gossip.View()
	n, ok := view.Network(id)
	if !ok || !n.Retired || !a.cfg.Settings.Replicate {
		return nil
	}
	replaced := slices.ContainsFunc(view.Networks, func(o netmap.Network) bool { return o.Name == n.Name && !o.Retired })
	return netmap.Refuse(netmap.Held, "network %s%s; then start this container again", cmp.Or(n.Name, fmt.Sprint(id)), replicate.RemovedElsewhere(a.running(id), replaced))
}

// running are the containers of this host that run on a network, by name.
func (a *Agent) running(id netmap.NetworkID) []string {
	endpoints := a.attach.Endpoints()
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, e := range endpoints {
		if e.Endpoint.Network == id && e.Joined {
			out = append(out, cmp.Or(a.names[e.Endpoint.ID], fmt.Sprintf("endpoint %.12s", e.Endpoint.ID)))
		}
	}
	slices.Sort(out)
	return out
}

// LeaveNetwork implements attach.Networks: first the network, then its subnets.
func (a *Agent) LeaveNetwork(ctx context.Context, r attach.NetworkRecord, last bool) error {
	if last {
		if _, err := a.member.Decide(ctx, ledger.Command{Kind: ledger.KindLeaveNetwork, LeaveNetwork: &ledger.LeaveNetwork{ID: r.Network.ID}}); err != nil {
			return err
		}
	}
	return a.ipam.NetworkDeleted(ctx, r.ID)
}
