package decide

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/replicate"
)

// EnsureNetwork implements attach.Networks. The ledger decides first; then the network keeps
// its pools until it is removed. Only a network that this agent asked Docker for is a replica.
// An agent that was started since refuses the replica and asks Docker again, since Docker does
// not repeat the call for a network that it has.
func (d *Decider) EnsureNetwork(ctx context.Context, r attach.NetworkRequest) (netmap.Network, error) {
	if r.Owner == netmap.OwnerDocker && r.Replica != 0 && !d.cfg.Creating(r.Replica) {
		return netmap.Network{}, netmap.Refuse(netmap.BadInput, "option %s=%d is set by the agent, on the replicas that it makes here of networks of other hosts, and this is none of them; leave the option out", dockerapi.ReplicaOption, r.Replica)
	}
	bits, err := blockBits(r.Block)
	if err != nil {
		return netmap.Network{}, err
	}
	if err := d.useSubnets(ctx, r, bits); err != nil {
		return netmap.Network{}, err
	}
	reply, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindEnsureNetwork, EnsureNetwork: &state.EnsureNetwork{
		Subnets: r.Subnets, Name: r.Name, MTU: r.MTU, VNI: r.VNI, Multicast: r.Multicast, Host: r.Host, Internal: r.Internal, Replica: r.Replica,
	}})
	if err != nil {
		return netmap.Network{}, errors.Join(err, d.undo(ctx, r.ID))
	}
	return *reply.Network, nil
}

// useSubnets has ipam use the subnets of a network. Docker has requested their pools before.
func (d *Decider) useSubnets(ctx context.Context, r attach.NetworkRequest, bits ipam.BlockBits) error {
	if r.Owner == netmap.OwnerDocker {
		return d.ipam.NetworkCreated(ctx, r.ID, r.Subnets, bits)
	}
	for _, subnet := range r.Subnets {
		if _, err := d.ipam.Register(ctx, ipam.SubnetRequest{Want: subnet, V6: subnet.Addr().Is6()}, r.ID); err != nil {
			return errors.Join(err, d.undo(ctx, r.ID))
		}
	}
	return nil
}

// undoLimit limits undo, which runs after the caller has gone.
const undoLimit = 5 * time.Second

// undo releases the pools of a network that could not be made, perhaps because ctx ended.
func (d *Decider) undo(ctx context.Context, docker string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	return d.ipam.NetworkDeleted(ctx, docker)
}

func blockBits(option string) (ipam.BlockBits, error) {
	if option == "" {
		return ipam.BlockBits{}, nil
	}
	return ipam.ParseBlockBits(option)
}

// RejoinNetwork implements attach.Networks. If the network was removed with its last member, it
// is made again as it was, with its old VNI if that is free.
func (d *Decider) RejoinNetwork(ctx context.Context, r attach.NetworkRecord) (netmap.Network, error) {
	for _, subnet := range r.Network.Subnets {
		if err := d.ipam.Reregister(ctx, subnet); err != nil {
			return netmap.Network{}, err
		}
	}
	n := r.Network
	ask := &state.EnsureNetwork{
		Subnets: n.Subnets, Name: n.Name, VNI: n.VNI, MTU: n.MTU, Multicast: n.Multicast, Host: n.Host, Internal: n.Internal, Docker: n.Docker,
	}
	reply, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindEnsureNetwork, EnsureNetwork: ask})
	if err != nil && netmap.Final(err) {
		ask.Name, ask.VNI = "", 0
		reply, err = d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindEnsureNetwork, EnsureNetwork: ask})
	}
	if err != nil {
		return netmap.Network{}, err
	}
	return *reply.Network, nil
}

// Joinable implements attach.Networks. It refuses a network that a user removed on another host
// and that goes from this host with its last container. New containers would keep it for ever,
// and could not reach those on the network that has its name now.
func (d *Decider) Joinable(id netmap.NetworkID) error {
	view := d.cfg.Gossip.View()
	n, ok := view.Network(id)
	if !ok || !n.Retired || !d.cfg.Replicate {
		return nil
	}
	replaced := slices.ContainsFunc(view.Networks, func(o netmap.Network) bool { return o.Name == n.Name && !o.Retired })
	return netmap.Refuse(netmap.Held, "network %s%s; then start this container again", cmp.Or(n.Name, fmt.Sprint(id)), replicate.RemovedElsewhere(d.running(id), replaced))
}

// running returns the names of the containers of this host that run on a network.
func (d *Decider) running(id netmap.NetworkID) []string {
	var out []string
	for _, e := range d.own.Endpoints() {
		if e.Endpoint.Network == id && e.Joined && e.Owner != netmap.OwnerHost {
			out = append(out, cmp.Or(d.cfg.NameOf(e.Endpoint.ID), fmt.Sprintf("endpoint %.12s", e.Endpoint.ID)))
		}
	}
	slices.Sort(out)
	return out
}

// LeaveNetwork implements attach.Networks. It leaves the network first and its subnets after
// that.
func (d *Decider) LeaveNetwork(ctx context.Context, r attach.NetworkRecord, last bool) error {
	if last {
		if _, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindLeaveNetwork, LeaveNetwork: &state.LeaveNetwork{ID: r.Network.ID}}); err != nil {
			return err
		}
	}
	return d.ipam.NetworkDeleted(ctx, r.ID)
}
