package dockerapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weftnet/weft/netmap"
)

// Container is what a running container is called on each of its networks.
type Container struct {
	// Names has the names by the endpoint. Their Endpoint is empty.
	Names map[netmap.EndpointID]netmap.EndpointName
	// First is the endpoint on the network of the container's `--network`, which its other
	// networks come after; empty if that is none of them.
	First netmap.EndpointID
	Image string // as it was named when the container was created
	// Metadata has what registrator reads: environment and labels whose names begin with SERVICE_.
	Metadata map[string]string
}

// Container asks for a container. It waits while Docker starts the container or connects it to a
// network, because Docker locks it meanwhile. A container that does not exist or does not run
// has no endpoint, and is no error.
func (d *Docker) Container(ctx context.Context, id string) (Container, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	got, err := d.api().ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return Container{}, nil
	}
	if err != nil {
		return Container{}, fmt.Errorf("dockerapi: cannot inspect container %.12s: %w", id, err)
	}
	return readContainer(got.Container), nil
}

// Connected returns the endpoint of a container on a network, both by Docker's ids, and the
// container's name. Unlike Container it does not wait while Docker starts the container. The
// endpoint is empty if Docker has none.
func (d *Docker) Connected(ctx context.Context, network, container string) (netmap.EndpointID, string, error) {
	got, err := d.inspect(ctx, network)
	if err != nil {
		return "", "", err
	}
	e := got.Containers[container]
	return netmap.EndpointID(e.EndpointID), e.Name, nil
}

// Running lists the ids of containers that run.
func (d *Docker) Running(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := d.api().ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, fmt.Errorf("dockerapi: cannot list the running containers: %w", err)
	}
	out := make([]string, 0, len(list.Items))
	for _, c := range list.Items {
		out = append(out, c.ID)
	}
	return out, nil
}

func readContainer(c container.InspectResponse) (out Container) {
	if c.State == nil || !c.State.Running || c.Config == nil || c.NetworkSettings == nil {
		return out
	}
	out.Image, out.Metadata = c.Config.Image, metadata(c.Config)
	out.Names = map[netmap.EndpointID]netmap.EndpointName{}
	n := netmap.EndpointName{
		Name: strings.TrimPrefix(c.Name, "/"), Hostname: c.Config.Hostname, Short: c.ID[:min(12, len(c.ID))],
		App:       environment(c.Config.Env, "MARATHON_APP_ID"),
		Services:  services(c),
		Unhealthy: c.State.Health != nil && c.State.Health.Status == container.Unhealthy,
	}
	for name, ep := range c.NetworkSettings.Networks {
		if ep == nil || ep.EndpointID == "" {
			continue
		}
		id := netmap.EndpointID(ep.EndpointID)
		n.Aliases = aliases(n, ep)
		out.Names[id] = n
		if mode := string(hostConfig(c).NetworkMode); mode == name || mode == ep.NetworkID {
			out.First = id
		}
	}
	return out
}

func hostConfig(c container.InspectResponse) container.HostConfig {
	if c.HostConfig == nil {
		return container.HostConfig{}
	}
	return *c.HostConfig
}

// aliases are the names of an endpoint that its container does not have everywhere, sorted.
// Docker before release 26 has the short id among them, later releases list all names apart.
func aliases(n netmap.EndpointName, ep *network.EndpointSettings) []string {
	all := slices.Concat(ep.Aliases, slices.DeleteFunc(slices.Clone(ep.DNSNames), func(s string) bool { return s == n.Hostname }))
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" || s == n.Name || s == n.Short })
	return slices.Clip(all)
}

// environment returns the value of a variable; empty if it is not set.
func environment(env []string, name string) string {
	for _, line := range env {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// metadata returns the environment and the labels whose names begin with SERVICE_. The
// environment wins.
func metadata(c *container.Config) map[string]string {
	const prefix = "SERVICE_"
	var out map[string]string
	add := func(name, value string) {
		if strings.HasPrefix(name, prefix) {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	for name, value := range c.Labels {
		add(name, value)
	}
	for _, line := range c.Env {
		name, value, _ := strings.Cut(line, "=")
		add(name, value)
	}
	return out
}

// services are the ports that a container exposes or publishes, and those that Marathon names by
// PORT_<port of the container>, sorted.
func services(c container.InspectResponse) []netmap.Service {
	found := map[netmap.Service]struct{}{}
	add := func(p network.Port) {
		for _, proto := range []netmap.Protocol{netmap.TCP, netmap.UDP, netmap.SCTP} {
			if string(p.Proto()) == proto.String() {
				found[netmap.Service{Port: p.Num(), Protocol: proto}] = struct{}{}
			}
		}
	}
	for p := range c.Config.ExposedPorts {
		add(p)
	}
	for p := range c.NetworkSettings.Ports {
		add(p)
	}
	for _, line := range c.Config.Env {
		name, _, _ := strings.Cut(line, "=")
		digits, ok := strings.CutPrefix(name, "PORT_")
		if port, err := strconv.ParseUint(digits, 10, 16); ok && err == nil && port > 0 {
			found[netmap.Service{Port: uint16(port), Protocol: netmap.TCP}] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(found), netmap.CompareServices)
}
