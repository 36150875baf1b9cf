package driver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// Renounce is what becomes of this room's records when the host gives its identity
// up: of no network is it a member any more. It is pure, and applying it twice
// changes nothing more.
func Renounce(records map[string][]byte) (set map[string][]byte, err error) {
	set = map[string][]byte{}
	for key, raw := range records {
		if !strings.HasPrefix(key, networkPrefix) {
			continue
		}
		r, err := decode[NetworkRecord](raw)
		if err != nil {
			return nil, fmt.Errorf("driver: the record %s on disk is damaged: %w", key, err)
		}
		r.Stray = true
		if set[key], err = json.Marshal(r); err != nil {
			return nil, fmt.Errorf("driver: %w", err)
		}
	}
	return set, nil
}

// Docker are the networks, by Docker's ids, that a driver with these records has.
func Docker(records map[string][]byte) []string {
	var out []string
	for key := range records {
		if id, ok := strings.CutPrefix(key, networkPrefix); ok {
			out = append(out, id)
		}
	}
	return out
}

// Rejoin makes this host a member again of what a stray Docker network is a part of.
// If that is another network by now, its endpoints are in that one from then on. Of
// another Docker network it changes nothing.
func (d *Driver) Rejoin(ctx context.Context, docker string) error {
	r, ok := d.network(docker)
	if !ok || !r.Stray {
		return nil
	}
	release, err := d.holdNetwork(ctx, docker, r.Network.Subnets)
	if err != nil {
		return err
	}
	defer release()
	r, ok = d.network(docker)
	if !ok || !r.Stray {
		return nil // another call was faster
	}
	network, err := d.cfg.Networks.RejoinNetwork(ctx, r)
	if err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	if network.ID != r.Network.ID {
		for _, e := range d.Endpoints() {
			if e.Docker == docker {
				err = errors.Join(err, d.move(ctx, e.Endpoint.ID, network.ID))
			}
		}
	}
	if err != nil {
		return err
	}
	r.Network, r.Stray = network, false
	return d.saveNetwork(r)
}

// rejoined is the network of a record, of which this host is a member.
func (d *Driver) rejoined(ctx context.Context, r NetworkRecord) (netmap.Network, error) {
	if !r.Stray {
		return r.Network, nil
	}
	err := d.Rejoin(ctx, r.Docker)
	now, ok := d.network(r.Docker)
	if err == nil && !ok {
		err = unknownNetwork(r.Docker)
	}
	return now.Network, err
}

// move notes that an endpoint is in another network than it was made in.
func (d *Driver) move(ctx context.Context, id netmap.EndpointID, to netmap.NetworkID) error {
	return d.changeEndpoint(ctx, id, func(r *EndpointRecord) { r.Endpoint.Network = to })
}

// Evict takes an endpoint off the mesh, although Docker still has it, and says why: on
// disk, then for the other hosts, then in the kernel. Name is that of its container, if
// it is known. What fails in the kernel is mended by its next Set, which does not know
// the port any more.
func (d *Driver) Evict(ctx context.Context, id netmap.EndpointID, name, why string) error {
	err := d.changeEndpoint(ctx, id, func(r *EndpointRecord) {
		r.Evicted, r.Joined = why, false
		r.Endpoint.Name = cmp.Or(name, r.Endpoint.Name)
	})
	if err != nil {
		return err
	}
	d.cfg.Facts.Withdraw(id)
	if err := d.cfg.Ports.Unplug(ctx, id); err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	return nil
}

// changeEndpoint changes the record of an endpoint that Docker has; of another one
// nothing.
func (d *Driver) changeEndpoint(ctx context.Context, id netmap.EndpointID, change func(*EndpointRecord)) error {
	release, err := d.holdEndpoint(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	r, ok := d.Endpoint(id)
	if !ok {
		return nil
	}
	change(&r)
	return d.saveEndpoint(r)
}

func offMesh(r EndpointRecord) error {
	return fmt.Errorf("driver: endpoint %s was taken off the mesh: %s; start its container again, it gets another address", short(string(r.Endpoint.ID)), r.Evicted)
}
