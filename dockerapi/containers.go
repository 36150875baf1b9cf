package dockerapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weftnet/weft/netmap"
)

// Attachment is a container on one network.
type Attachment struct {
	Container string // Docker's id
	Name      string // without the leading slash
	Running   bool
	Endpoint  netmap.EndpointID // empty while the container does not run
	V4, V6    netip.Addr        // zero while the container does not run
}

// Attachments lists the containers on a network of the local Docker, given by
// Docker's id and name, sorted by their names. Stopped containers are included: without
// their network they could not start. A container that never ran refers to its network as
// the user did, by id or name.
func (d *Docker) Attachments(ctx context.Context, id, name string) ([]Attachment, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := d.api().ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: client.Filters{}.Add("network", id, name),
	})
	if err != nil {
		return nil, fmt.Errorf("dockerapi: cannot list the containers on network %s: %w", name, err)
	}
	var out []Attachment
	for _, c := range list.Items {
		out = append(out, attachments(c, id, name)...)
	}
	slices.SortFunc(out, func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Container, b.Container))
	})
	return out, nil
}

// Endpoints lists the endpoints that Docker has on one of its networks, sorted: of
// containers that run, that are being started, and those that a crash left behind.
// Attachments has an endpoint only once its container runs.
func (d *Docker) Endpoints(ctx context.Context, id string) ([]netmap.EndpointID, error) {
	got, err := d.inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]netmap.EndpointID, 0, len(got.Containers))
	for _, e := range got.Containers {
		out = append(out, netmap.EndpointID(e.EndpointID))
	}
	slices.Sort(out)
	return out, nil
}

// inspect is a network with its endpoints.
func (d *Docker) inspect(ctx context.Context, id string) (network.Inspect, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	got, err := d.api().NetworkInspect(ctx, id, client.NetworkInspectOptions{})
	if err != nil {
		return network.Inspect{}, fmt.Errorf("dockerapi: cannot inspect network %s: %w", id, err)
	}
	return got.Network, nil
}

func attachments(c container.Summary, id, name string) []Attachment {
	if c.NetworkSettings == nil {
		return nil
	}
	var out []Attachment
	for word, ep := range c.NetworkSettings.Networks {
		if ep == nil || ep.NetworkID != id && (ep.NetworkID != "" || word != name && word != id) {
			continue
		}
		a := Attachment{
			Container: c.ID,
			Running:   c.State == container.StateRunning,
			Endpoint:  netmap.EndpointID(ep.EndpointID),
			V4:        ep.IPAddress, V6: ep.GlobalIPv6Address,
		}
		if len(c.Names) > 0 {
			a.Name = strings.TrimPrefix(c.Names[0], "/")
		}
		out = append(out, a)
	}
	return out
}
