package attach

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// ResetIdentity returns this package's records after an identity reset: the host is a member of
// no network. It is pure, and applying it twice changes nothing more.
func ResetIdentity(records map[string][]byte) (set map[string][]byte, err error) {
	set = map[string][]byte{}
	for key, raw := range records {
		if !strings.HasPrefix(key, networkPrefix) {
			continue
		}
		r, err := decode[NetworkRecord](raw)
		if err != nil {
			return nil, fmt.Errorf("attach: the record %s on disk is damaged: %w", key, err)
		}
		r.Unregistered = true
		if set[key], err = json.Marshal(r); err != nil {
			return nil, fmt.Errorf("attach: %w", err)
		}
	}
	return set, nil
}

// DockerNetworks returns Docker's ids of the networks in these records that belong to Docker.
// A record that cannot be read counts as Docker's.
func DockerNetworks(records map[string][]byte) []string {
	var out []string
	for key, raw := range records {
		id, ok := strings.CutPrefix(key, networkPrefix)
		if r, err := decode[NetworkRecord](raw); ok && (err != nil || r.Owner == netmap.OwnerDocker) {
			out = append(out, id)
		}
	}
	return out
}

// Rejoin registers this host again as a member of the cluster's network behind an unregistered
// network of this host. The id is the owner's. If the cluster has another network with these
// subnets by now, the endpoints are moved to that one. Rejoin does nothing for a network that
// is registered.
func (a *Attachments) Rejoin(ctx context.Context, id string) error {
	r, ok := a.network(id)
	if !ok || !r.Unregistered {
		return nil
	}
	release, err := a.holdNetwork(ctx, id, r.Network.Subnets)
	if err != nil {
		return err
	}
	defer release()
	r, ok = a.network(id)
	if !ok || !r.Unregistered {
		return nil // another call was faster
	}
	network, err := a.cfg.Networks.RejoinNetwork(ctx, r)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if network.ID != r.Network.ID {
		for _, e := range a.Endpoints() {
			if e.LocalNetwork == id {
				err = errors.Join(err, a.move(ctx, e.Endpoint.ID, network.ID))
			}
		}
	}
	if err != nil {
		return err
	}
	r.Network, r.Unregistered = network, false
	return a.saveNetwork(r)
}

// rejoined returns the cluster's network of a record, after this host has registered as its
// member if it had to.
func (a *Attachments) rejoined(ctx context.Context, r NetworkRecord) (netmap.Network, error) {
	if !r.Unregistered {
		return r.Network, nil
	}
	err := a.Rejoin(ctx, r.ID)
	now, ok := a.network(r.ID)
	if err == nil && !ok {
		err = unknownNetwork(r.ID)
	}
	return now.Network, err
}

// move changes the network of the cluster that an endpoint is in.
func (a *Attachments) move(ctx context.Context, id netmap.EndpointID, to netmap.NetworkID) error {
	return a.changeEndpoint(ctx, id, func(r *EndpointRecord) { r.Endpoint.Network = to })
}

// Evict disconnects an endpoint that its owner still has, and records why: first on disk, then
// for the other hosts, then in the kernel. The name is that of its container, empty if it is
// unknown. If the kernel fails to remove the port, the next Set of the datapath removes it.
func (a *Attachments) Evict(ctx context.Context, id netmap.EndpointID, name, why string) error {
	err := a.changeEndpoint(ctx, id, func(r *EndpointRecord) {
		r.Evicted, r.Joined = why, false
		r.Endpoint.Name = cmp.Or(name, r.Endpoint.Name)
	})
	if err != nil {
		return err
	}
	a.cfg.Facts.Withdraw(id)
	if err := a.cfg.Ports.Unplug(ctx, id); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// changeEndpoint changes the record of an endpoint unless the endpoint is unknown or deleted.
func (a *Attachments) changeEndpoint(ctx context.Context, id netmap.EndpointID, change func(*EndpointRecord)) error {
	release, err := a.holdEndpoint(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	r, ok := a.Endpoint(id)
	if !ok {
		return nil
	}
	change(&r)
	return a.saveEndpoint(r)
}

func offMesh(r EndpointRecord) error {
	return fmt.Errorf("attach: endpoint %s was taken off the mesh: %s; start its container again, it gets another address", short(string(r.Endpoint.ID)), r.Evicted)
}
