// Package decide asks the ledger for what Docker's two protocols need: subnets, blocks,
// single addresses and networks. Where another host has an address, or all of the free ones,
// it asks that host to cede or to donate, and it answers other hosts that ask.
package decide

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/store/synced"
)

// Member is this host's part in the cluster.
type Member interface {
	// Decide asks the ledger, and waits until this host's own facts include the decision.
	Decide(ctx context.Context, c state.Command) (state.Reply, error)
	// ReadOwn waits until this host's own facts include a decision that was made under a
	// generation of the ledger.
	ReadOwn(ctx context.Context, generation, index uint64) error
	Generation() uint64
	StillIn(generation uint64) error
	Alive(id netmap.HostID) bool
}

// Gossip has the facts, and the other hosts that are there.
type Gossip interface {
	View() *netmap.View
	Members() []gossip.Member
	WaitDecided(ctx context.Context, index uint64) error
}

// Port carries requests from host to host.
type Port interface {
	Handle(name string, h func(ctx context.Context, from netip.AddrPort, body []byte) ([]byte, error))
	Call(ctx context.Context, to netip.AddrPort, name string, body []byte) ([]byte, error)
}

// IPAM has the subnets, blocks and addresses of this host.
type IPAM interface {
	NetworkCreated(ctx context.Context, docker string, subnets []netip.Prefix, bits ipam.BlockBits) error
	NetworkDeleted(ctx context.Context, docker string) error
	QueueLast(addrs []netip.Addr) error
	Cede(ctx context.Context, subnet netip.Prefix, addr netip.Addr, to netmap.HostID) (netmap.Claim, error)
	Donate(ctx context.Context, subnet, within netip.Prefix, to netmap.HostID) (ipam.Donation, error)
	Reregister(ctx context.Context, subnet netip.Prefix) error
	Register(ctx context.Context, r ipam.SubnetRequest, use string) (netmap.Subnet, error)
}

// Attachments are the endpoints of this host.
type Attachments interface {
	Endpoint(id netmap.EndpointID) (attach.EndpointRecord, bool)
	Endpoints() []attach.EndpointRecord
}

// Config says what a Decider is made of. All functions are called concurrently.
type Config struct {
	Self      netmap.HostID
	Replicate bool // this host makes and removes replicas of other hosts' networks
	Member    Member
	Gossip    Gossip
	Port      Port
	// WhoHas returns the MAC at which an address answers on a network of this host, zero if none does.
	WhoHas func(ctx context.Context, vni netmap.VNI, addr netip.Addr) (netmap.MAC, error)
	NameOf func(netmap.EndpointID) string // the name of an endpoint's container; empty: it is not known
	// Creating reports whether this agent has asked Docker to make a replica of a network.
	Creating func(netmap.NetworkID) bool
}

// Decider implements ipam.Decisions and attach.Networks. Its exported methods are safe for
// concurrent use once Begin has returned.
type Decider struct {
	cfg  Config
	ipam IPAM
	own  Attachments
}

// New returns a Decider, which ipam and attach are opened with.
func New(cfg Config) *Decider { return &Decider{cfg: cfg} }

// Begin gives a Decider ipam and attach, and answers other hosts from then on.
func (d *Decider) Begin(addresses IPAM, own Attachments) {
	d.ipam, d.own = addresses, own
	d.cfg.Port.Handle(cedeRequest, d.serveCede)
	d.cfg.Port.Handle(donateRequest, d.serveDonate)
	d.cfg.Port.Handle(inUseRequest, d.serveInUse)
}

// EnsureSubnet implements ipam.Decisions.
func (d *Decider) EnsureSubnet(ctx context.Context, r ipam.SubnetRequest) (netmap.Subnet, error) {
	reply, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindEnsureSubnet, EnsureSubnet: &state.EnsureSubnet{
		Want: r.Want, V6: r.V6, BlockBits: r.BlockBits, Range: r.Range, Avoid: r.Avoid,
	}})
	if err != nil {
		return netmap.Subnet{}, err
	}
	return *reply.Subnet, nil
}

// UseSubnets implements ipam.Decisions.
func (d *Decider) UseSubnets(ctx context.Context, used synced.Value[[]netip.Prefix]) error {
	_, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindUseSubnets, UseSubnets: &state.UseSubnets{Prefixes: used.Get()}})
	return err
}

// Reserve implements ipam.Decisions.
func (d *Decider) Reserve(ctx context.Context, subnet netip.Prefix, name string, addr netip.Addr) (netmap.Subnet, error) {
	r, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindReserve, Reserve: &state.Reserve{Subnet: subnet, Name: name, Addr: addr}})
	if err != nil {
		return netmap.Subnet{}, err
	}
	return *r.Subnet, nil
}

// GrantBlock implements ipam.Decisions.
func (d *Decider) GrantBlock(ctx context.Context, r ipam.BlockRequest) ([]netmap.Block, []netmap.Claim, error) {
	generation := d.cfg.Member.Generation()
	reply, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindGrantBlock, GrantBlock: &state.GrantBlock{
		Subnet: r.Subnet, Within: r.Within, Have: r.Have, Count: r.Count, Ahead: r.Ahead,
	}})
	if errors.Is(err, &netmap.Refusal{Kind: netmap.Exhausted}) {
		// AskOthers comes next, and asks the hosts that have the blocks according to the facts.
		if late := d.cfg.Gossip.WaitDecided(ctx, reply.Index); late != nil {
			err = fmt.Errorf("%w (%w)", err, late)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if err := d.ipam.QueueLast(reply.Late); err != nil { // before ipam picks one of them
		return nil, nil, err
	}
	return reply.Blocks, reply.Claims, d.cfg.Member.StillIn(generation)
}

// Claim implements ipam.Decisions. The ledger grants an address of a free block; an address
// that another host owns is ceded by that host.
func (d *Decider) Claim(ctx context.Context, subnet netip.Prefix, addr netip.Addr) (netmap.Claim, error) {
	generation := d.cfg.Member.Generation()
	r, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindClaim, Claim: &state.Claim{Subnet: subnet, Addr: addr}})
	if err == nil {
		return *r.Claim, nil
	}
	if r.Refusal == nil || r.Refusal.Kind != netmap.Held || r.Host == nil || r.Host.ID == d.cfg.Self {
		return netmap.Claim{}, d.nameHolder(addr, err)
	}
	c, err := d.askOwner(ctx, r.Host.ID, cedeQuestion{Subnet: subnet, Addr: addr, To: d.cfg.Self})
	if err != nil {
		return netmap.Claim{}, err
	}
	return c, d.cfg.Member.ReadOwn(ctx, generation, c.Epoch)
}

// Cede implements ipam.Decisions.
func (d *Decider) Cede(ctx context.Context, c synced.Value[ipam.Transfer]) (netmap.Claim, error) {
	given := c.Get()
	r, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindCede, Cede: &state.Cede{Addr: given.Addr, To: given.To}})
	if err != nil {
		return netmap.Claim{}, err
	}
	return *r.Claim, nil
}

// ReturnBlock implements ipam.Decisions.
func (d *Decider) ReturnBlock(ctx context.Context, r synced.Value[ipam.Returned]) error {
	b := r.Get()
	_, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindReturnBlock, ReturnBlock: &state.ReturnBlock{Block: b.Prefix, Epoch: b.Epoch, Late: b.Late}})
	return err
}

// Unclaim implements ipam.Decisions.
func (d *Decider) Unclaim(ctx context.Context, r synced.Value[netmap.Claim]) error {
	c := r.Get()
	_, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindUnclaim, Unclaim: &state.Unclaim{Addr: c.Addr, Epoch: c.Epoch}})
	return err
}
