package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Pace of a new host that asks for what it had under its former identity.
const (
	regainFirst = 200 * time.Millisecond // pause after a round that left something, doubling
	regainLast  = 15 * time.Second
)

// regain asks, for a host with another identity than before, for the networks and the
// addresses of its running containers, until each has an answer. Containers whose
// address another host got meanwhile are taken off the mesh.
func (a *Agent) regain(ctx context.Context) {
	if a.newcomer() {
		a.problem("return", a.missing("nothing was asked yet"))
	}
	for pause := regainFirst; ; pause = min(2*pause, regainLast) {
		left := a.regainRound(ctx)
		if ctx.Err() != nil {
			return
		}
		a.problem("return", left)
		if left == "" || !turn.Sleep(ctx, pause) {
			return
		}
	}
}

// regainRound asks once for all that is missing, and says what stays so.
func (a *Agent) regainRound(ctx context.Context) string {
	var left []string
	note := func(err error) {
		if err != nil && len(left) < 4 {
			left = append(left, err.Error())
		}
	}
	if !a.newcomer() {
		return ""
	}
	select {
	case <-a.member:
	case <-ctx.Done():
		return ""
	}
	for _, r := range a.attach.Networks() {
		if r.Stray && !r.Deleted {
			note(a.rejoin(ctx, r))
		}
	}
	for _, subnet := range a.ipam.Strays() {
		note(a.ipam.Retake(ctx, subnet))
	}
	for _, addr := range a.ipam.Unproven() {
		note(a.regainAddress(ctx, addr))
	}
	a.announceRightful()
	if len(left) == 0 {
		return ""
	}
	return a.missing(left...)
}

func (a *Agent) missing(left ...string) string {
	return "this host asks for what its containers had under its former identity; still missing: " + strings.Join(left, "; ") + a.formerHint()
}

// formerHint says what to do about the identity that this host had before, if the
// cluster still counts it.
func (a *Agent) formerHint() string {
	f, had := a.lease.Formerly()
	if h, known := a.gossip.View().Host(f.Host); !had || !known || h.Entry.ID.IsZero() || h.Entry.Removed {
		return ""
	}
	return fmt.Sprintf("; this host was host %s before: if no other machine runs as that one, remove it (weft host rm %s --is-off)", f.Host.Short(), f.Host.Short())
}

// newcomer reports whether there is anything to ask for.
func (a *Agent) newcomer() bool {
	stray := func(r attach.NetworkRecord) bool { return r.Stray }
	return len(a.ipam.Strays())+len(a.ipam.Unproven()) > 0 || slices.ContainsFunc(a.attach.Networks(), stray)
}

// rejoin makes this host a member of a network again. If that cannot be, since its
// subnet or its options belong to another one by now, the network's endpoints are lost.
func (a *Agent) rejoin(ctx context.Context, r attach.NetworkRecord) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := a.attach.Rejoin(ctx, r.ID)
	if err == nil || !final(err) {
		return err
	}
	for _, e := range a.attach.Endpoints() {
		if e.LocalNetwork == r.ID && e.Evicted == "" {
			err = errors.Join(err, a.lose(ctx, e, err))
		}
	}
	return fmt.Errorf("docker network %.12s cannot be taken into use again, remove it: %w", r.ID, err)
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
	reply, err := a.decide(ctx, ledger.Command{Kind: ledger.KindEnsureNetwork, EnsureNetwork: ask})
	if err != nil && final(err) {
		ask.Name, ask.VNI = "", 0
		reply, err = a.decide(ctx, ledger.Command{Kind: ledger.KindEnsureNetwork, EnsureNetwork: ask})
	}
	if err != nil {
		return netmap.Network{}, err
	}
	return *reply.Network, nil
}

// regainAddress asks for one address. An answer that it belongs to somebody else ends
// the search.
func (a *Agent) regainAddress(ctx context.Context, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := a.ipam.Regain(ctx, addr)
	switch {
	case err == nil:
		return nil
	case !final(err):
		return fmt.Errorf("%s: %w", addr, err)
	}
	if e, ok := a.attach.Holder(addr); ok && e.Evicted == "" {
		if lost := a.lose(ctx, e, err); lost != nil {
			return lost
		}
	}
	return a.ipam.Lose(addr)
}

// final reports whether asking again would be answered the same: somebody else has it.
func final(err error) bool {
	var r *netmap.Refusal
	if !errors.As(err, &r) {
		return false
	}
	switch r.Kind {
	case netmap.Held, netmap.Overlaps, netmap.Conflict, netmap.Outside, netmap.BadInput:
		return true
	}
	return false
}

// lose takes an endpoint off the mesh and tells the operator.
func (a *Agent) lose(ctx context.Context, e attach.EndpointRecord, why error) error {
	e.Endpoint.Name = cmp.Or(a.containerName(ctx, e), e.Endpoint.Name)
	if err := a.attach.Evict(ctx, e.Endpoint.ID, e.Endpoint.Name, why.Error()); err != nil {
		return err
	}
	e.Evicted = why.Error()
	a.log.Error(lostText(e), "endpoint", e.Endpoint.ID)
	a.wake()
	return nil
}

// containerName asks Docker who has an endpoint; empty if it does not say.
func (a *Agent) containerName(ctx context.Context, e attach.EndpointRecord) string {
	if a.cfg.Docker == nil || e.Owner != netmap.OwnerDocker {
		return ""
	}
	attached, _ := a.cfg.Docker.Attachments(ctx, e.LocalNetwork, "") // a name is a help, not a need
	for _, at := range attached {
		if at.Endpoint == e.Endpoint.ID {
			return at.Name
		}
	}
	return ""
}

// lostText is what the operator is told of a lost endpoint, until Docker deletes it.
func lostText(e attach.EndpointRecord) string {
	return fmt.Sprintf("%s is off the network: it had %s from before this host took another identity, and %s; stop it and start it again, it gets another address (with --ip: remove it, and choose another)",
		endpointName(e.Endpoint), addressText(e.Endpoint), e.Evicted)
}

func addressText(e netmap.Endpoint) string {
	var addrs []string
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		if addr.IsValid() {
			addrs = append(addrs, addr.String())
		}
	}
	return strings.Join(addrs, " and ")
}

// lost are the endpoints off the mesh, in words.
func (a *Agent) lost() []string {
	var out []string
	for _, e := range a.attach.Endpoints() {
		if e.Evicted != "" && !e.Deleted {
			out = append(out, lostText(e))
		}
	}
	return out
}

// rightful reports whether an endpoint's addresses are this host's by the ledger's
// word, as far as it holds them.
func (a *Agent) rightful(e netmap.Endpoint) bool {
	for _, addr := range []netip.Addr{e.V4, e.V6} {
		if addr.IsValid() && !a.ipam.Rightful(addr) {
			return false
		}
	}
	return true
}

// announceRightful tells of the endpoints that run; what is told already is not told
// again.
func (a *Agent) announceRightful() {
	for _, e := range a.attach.Endpoints() {
		if e.Joined {
			a.Announce(e.Endpoint)
		}
	}
}
