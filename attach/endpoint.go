package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Network returns the network of the cluster that a network of the owner is part of. It fails
// if the owner has no such network, or if this host cannot register again as its member.
func (p Part) Network(ctx context.Context, id string) (netmap.Network, error) {
	r, ok := p.network(id)
	if !ok {
		return netmap.Network{}, unknownNetwork(id)
	}
	return p.all.rejoined(ctx, r)
}

// Attach writes the record of a new endpoint and announces it. The endpoint is in the network of
// the cluster that Network returned for the owner's network, and its addresses were handed out
// before. Repeating it changes nothing. If it fails, the endpoint does not exist, and the
// caller has nothing to undo.
func (p Part) Attach(ctx context.Context, network string, e netmap.Endpoint) error {
	keys := []string{endpointPrefix + string(e.ID)}
	for _, a := range addrsOf(e) {
		keys = append(keys, addressPrefix+a.String())
	}
	release, err := p.all.lock(ctx, keys...)
	if err != nil {
		return err
	}
	defer release()
	if err := p.all.keepEndpoint(ctx, EndpointRecord{Owner: p.owner, Endpoint: e, LocalNetwork: network}); err != nil {
		return err
	}
	p.all.cfg.Facts.Announce(e)
	return nil
}

// keepEndpoint writes the record of an endpoint if it has none. Docker sends no DeleteEndpoint
// after a CreateEndpoint that failed or timed out, and releases the addresses. So an endpoint
// that was written after the call had timed out is marked as deleted, and FinishDeletions
// removes it.
func (a *Attachments) keepEndpoint(ctx context.Context, r EndpointRecord) error {
	id := r.Endpoint.ID
	a.mu.Lock()
	have, ok := a.endpoints.byID[id]
	a.mu.Unlock()
	switch {
	case ok && have.Owner != r.Owner:
		return netmap.Refuse(netmap.Conflict, "attach: endpoint %s exists and belongs to another owner than %s; choose another id", short(string(id)), r.Owner)
	case have.Deleted:
		return fmt.Errorf("attach: endpoint %s is being deleted; start the container again", short(string(id)))
	case have.Evicted != "":
		return offMesh(have)
	case ok:
		return sameEndpoint(have, r)
	}
	if err := a.cfg.Networks.Joinable(r.Endpoint.Network); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if err := a.vacant(r); err != nil {
		return err
	}
	if err := a.saveEndpoint(r); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		a.markEndpointDeleted(id)
		return fmt.Errorf("attach: endpoint %s was written down too late; start the container again: %w", short(string(id)), err)
	}
	return nil
}

// addrsOf returns the one or two addresses of an endpoint.
func addrsOf(e netmap.Endpoint) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{e.V4, e.V6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// vacant returns why a new endpoint may not have its addresses, nil if it may. If Docker creates
// the endpoint very late, the IPAM has taken the addresses back and may have handed them out
// again. The caller holds the locks of the addresses.
func (a *Attachments) vacant(r EndpointRecord) error {
	for _, addr := range addrsOf(r.Endpoint) {
		if other, taken := a.Holder(addr); taken {
			return fmt.Errorf("attach: %s is held by endpoint %s on this host; if no container has that any more, the address is free within three minutes: start the container again then", addr, short(string(other.Endpoint.ID)))
		}
		if err := a.cfg.Addresses.Attach(addr, r.Owner); err != nil {
			return fmt.Errorf("attach: endpoint %s: %w", short(string(r.Endpoint.ID)), err)
		}
	}
	return nil
}

// sameEndpoint refuses a repeated call that asks for something else than the first one. It does
// not compare the container's name, which is no part of the protocol's calls.
func sameEndpoint(have, want EndpointRecord) error {
	want.Endpoint.Name = have.Endpoint.Name
	if have.Endpoint == want.Endpoint && have.LocalNetwork == want.LocalNetwork {
		return nil
	}
	e := have.Endpoint
	return netmap.Refuse(netmap.Conflict, "endpoint %s exists on network %s with %s and MAC %s; remove it first", short(string(e.ID)), short(have.LocalNetwork), addresses(e), e.MAC)
}

func addresses(e netmap.Endpoint) string {
	switch {
	case !e.V6.IsValid():
		return e.V4.String()
	case !e.V4.IsValid():
		return e.V6.String()
	default:
		return e.V4.String() + " and " + e.V6.String()
	}
}

func (a *Attachments) holdEndpoint(ctx context.Context, id netmap.EndpointID) (release func(), err error) {
	return a.lock(ctx, endpointPrefix+string(id))
}

// ForgetEndpoint removes an endpoint that the owner does not have any more. The caller knows that
// from the owner's delete, or from the owner's list if it deleted the endpoint while no agent
// ran. An unknown endpoint is no error. FinishDeletions repeats what fails.
func (p Part) ForgetEndpoint(ctx context.Context, id netmap.EndpointID) error {
	p.all.mu.Lock()
	r, ok := p.all.endpoints.byID[id]
	p.all.mu.Unlock()
	if !ok || r.Owner != p.owner {
		return nil
	}
	return p.all.forget(ctx, id)
}

func (a *Attachments) forget(ctx context.Context, id netmap.EndpointID) error {
	if !a.markEndpointDeleted(id) {
		return nil
	}
	return a.drop(ctx, id)
}

// Released is called when the owner has released an address. If the endpoint that has the
// address is detached, Docker deleted that endpoint before it released the address, but no
// agent was running to answer the DeleteEndpoint, which Docker does not repeat. Released removes
// the endpoint then.
func (p Part) Released(ctx context.Context, addr netip.Addr) error {
	r, ok := p.all.Holder(addr)
	if !ok || r.Owner != p.owner || !r.Detached {
		return nil
	}
	return p.all.forget(ctx, r.Endpoint.ID)
}

// drop removes the port of a deleted endpoint, then its record. If the agent crashes in between,
// the record is left and FinishDeletions repeats the removal. The addresses are free only after
// both.
func (a *Attachments) drop(ctx context.Context, id netmap.EndpointID) error {
	release, err := a.holdEndpoint(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	a.mu.Lock()
	r := a.endpoints.byID[id]
	a.mu.Unlock()
	if !r.Deleted {
		return nil // another call was faster, or its owner created it anew
	}
	a.cfg.Facts.Withdraw(id)
	if err := a.cfg.Ports.Unplug(ctx, id); err != nil {
		return errors.Join(fmt.Errorf("attach: %w", err), a.saveEndpoint(r))
	}
	if err := a.forgetEndpoint(id); err != nil {
		return err
	}
	a.cfg.Facts.Gone(r.Endpoint)
	return nil
}

// Plug makes the port of an endpoint and returns the name of the interface that the owner moves
// into the container. The sandbox is that of EndpointRecord. If it fails, the owner deletes the
// endpoint, which removes the port.
func (p Part) Plug(ctx context.Context, id netmap.EndpointID, sandbox string) (name string, err error) {
	release, err := p.all.holdEndpoint(ctx, id)
	if err != nil {
		return "", err
	}
	defer release()
	r, ok := p.Endpoint(id)
	if !ok {
		return "", netmap.Refuse(netmap.Unknown, "endpoint %s is not known to Weft on this host; stop the container and start it again", short(string(id)))
	}
	if r.Evicted != "" {
		return "", offMesh(r)
	}
	name, err = p.all.cfg.Ports.Plug(ctx, r.Endpoint)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("attach: %w", err)
	}
	r.Joined, r.Detached, r.Sandbox = true, false, sandbox
	if err := p.all.saveEndpoint(r); err != nil {
		return "", err
	}
	p.all.cfg.Facts.Announce(r.Endpoint)
	if p.all.cfg.Entered != nil {
		p.all.cfg.Entered()
	}
	return name, nil
}

// WhileJoined calls fn with the record of an endpoint of any owner that is in a sandbox, and keeps it there meanwhile. It
// does nothing if it is in none.
func (a *Attachments) WhileJoined(ctx context.Context, id netmap.EndpointID, fn func(EndpointRecord) error) error {
	release, err := a.holdEndpoint(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if r, ok := a.Endpoint(id); ok && r.Joined && r.Sandbox != "" && r.Evicted == "" {
		return fn(r)
	}
	return nil
}

// Detach withdraws an endpoint that was taken out of its container, so the other hosts stop
// forwarding to it. The port stays until ForgetEndpoint, because Docker moves the interface back
// to the host in between. An unknown endpoint is no error.
func (p Part) Detach(ctx context.Context, id netmap.EndpointID) error {
	release, err := p.all.holdEndpoint(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	r, ok := p.Endpoint(id)
	if !ok {
		return nil
	}
	p.all.cfg.Facts.Withdraw(id)
	r.Joined, r.Detached = false, true
	return p.all.saveEndpoint(r)
}
