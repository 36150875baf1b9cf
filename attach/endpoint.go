package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/netmap"
)

// Network is the network of the cluster that a network of the owner is a part of, for
// endpoints that are made in it. The error says if there is none.
func (p Part) Network(ctx context.Context, id string) (netmap.Network, error) {
	r, ok := p.network(id)
	if !ok {
		return netmap.Network{}, unknownNetwork(id)
	}
	return p.all.rejoined(ctx, r)
}

// Attach writes an endpoint of a network of the owner down and announces it. It is made in
// the network that Network named, with addresses that were handed out. Repeating it
// changes nothing. If it fails, the endpoint does not exist, and nothing is to be undone.
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

// keepEndpoint writes an endpoint down, once. When a CreateEndpoint fails, Docker
// sends no DeleteEndpoint and releases the addresses: what came too late to be
// believed is marked as deleted, and FinishDeletions removes it.
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

// addrsOf are the one or two addresses of an endpoint.
func addrsOf(e netmap.Endpoint) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{e.V4, e.V6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// vacant says why a new endpoint may not have its addresses: Docker was so late with it
// that they were taken back, and perhaps given to another one. The caller holds them.
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

// sameEndpoint refuses a repeated call that wants something else. The container's
// name is learned beside the protocol and never part of a call.
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

// ForgetEndpoint removes an endpoint that the owner does not have any more: because it
// says so, or because it deleted it while no agent answered. An unknown one is no error.
// What fails is tried again by FinishDeletions.
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

// Released hears that the owner released an address. If the owner took the endpoint that
// has it out of its container before, it deleted that one too, between the two, while no
// agent answered: Docker does not repeat a DeleteEndpoint.
func (p Part) Released(ctx context.Context, addr netip.Addr) error {
	r, ok := p.all.Holder(addr)
	if !ok || r.Owner != p.owner || !r.Detached {
		return nil
	}
	return p.all.forget(ctx, r.Endpoint.ID)
}

// drop removes the port of a deleted endpoint, then its record, so that a crash in
// between is mended by whoever comes next; only then are its addresses free.
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

// Plug makes the port of an endpoint and names the interface that the owner is to move
// into the container. If it fails, the owner deletes the endpoint, and the port goes with it.
func (p Part) Plug(ctx context.Context, id netmap.EndpointID) (name string, err error) {
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
	r.Joined, r.Detached = true, false
	if err := p.all.saveEndpoint(r); err != nil {
		return "", err
	}
	p.all.cfg.Facts.Announce(r.Endpoint)
	return name, nil
}

// Detach withdraws an endpoint at once, which was taken out of its container. The port
// stays until ForgetEndpoint, because Docker moves the interface back in between. An
// unknown endpoint is no error.
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
